"""Erases a person's rows: from every version in a state folder, and from every version that is built there later.

The order is put on record before anything is touched, so that a build that begins meanwhile leaves the rows out, and a
killed erasure is finished by the same command again. What a version lost is noted before its files are exchanged.
"""

import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import SlipwayError
from configs.strict import Strict
from delivery.build.dataset import PARTS, Part
from delivery.build.rows import ERASED
from tasks.data.erasures import (
    BESIDE,
    ErasedFiles,
    ErasedRows,
    Erasure,
    erased_files,
    erased_in,
    read_erasures,
    value_digest,
    write_record,
)
from tasks.data.looking import versions
from tasks.data.store import UNFINISHED, VersionFile

LEFT_OUT = ("rejected.jsonl", "quarantine.jsonl")
TELLING_CHARS = 20  # a shorter prompt may be anybody's
SEARCHED = (".json", ".jsonl", ".log", ".md", ".txt")
SEARCHED_BYTES = 200_000_000


class VersionLoss(Strict):
    """What one version lost."""

    version: str  # the name of its folder
    rows: dict[Part, tuple[str, ...]]
    left_out: int  # rejected rows whose text is gone


class Erased(Strict):
    """`quoting`: other files of the state folder that hold a prompt of these rows; eval results are removed."""

    erasure: str
    rows: tuple[str, ...]  # ids
    losses: tuple[VersionLoss, ...]
    held: dict[str, tuple[Part, ...]]  # version -> parts that have, or had, rows of these
    removed: tuple[str, ...]
    quoting: tuple[str, ...]
    dry_run: bool

    def versions_of(self, part: Part) -> tuple[str, ...]:
        """The versions of whose part rows are gone, now or by the same order before."""
        return tuple(one for one, parts in self.held.items() if part in parts)

    def render(self) -> str:
        """For people."""
        verb = "would be erased" if self.dry_run else "erased"
        lines = [f"{verb}: {len(self.rows)} rows, by erasure {self.erasure}"]
        for one in self.losses:
            counts = ", ".join(f"{len(ids)} of the {part} rows" for part, ids in one.rows.items() if ids)
            counts += f"{', ' if counts else ''}{one.left_out} left-out rows" if one.left_out else ""
            lines.append(f"  dataset version {one.version}: {counts}")
        what = "would be removed" if self.dry_run else "removed"
        lines += [f"  {what}, for they quote them: {path}" for path in self.removed]
        lines += [f"  still quoted in {path}" for path in self.quoting]
        return "\n".join(lines)


def erase(
    home: Path,
    where: tuple[str, str] | None,
    rows: Sequence[str],
    by: str,
    reason: str,
    now: float,
    *,
    dry_run: bool = False,
    may_be_nothing: bool = False,
) -> Erased:
    """Rows whose field has a value (`where`), or rows by their ids. `now`: UNIX seconds.

    Raises SlipwayError where nothing fits, for a typing error would otherwise pass for an erasure. `may_be_nothing`:
    the person is known elsewhere, and the order holds for later versions.
    """
    if may_be_nothing:
        (home / "datasets").mkdir(parents=True, exist_ok=True)
    with _alone(home):
        known = _known(home, where, rows)
        erasure = known or _fresh(where, rows, by, reason, now)
        takes = ErasedRows([erasure])
        found = list(_matching(home, takes))
        ids = tuple(dict.fromkeys((*erasure.rows, *(row["id"] for row in found))))
        texts = _telling(found)
        plain = where[1] if where else ""
        erasure = erasure.model_copy(update={"rows": ids})
        if not may_be_nothing and not found and known is None and not _left_out(home, takes, where):
            raise _nothing(home, where, rows)
        if not dry_run and erasure != known:
            write_record(home, erasure)
        takes = ErasedRows([erasure])
        losses = [_rewritten(folder, erasure, takes, texts, plain, dry_run=dry_run) for folder, _ in versions(home)]
        changed = tuple(one for one in losses if one.left_out or any(one.rows.values()))
        removed, quoting = _quoting(home, texts)
        if not dry_run:
            for path in removed:
                path.unlink()
    return Erased(
        erasure=erasure.id,
        rows=ids,
        losses=changed,
        held=_held(home, losses, set(ids)),
        removed=tuple(map(str, removed)),
        quoting=tuple(map(str, quoting)),
        dry_run=dry_run,
    )


