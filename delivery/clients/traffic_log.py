"""Reads a traffic log: one parquet file or a folder of them, the gateway's own or anybody's.

Only the needed columns of `delivery.traffic.columns` must be there. Everything that is wrong is named at once.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy
import pyarrow
import pyarrow.compute as pc
from pyarrow import parquet

from configs.errors import ConfigError, Problem
from delivery.traffic.columns import COLUMNS, CONTRACT, OF_RECORD
from delivery.traffic.playback import Traffic
from delivery.traffic.records import AttemptRole, Column, ColumnKind, Record, defaults

UNUSED = frozenset(("bundle", "prompt", "answer", "comment"))
WANTED = tuple(column for column in COLUMNS if column.name not in UNUSED)
NULLS = {"route": "", "epoch": "", "variant": "", "role": "served", "user": "", "request_id": "", **defaults(Record)}
VALUES = {"event": ("attempt", "feedback"), "role": get_args(AttemptRole), "rating": (-1, 0, 1)}
CURE = "see docs/traffic-log.md for what each column holds"


@dataclass(frozen=True)
class RecordedTraffic:
    """The rows of one route, and which variant is which."""

    traffic: Traffic
    candidate: str
    stable: str


def read_traffic(
    path: Path, *, route: str | None = None, candidate: str | None = None, stable: str | None = None
) -> RecordedTraffic:
    """A log's rows in the order in which they ended.

    `route`, `candidate`, `stable`: needed where the log does not say by itself. Raises ConfigError with every problem.
    """
    table = log_table(path)
    if table.num_rows == 0:
        raise ConfigError(f"{path} holds no row", cure="name a log with traffic")
    table = _of_route(table, route, path)
    candidate, stable = _sides(table, candidate, stable, path)
    kept = pc.is_in(table["variant"], pyarrow.array([candidate, stable]))
    return RecordedTraffic(_traffic(table.filter(kept)), candidate, stable)


def read_epoch(folder: Path, route: str, epoch: str) -> Traffic:
    """A gateway's rows of one route's epoch, all variants. Raises ConfigError with every problem."""
    return _traffic(log_table(folder, (pc.field("route") == route) & (pc.field("epoch") == epoch)))


def read_request(folder: Path, request_id: str) -> list[Record]:
    """Every attempt at one request that a gateway's log holds, oldest first. Raises ConfigError with every problem."""
    traffic = _traffic(log_table(folder, pc.field("request_id") == request_id))
    pairs = zip(traffic.records, traffic.is_feedback, strict=True)
    return [record for record, is_feedback in pairs if not is_feedback]


# -- files and columns ------------------------------------------------------------------------------------------------


def log_files(path: Path) -> list[Path]:
    """The files of a log. Raises ConfigError for a folder without any."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() or not (path.is_file() or path.suffix) else [path]
    if not files:
        raise ConfigError(
            f"there is no *.parquet in {path}", cure="name a traffic log's file, or the folder that has some"
        )
    return files


def log_table(path: Path, wanted: Any = None) -> Any:
    """A log's rows without texts, the columns in their right types. Raises ConfigError with every problem."""
    problems: list[Problem] = []
    tables = []
    for file in log_files(path):
        try:
            tables.append(_checked(parquet.read_table(file, filters=wanted), file, problems))
        except FileNotFoundError:
            problems.append(Problem(str(file), "the file does not exist"))
        except (OSError, pyarrow.ArrowException) as error:
            problems.append(Problem(str(file), f"cannot be read as parquet: {str(error).splitlines()[0]}"))
    if problems:
        raise ConfigError(
            f"{path} cannot be read as a traffic log: {len(problems)} problem(s)", problems=problems, cure=CURE
        )
    return pyarrow.concat_tables(tables, promote_options="default")


