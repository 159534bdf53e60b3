"""Only a room's doors are imported from outside it. Its `__init__` names them in one sentence: "Doors: `a`, `b`."

"Every module is a door" opens a room that has no inside; one that names no doors is imported by nobody. Benchmarks and
tests may go anywhere: they look at what is inside.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from places import ROOT

TOP = ("configs", "delivery", "demo", "evals", "flows", "tasks")


def modules(root: Path) -> dict[str, Path]:
    """By dotted name; a package's is that of its folder."""
    files = sorted(path for top in TOP for path in (root / top).rglob("*.py"))
    paths = {path: path.relative_to(root).with_suffix("").parts for path in files}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in paths.items()}


def doors_of(init: Path) -> set[str] | None:
    """None: every module is one."""
    text = ast.get_docstring(ast.parse(init.read_text())) or ""
    if "Every module is a door" in text:
        return None
    return set(re.findall(r"`([a-z0-9_]+)`", text.partition("Doors:")[2]))


def imports(path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each of our own modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from {(node.lineno, name if name in known else str(node.module)): None for name in inside}


def trespasses(root: Path) -> list[str]:
    """A line for each import past a door: where it is, and what to do."""
    known, found = modules(root), []
    rooms = {name: doors_of(path) for name, path in known.items() if path.name == "__init__.py"}
    for name, path in known.items():
        for line, target in imports(path, known):
            parts = target.split(".")
            for depth in range(1, len(parts)):
                room, inside = ".".join(parts[:depth]), parts[depth]
                doors = rooms.get(room)
                if f"{name}.".startswith(f"{room}.") or doors is None or inside in doors:
                    continue
                cure = f"import {', '.join(sorted(doors)) or 'nothing'}, or name `{inside}` in its __init__"
                found.append(f"{path.relative_to(root)}:{line}: {inside} is no door of {room} -> {cure}")
    return found


def test_only_doors_are_imported_from_outside_a_room() -> None:
    assert not trespasses(ROOT)


def test_every_door_is_there() -> None:
    known = modules(ROOT)
    rooms = {name: doors_of(path) or set() for name, path in known.items() if path.name == "__init__.py"}
    assert len([room for room, doors in rooms.items() if doors]) > 20
    assert [f"{room}.{door}" for room, doors in rooms.items() for door in doors if f"{room}.{door}" not in known] == []


def test_an_import_past_a_door_is_named_by_its_line(tmp_path: Path) -> None:
    room, above = tmp_path / "delivery" / "ledger", tmp_path / "flows"
    for folder, text in (
        (room.parent, "Every module is a door."),
        (room, "Kept.\n\nDoors: `reads`."),
        (above, "When."),
    ):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'"""{text}"""\n')
    for name in ("reads", "schema"):
        (room / f"{name}.py").write_text("from delivery.ledger import schema\n")
    (above / "build.py").write_text(
        "import delivery.ledger.reads\n\n\ndef later():\n    from delivery.ledger import schema\n"
    )
    (room.parent / "progress.py").write_text(
        "from flows.build import later\nfrom delivery.ledger.schema import TABLE\n"
    )
    past = "schema is no door of delivery.ledger -> import reads, or name `schema` in its __init__"
    assert trespasses(tmp_path) == [
        "delivery/progress.py:1: build is no door of flows -> import nothing, or name `build` in its __init__",
        f"delivery/progress.py:2: {past}",
        f"flows/build.py:5: {past}",
    ]


def test_no_two_test_files_share_a_name() -> None:
    """Pytest imports them by their names alone: of two, the one that is found later is not collected."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