def is_known(home: Path, where: tuple[str, str] | None, rows: Sequence[str]) -> bool:
    """Whether a version has rows of this order, or lost them to it before."""
    if not (home / "datasets").is_dir():
        return False
    takes = ErasedRows([_fresh(where, rows, "", "", 0)])
    return (
        _known(home, where, rows) is not None
        or next(_matching(home, takes), None) is not None
        or _left_out(home, takes, where)
    )


def require_known(home: Path, where: tuple[str, str] | None, rows: Sequence[str]) -> None:
    """Raises the SlipwayError of `erase` where nothing fits."""
    with _alone(home):
        if not is_known(home, where, rows):
            raise _nothing(home, where, rows)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One erasure at a time in a state folder."""
    if not (home / "datasets").is_dir():
        raise SlipwayError(f"there are no dataset versions in {home}", where="--home", cure="name your state folder")
    with (home / "datasets" / "erasures.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _known(home: Path, where: tuple[str, str] | None, rows: Sequence[str]) -> Erasure | None:
    """The same order, given before."""
    for one in read_erasures(home):
        if where is None:
            if one.field is None and set(rows) <= set(one.rows):
                return one
        elif one.field == where[0] and one.value == value_digest(where[1], one.salt):
            return one
    return None


def _fresh(where: tuple[str, str] | None, rows: Sequence[str], by: str, reason: str, now: float) -> Erasure:
    salt = secrets.token_hex(16)
    return Erasure(
        id=f"E-{secrets.token_hex(4)}",
        at=now,
        by=by,
        reason=reason,
        field=where[0] if where else None,
        salt=salt,
        value=value_digest(where[1], salt) if where else "",
        rows=tuple(rows),
    )


def _matching(home: Path, takes: ErasedRows) -> Iterator[dict[str, Any]]:
    for folder, _ in versions(home):
        for part in PARTS:
            with (folder / f"{part}.jsonl").open("rb") as file:
                for line in file:
                    row = json.loads(line)
                    if takes.by_field(row) or takes.by_id(row["id"]):
                        yield row


def _held(home: Path, losses: Sequence[VersionLoss], ids: set[str]) -> dict[str, tuple[Part, ...]]:
    """Of every version the parts that hold the rows, or lost them to this or an earlier order."""
    held = {}
    for folder, _ in versions(home):
        now = next((one.rows for one in losses if one.version == folder.name), {})
        gone = erased_in(folder)
        parts = tuple(part for part in PARTS if now.get(part) or not ids.isdisjoint(gone.get(part, ())))
        if parts:
            held[folder.name] = parts
    return held


def _left_out(home: Path, takes: ErasedRows, where: tuple[str, str] | None) -> bool:
    """Whether rejected rows are the person's."""
    for folder, _ in versions(home):
        for name in (name for name in LEFT_OUT if (folder / name).is_file()):
            with (folder / name).open("rb") as file:
                for data in (json.loads(line)["data"] for line in file):
                    if takes.by_field(data) or (isinstance(data, str) and where is not None and where[1] in data):
                        return True
    return False


