"""Where fuzzed commands run."""

import pytest


@pytest.fixture
def here(folder, monkeypatch):
    """The `folder` of the module, as the current one."""
    monkeypatch.chdir(folder)
    return folder
