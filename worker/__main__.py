"""The command `frame-capture`, also as `python -m worker`."""

import gc
import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; Ctrl-C ends it without a traceback from its very first moment."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it searches all installed packages for some
    gc.disable()  # what imports make stays, and searching it takes a tenth of their time
    try:
        from worker.cli import app  # noqa: PLC0415 - importing takes long enough for Ctrl-C

        gc.freeze()
        gc.enable()
        app.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
