"""Who was there when the API server answered last: a rollback has to reach gateways while it is away."""

import json
import os
from contextlib import suppress
from pathlib import Path

from tasks.serving.target import Members

FILE = "members.json"


def known_members(folder: Path) -> Members | None:
    """As they were remembered; None when they never were."""
    try:
        said = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Members(tuple(map(str, said["replicas"])), tuple(map(str, said["gateways"])))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember_members(folder: Path, members: Members) -> None:
    """Keeps them for then. A disk that takes nothing costs the memory, and nothing else."""
    if known_members(folder) == members:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f".{FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(members._asdict()), encoding="utf-8")
        fresh.replace(folder / FILE)
