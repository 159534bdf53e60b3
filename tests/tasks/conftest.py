"""A scene for releases: a migrated ledger, a gateway, a vLLM and users that live in a folder."""

import shutil
from pathlib import Path

import pytest
from release_scene import Scene

from delivery.clients.ledger import Ledger


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def home(tmp_path: Path, empty_ledger: Path) -> Path:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return tmp_path


@pytest.fixture
def scene(home: Path) -> Scene:
    return Scene(home)
