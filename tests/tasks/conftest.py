"""A scene for releases: a migrated ledger, a gateway, a vLLM and users that live in a folder."""

import shutil
from pathlib import Path

import pytest
from release_scene import Scene


@pytest.fixture
def home(tmp_path: Path, empty_ledger: Path) -> Path:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return tmp_path


@pytest.fixture
def scene(home: Path) -> Scene:
    return Scene(home)
