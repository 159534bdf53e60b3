"""The demo's own state folder: what a demo may empty, and when."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from configs.errors import SlipwayError, require_all
from delivery.clients.fresh_folder import explained_writes
from tasks.preflight import Precheck, require_disk_room

MARKER = ".slipway-demo"
KEPT = {MARKER, "models"}  # dequantising the base model again would show nothing


def start_afresh(home: Path, checks: Iterable[Precheck], stop: Callable[[], object]) -> None:
    """Empties a demo's folder but for the base model: a demo that found its adapters trained would show nothing.

    `checks` say whether the demo can start, `stop` ends what an earlier one left running; until all have passed,
    nothing is removed. Raises SlipwayError, with everything as it was, for a folder that no demo made.
    """
    require_disk_room(home)
    _claim(home)
    require_all("the demo cannot start", checks)
    stop()
    with explained_writes(home, "the demo's state"):
        for part in home.iterdir():
            if part.name not in KEPT:
                _remove(part)


def _claim(home: Path) -> None:
    """Marks a folder as a demo's own: a new or empty one, or one that a demo made already."""
    if not _is_ours(home):
        found = sorted(part.name for part in home.iterdir())
        raise SlipwayError(
            f"{home} is not empty and no demo made it: it is left alone, a demo would remove everything in it",
            where=f"--home {home}: {', '.join(found[:6])}{', ...' if len(found) > 6 else ''}",
            cure=f"name a new or empty folder: --home FOLDER; only a folder with the file {MARKER} is emptied",
        )
    with explained_writes(home, "the demo's state"):
        home.mkdir(parents=True, exist_ok=True)
        (home / MARKER).write_text("`python -m demo` made this folder and empties it when it runs again.\n", "utf-8")


def _is_ours(home: Path) -> bool:
    if not home.exists() or not any(home.iterdir()):
        return True
    before_markers = any(home.glob("environments/*/prefect"))  # only a demo keeps its Prefect server's database there
    return (home / MARKER).is_file() or before_markers


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        for folder in (part, *(p for p in part.rglob("*") if p.is_dir() and not p.is_symlink())):
            folder.chmod(0o755)  # versions and adapters are read-only
        shutil.rmtree(part)
    else:
        part.unlink()
