"""What tests need of a machine: a PostgreSQL of its own, without rights and without a port, and a tiny disk."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from delivery.clients.ledger.ledger import Ledger


def _programs() -> Path | None:
    """The folder with PostgreSQL's programs; Debian keeps them off the path."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    places = [Path(found)] if found else debian[::-1]
    return places[0].parent if places else None


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of a fresh database with a migrated ledger each time it is called."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql): the ledger is not tested on it")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 characters at most
    who: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "nobody")
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    data = folder / "data"

    def run(*command: str) -> None:
        with (folder / "out").open("ab") as out:
            done = subprocess.run(command, cwd=folder, stdout=out, stderr=out, check=False, timeout=100, **who)
        assert done.returncode == 0, (folder / "out").read_text() + (folder / "log").read_text()

    (folder / "log").touch()
    shutil.chown(folder / "log", who.get("user", os.getuid()))
    try:
        run(str(programs / "initdb"), "-D", str(data), "-U", "slipway", "-A", "trust", "--no-sync", "-E", "UTF8")
        flags = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", str(data), "-l", str(folder / "log"), "-w", "-o", flags, "start")
        url = f"postgresql+psycopg://slipway@/{{}}?host={folder}"
        admin = sa.create_engine(url.format("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        numbers = itertools.count()

        def create(template: str, name: str) -> str:
            with admin.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
            return url.format(name)

        Ledger(create("template0", "migrated")).close()
        yield lambda: create("migrated", f"ledger{next(numbers)}")
        admin.dispose()
    finally:
        if (data / "postmaster.pid").exists():
            run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextmanager
def _disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a disk of {size}: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """64 KiB, in memory."""
    with _disk(tmp_path / "disk", "64k") as disk:
        yield disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """8 MiB, in memory: room for a ledger."""
    with _disk(tmp_path / "small-disk", "8m") as disk:
        yield disk


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrated once; migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names a proxy behind which nobody listens: what goes through it fails."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
