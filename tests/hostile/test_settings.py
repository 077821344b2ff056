"""With wrong settings nothing starts, and a line tells which one it is."""

import pytest

from tests.hostile.settings import BAD_SETTINGS
from worker.cli.environment import UnusableSettingsError, load_settings


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_wrong_settings_are_refused_at_start(name, monkeypatch):
    variables, says = BAD_SETTINGS[name]
    for variable, value in variables.items():
        monkeypatch.setenv(f"FRAME_CAPTURE_{variable}", value)
    with pytest.raises(UnusableSettingsError) as caught:
        load_settings()
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