def _telling(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """What the user says in these rows, where that is long enough to be theirs alone."""
    said = [m for row in rows for name in ("messages", "prompt") for m in row.get(name, ()) if m["role"] == "user"]
    return {message["content"] for message in said if len(message["content"]) >= TELLING_CHARS}


def _rewritten(
    folder: Path, erasure: Erasure, takes: ErasedRows, texts: set[str], plain: str, *, dry_run: bool
) -> VersionLoss:
    """Writes the version's files anew without the rows, unless nothing of it is in them."""
    fresh: dict[str, VersionFile] = {}
    lost: dict[Part, tuple[str, ...]] = {}
    for part in PARTS:
        file = _copy(folder / f"{part}.jsonl")
        lost[part] = tuple(_without(folder / f"{part}.jsonl", file, takes))
        fresh[f"{part}.jsonl"] = file
    blanked = 0
    for name in (name for name in LEFT_OUT if (folder / name).is_file()):
        fresh[name] = _copy(folder / name)
        blanked += _blanked(folder / name, fresh[name], erasure, takes, texts, plain)
    if blanked or any(lost.values()):
        fresh["report.json"] = _copy(folder / "report.json")
        fresh["report.json"].write(_without_texts((folder / "report.json").read_bytes()))
    digests = {name: file.close() for name, file in fresh.items()}
    if dry_run or not (blanked or any(lost.values())):
        for file in fresh.values():
            file.path.unlink()
    else:
        _exchange(folder, erasure, lost, digests)
    return VersionLoss(version=folder.name, rows=lost, left_out=blanked)


def _copy(path: Path) -> VersionFile:
    return VersionFile(path.with_name(path.name + UNFINISHED), mode=stat.S_IMODE(path.stat().st_mode))


def _without(path: Path, out: VersionFile, takes: ErasedRows) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            if takes.by_field(row) or takes.by_id(row["id"]):
                yield row["id"]
            else:
                out.write(line)


def _blanked(path: Path, out: VersionFile, erasure: Erasure, takes: ErasedRows, texts: set[str], plain: str) -> int:
    """Rejected rows stay, without text; one that is no JSON goes by the plain value in it."""
    count = 0
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            data = row["data"]
            is_known = isinstance(data, dict) and takes.by_id(str(data.get("id"))) is not None
            is_broken = isinstance(data, str) and bool(plain) and plain in data
            if data is not None and (
                takes.by_field(data) or is_known or is_broken or not texts.isdisjoint(_texts(data))
            ):
                row |= {"data": None, "detail": f"by erasure {erasure.id}", "reason": ERASED}
                line = json.dumps(row).encode() + b"\n"
                count += 1
            out.write(line)
    return count


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data.strip()
    elif isinstance(data, Mapping | list):
        for value in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(value)


def _without_texts(report: bytes) -> bytes:
    """A report's counts; the texts of its examples may be the person's."""
    found = json.loads(report)
    for name in ("rejected", "changed", "noticed"):
        for kind in found[name].values():
            for example in kind["examples"]:
                example |= {key: "" for key in ("what", "before", "after")}
    return json.dumps(found, indent=1, ensure_ascii=False).encode() + b"\n"


def _exchange(folder: Path, erasure: Erasure, lost: Mapping[Part, Sequence[str]], digests: dict[str, str]) -> None:
    """The note first, then the files: whoever dies in between leaves a version that says that it is not finished."""
    before = erased_files(folder)
    rows: dict[Part, tuple[str, ...]] = {
        part: tuple(dict.fromkeys((*(before.rows.get(part, ()) if before else ()), *ids))) for part, ids in lost.items()
    }
    orders = dict.fromkeys((*(before.erasures if before else ()), erasure.id))
    note = ErasedFiles(rows=rows, files=(before.files if before else {}) | digests, erasures=tuple(orders))
    fresh = folder / f"{BESIDE}{UNFINISHED}"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(note.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / BESIDE)
    for name in digests:
        (folder / f"{name}{UNFINISHED}").replace(folder / name)


def _quoting(home: Path, texts: set[str]) -> tuple[list[Path], list[Path]]:
    """Eval results, which are asked for anew, and other readable files that hold one of the texts."""
    spelled = {form for text in texts for form in _spelled(text)}
    results: list[Path] = []
    others: list[Path] = []
    for path in sorted(home.rglob("*")) if spelled else ():
        if (
            path.suffix not in SEARCHED
            or path.is_symlink()
            or not path.is_file()
            or (home / "datasets") in path.parents
        ):
            continue
        if path.stat().st_size > SEARCHED_BYTES:
            others.append(path)  # too large to be read whole: a person looks
            continue
        content = path.read_bytes()
        if any(form in content for form in spelled):
            (results if path.parent == home / "evals" else others).append(path)
    return results, others


def _spelled(text: str) -> set[bytes]:
    return {text.encode(), *(json.dumps(text, ensure_ascii=ascii)[1:-1].encode() for ascii in (True, False))}


def _nothing(home: Path, where: tuple[str, str] | None, rows: Sequence[str]) -> SlipwayError:
    if where is None:
        what, cure = (
            f"no dataset version in {home / 'datasets'} has the rows {', '.join(rows)}",
            "see `id` in train.jsonl",
        )
        return SlipwayError(what, where="--row", cure=cure)
    fields = sorted({name for _, manifest in versions(home) for name in manifest.fields})
    return SlipwayError(
        f"no row of any dataset version in {home / 'datasets'} has {where[0]} {where[1]!r}; nothing was put on record",
        where="--where",
        cure=f"fields that rows have: {', '.join(fields) or 'none'}; --row ID names rows by their ids",
    )