def _checked(raw: Any, file: Path, problems: list[Problem]) -> Any:
    """The wanted columns in their right types; what is wrong is appended to `problems`."""
    found: dict[str, Any] = {}
    for column in (*WANTED, *_detectors(raw)):
        where = f"{file}: {column.name}"
        if column.name not in raw.column_names:
            if column.needed:
                near = difflib.get_close_matches(column.name, raw.column_names, n=1)
                cure = f"is it {near[0]!r}?" if near else f"found: {', '.join(raw.column_names[:20])}"
                problems.append(Problem(where, "the column is needed, but missing", cure))
            found[column.name] = pyarrow.nulls(raw.num_rows, _TYPES[column.kind])
            continue
        try:
            values = _cast(raw[column.name], column.kind)
        except (pyarrow.ArrowException, TypeError) as error:
            problems.append(Problem(where, f"{raw.schema.field(column.name).type} is no {column.kind}: {error}"))
            values = pyarrow.nulls(raw.num_rows, _TYPES[column.kind])
        else:
            problems += _wrong_values(column, values, where)
        found[column.name] = values
    if not any(problem.where.startswith(f"{file}: ") and "_at" in problem.where for problem in problems):
        problems += _wrong_times(found, file)
    return pyarrow.table(found)


_TYPES = {
    "text": pyarrow.string(),
    "time": pyarrow.float64(),  # UNIX seconds
    "number": pyarrow.float64(),
    "whole": pyarrow.int64(),
    "flag": pyarrow.bool_(),
}


def _detectors(raw: Any) -> list[Column]:
    return [Column("flag", "", name=name) for name in raw.column_names if name.startswith(CONTRACT)]


def _cast(values: Any, kind: ColumnKind) -> Any:
    if pyarrow.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pyarrow.types.is_null(values.type):
        return values.cast(_TYPES[kind])
    is_text = pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type)
    if is_text != (kind == "text"):
        raise TypeError("another type is needed")
    if kind == "time" and pyarrow.types.is_timestamp(values.type):
        return pc.divide(values.cast(pyarrow.timestamp("us")).cast(pyarrow.int64()).cast(pyarrow.float64()), 1e6)
    if kind == "flag" and not pyarrow.types.is_boolean(values.type):
        raise TypeError("a boolean is needed")
    return values.cast(_TYPES[kind])


def _wrong_values(column: Column, values: Any, where: str) -> Iterator[Problem]:
    if column.needed and values.null_count:
        first = pc.index(pc.is_null(values), True).as_py()
        yield Problem(where, f"{values.null_count} of {len(values)} rows are null, the first is row {first}")
    wrong = None
    if column.name in VALUES:
        wrong = pc.invert(pc.is_in(pc.drop_null(values), pyarrow.array(VALUES[column.name], values.type)))
        what = f"must be one of {', '.join(map(str, VALUES[column.name]))}"
    elif column.kind in ("time", "number"):
        wrong = pc.invert(pc.is_finite(pc.drop_null(values)))
        what = "must be a finite number"
    elif column.kind == "whole":
        wrong = pc.less(pc.drop_null(values), 0)
        what = "must not be below 0"
    if wrong is not None and (count := pc.sum(wrong).as_py()):
        example = pc.drop_null(values)[pc.index(wrong, True).as_py()].as_py()
        yield Problem(where, f"{count} of {len(values)} rows {what}, found {example!r}")


def _wrong_times(found: dict[str, Any], file: Path) -> Iterator[Problem]:
    early = pc.less(found["ended_at"], found["started_at"])
    if count := pc.sum(early).as_py():
        first = pc.index(early, True).as_py()
        times = f"started_at {found['started_at'][first]}, ended_at {found['ended_at'][first]}"
        yield Problem(f"{file}: ended_at", f"{count} rows end before they start, the first is row {first}: {times}")


# -- which route, which variant ---------------------------------------------------------------------------------------


def _of_route(table: Any, route: str | None, path: Path) -> Any:
    names = sorted({name for name in pc.unique(table["route"]).to_pylist() if name is not None})
    if route is None and len(names) <= 1:
        return table
    if route not in names:
        what = f"{path} has no route {route}" if route else f"{path} holds several routes"
        raise ConfigError(what, cure=f"choose one with --route: {', '.join(names) or 'the column is empty'}")
    return table.filter(pc.equal(table["route"], route))


