"""Folders that are there as a whole or not at all, and disks that have no room for them.

A folder is filled under a hidden name beside its place and renamed. What a killed process left behind is known by the
lock that died with it, and is removed when the next folder is made there.
"""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import SlipwayError

PREFIX = ".building-"
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
PROBE_BYTES = 65_536
UNWRITABLE = NO_ROOM | NO_RIGHT | {errno.EFBIG, errno.EIO}


@contextmanager
def fresh_folder(parent: Path, what: str) -> Iterator[Path]:
    """An empty folder in `parent`, on the same disk; it goes away afterwards unless it was renamed.

    `what` is written there, in words for the SlipwayError that a full or read-only disk becomes.
    """
    with explained_writes(parent, what):
        parent.mkdir(parents=True, exist_ok=True)
        folder, lock = _locked_folder(parent)
        try:
            yield folder
        finally:
            discard(folder)
            os.close(lock)


@contextmanager
def explained_writes(folder: Path, what: str) -> Iterator[None]:
    """Turns a full disk, a size limit or a lack of rights into a SlipwayError. Other errors stay what they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritable(error, folder, what) from error


def unwritable(error: OSError, folder: Path, what: str) -> SlipwayError:
    """What could not be written, where, and what to do about it."""
    where = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
    cure = "see the system's log: the disk itself reports an error"
    if error.errno in NO_ROOM:
        cure = (
            f"make room there ({_free_bytes(folder)} bytes are free) and repeat the command: nothing half-done counts"
        )
    elif error.errno in NO_RIGHT:
        cure = "give this user the right to write there, or name another state folder: --home FOLDER"
    elif error.errno == errno.EFBIG:
        cure = "raise the limit on the size of files (ulimit -f) and repeat the command: nothing half-done counts"
    return SlipwayError(f"cannot write {what}: {error.strerror or error}", where=str(where), cure=cure)


def why_unwritable(error: BaseException, folder: Path) -> OSError | None:
    """The trouble with the disk behind an error, if that is what it was.

    Libraries hide it: safetensors tells Rust's error number in its text, torch tells none; then the disk is asked.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in UNWRITABLE:
            return seen
        number = re.search(r"\(os error (\d+)\)", str(seen))
        if number is not None and int(number[1]) in UNWRITABLE:
            return OSError(int(number[1]), os.strerror(int(number[1])))
        seen = seen.__cause__ or seen.__context__
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as found:
        return found if found.errno in UNWRITABLE else None
    return None


def discard(folder: Path) -> None:
    """Removes a folder of which some may be read-only; none there is fine."""
    if folder.is_dir():
        folder.chmod(0o755)
        shutil.rmtree(folder)


def remove_whole(folder: Path) -> None:
    """Takes a folder away at once: whoever dies in between leaves a hidden rest, which the next one sweeps."""
    with fresh_folder(folder.parent, f"the removal of {folder.name}") as grave:
        folder.chmod(0o755)  # a folder that may not be written cannot be moved to another parent
        folder.rename(grave / folder.name)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """One at a time sweeps and makes: nobody may find a new folder that has no lock yet."""
    one_at_a_time = os.open(parent, os.O_RDONLY)
    try:
        if _lock(one_at_a_time):
            _sweep(parent)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        folder.chmod(0o755)
        lock = os.open(folder, os.O_RDONLY)
        _lock(lock)
        return folder, lock
    finally:
        os.close(one_at_a_time)


def _lock(folder: int, how: int = fcntl.LOCK_EX) -> bool:
    """Whether it is ours now; not on file systems that know no locks, where nothing is ever swept."""
    try:
        fcntl.flock(folder, how)
    except OSError:
        return False
    return True


def _sweep(parent: Path) -> None:
    for stale in parent.glob(f"{PREFIX}*"):
        try:
            lock = os.open(stale, os.O_RDONLY)
        except OSError:  # gone by now, or not ours
            continue
        try:
            if _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                discard(stale)
        finally:
            os.close(lock)


def _free_bytes(folder: Path) -> str:
    there = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
    return f"{shutil.disk_usage(there).free:,}" if there else "0"
