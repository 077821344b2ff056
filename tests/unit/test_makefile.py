import os
import subprocess
from pathlib import Path


def test_the_python_that_a_user_names_reaches_the_set_up():
    command = ["make", "--no-print-directory", "--eval", 'told: ; @echo "$$PYTHON"', "told"]
    root = Path(__file__).parents[2]
    told = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHON": "/opt/theirs"}, capture_output=True, text=True, check=True
    )
    assert told.stdout == "/opt/theirs\n"
