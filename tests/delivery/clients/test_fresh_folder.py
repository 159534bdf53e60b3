"""Folders are there as a whole or not at all, and a full disk is said in words - on a real, tiny disk."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from benchmarks.tiny_bundle import tiny_bundle
from configs.errors import SlipwayError
from delivery.clients.bundles import adapters as adapter_store
from delivery.clients.bundles import images as oci
from delivery.clients.fresh_folder import explained_writes, fresh_folder
from delivery.clients.ledger.ledger import Ledger, LedgerError


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A hundred kilobytes of it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"r": 8}')
    save_file({"a": numpy.ones((8, 4000), numpy.float32)}, folder / "adapter_model.safetensors")
    return folder


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def store_an_adapter(adapter: Path, home: Path) -> None:
    adapter_store.store(adapter, adapter_store.describe(adapter), home)


def write_a_bundle(adapter: Path, home: Path) -> None:
    oci.write_bundle(tiny_bundle("Ask.", adapter_store.describe(adapter)), adapter, home)


@pytest.mark.parametrize(("write", "left"), [(store_an_adapter, "adapters"), (write_a_bundle, "bundles")])
def test_a_full_disk_is_said_with_its_place_and_cure_and_nothing_half_done_stays(
    write: Callable[[Path, Path], None], left: str, adapter: Path, tiny_disk: Path
) -> None:
    with pytest.raises(SlipwayError, match="No space left on device") as caught:
        write(adapter, tiny_disk)
    assert str(tiny_disk) in caught.value.where
    assert "make room there" in caught.value.cure
    assert left_in(tiny_disk) == [left]


def test_a_ledger_on_a_full_disk_says_so_and_goes_on_once_there_is_room(tiny_disk: Path) -> None:
    with pytest.raises(LedgerError, match="full") as caught:
        Ledger(f"sqlite:///{tiny_disk}/ledger.sqlite")
    assert "make room" in caught.value.cure
    subprocess.run(["mount", "-o", "remount,size=4m", tiny_disk], check=True)
    ledger = Ledger(f"sqlite:///{tiny_disk}/ledger.sqlite")
    ledger.acquire("local", "me", 30, 0)
    filler = tiny_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 4_194_304)
    with pytest.raises(LedgerError):
        fill(ledger)
    filler.unlink()
    holder = ledger.holder("local")
    assert holder is not None
    assert holder.owner == "me"
    ledger.acquire("local", "me", 30, 1)
    ledger.close()


def fill(ledger: Ledger) -> None:
    for number in range(1000):
        ledger.acquire(f"environment-{number}", "x" * 200, 30, 0)


def test_a_folder_that_was_not_renamed_is_gone(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "things", "a thing") as folder:
        (folder / "part").write_text("half")
    assert left_in(tmp_path) == ["things"]


def test_a_folder_that_was_renamed_stays_as_a_whole(tmp_path: Path) -> None:
    with fresh_folder(tmp_path, "a thing") as folder:
        (folder / "part").write_text("whole")
        folder.rename(tmp_path / "thing")
    assert left_in(tmp_path) == ["thing", "thing/part"]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from delivery.clients.fresh_folder import fresh_folder\n"
        "with fresh_folder(Path(sys.argv[1]), 'a thing') as f: (f / 'x').touch(); print(f, flush=True); time.sleep(60)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        folders = [Path(process.stdout.readline().strip()) for process in both if process.stdout]
        both[0].send_signal(signal.SIGKILL)
        both[0].wait()
        assert [folder.is_dir() for folder in folders] == [True, True]
        with fresh_folder(tmp_path, "another thing"):
            assert [folder.is_dir() for folder in folders] == [False, True]
    finally:
        for process in both:
            process.kill()
            process.wait()


def test_many_who_make_and_sweep_at_once_do_not_take_each_others_folders(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from delivery.clients.fresh_folder import fresh_folder\n"
        "for i in range(50):\n"
        "    with fresh_folder(Path(sys.argv[1]), 'a thing') as f: (f / 'x').write_text('y'); (f / 'x').read_text()"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert left_in(tmp_path) == []


def test_a_folder_without_the_right_to_write_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(SlipwayError, match="Permission denied") as caught, explained_writes(tmp_path, "a thing"):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "x"))
    assert "--home" in caught.value.cure
    assert caught.value.where == str(tmp_path / "x")


def test_what_is_no_trouble_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), fresh_folder(tmp_path, "a thing") as folder:
        (folder / "absent").read_text()
    assert left_in(tmp_path) == []