def _sides(table: Any, candidate: str | None, stable: str | None, path: Path) -> tuple[str, str]:
    variants = sorted(pc.unique(table["variant"]).to_pylist())
    arms = table.group_by(["variant", "arm"]).aggregate([]).to_pylist()
    given = {(item["variant"], item["arm"]) for item in arms}
    if candidate is None:
        tried = sorted({variant for variant, arm in given if arm == "candidate"})
        candidate = tried[0] if len(tried) == 1 else None
    if stable is None:
        beside = sorted({variant for variant, arm in given if arm in ("stable", "holdback")} - {candidate})
        others = [variant for variant in variants if variant != candidate]
        beside = beside or others
        stable = beside[0] if len(beside) == 1 and candidate is not None else None
    problems = [
        Problem(f"--{side}", f"{name} is not in the log" if name else "the log does not say which variant it is")
        for side, name in (("candidate", candidate), ("stable", stable))
        if name not in variants
    ]
    if candidate is not None and candidate == stable:
        problems.append(Problem("--candidate, --stable", f"both are {candidate}"))
    if problems or candidate is None or stable is None:
        cure = f"name it with this option; the log's variants: {', '.join(variants)}"
        raise ConfigError(f"{path} cannot be replayed: who is compared with whom?", problems=problems, cure=cure)
    return candidate, stable


# -- rows -------------------------------------------------------------------------------------------------------------


def _traffic(table: Any) -> Traffic:
    # what ended together is taken in the order of its start, so that a log's own order does not matter
    order = numpy.lexsort((table["started_at"].to_numpy(), table["ended_at"].to_numpy()))
    table = table.take(pyarrow.array(order)).combine_chunks()
    started, ended = table["started_at"].to_numpy(), table["ended_at"].to_pylist()
    columns = {column.name: _values(table, column) for column in OF_RECORD}
    ends = zip(columns["status"], columns["error"], strict=True)
    by_status = pyarrow.array([200 <= status < 300 and not error for status, error in ends], pyarrow.bool_())
    columns["ok"] = pc.coalesce(table["ok"], by_status).to_pylist()
    columns["duration_s"] = numpy.subtract(ended, started).tolist()
    columns["verdicts"] = _verdicts(table)
    return Traffic(
        records=[Record(seq=0, **dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)],
        ended_at=ended,
        is_feedback=pc.equal(table["event"].fill_null("attempt"), "feedback").to_pylist(),
        rating=table["rating"].to_pylist(),
        escalated=table["escalated"].fill_null(False).to_pylist(),
        by_start=numpy.argsort(started, kind="stable").tolist(),
    )


def _values(table: Any, column: Column) -> list[Any]:
    """What records hold, with their own defaults where the log says nothing."""
    default = NULLS.get(column.name)
    if column.kind == "text":
        return _texts(table, column.name, str(default))
    values = table[column.name]
    found: list[Any] = (values if default is None else values.fill_null(default)).to_pylist()
    return found


def _texts(table: Any, name: str, default: str) -> list[str]:
    """A column's strings; equal ones are one object."""
    encoded = pc.dictionary_encode(table[name].fill_null(default)).combine_chunks()
    known = encoded.dictionary.to_pylist()
    return [known[index] for index in encoded.indices.to_numpy(zero_copy_only=False).tolist()]


def _verdicts(table: Any) -> list[dict[str, bool]]:
    names = [name for name in table.column_names if name.startswith(CONTRACT)]
    none: dict[str, bool] = {}
    if not names:
        return [none] * table.num_rows
    short = [name.removeprefix(CONTRACT) for name in names]
    known: dict[tuple[bool | None, ...], dict[str, bool]] = {}
    found = []
    for flags in zip(*(table[name].to_pylist() for name in names), strict=True):
        if flags not in known:
            known[flags] = {name: flag for name, flag in zip(short, flags, strict=True) if flag is not None}
        found.append(known[flags])
    return found
