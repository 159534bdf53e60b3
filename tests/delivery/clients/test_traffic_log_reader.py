"""Reading a traffic log, the gateway's own or anybody's: what is needed, and what is said when it is not there."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.replay.made_up import made_up
from configs.errors import ConfigError
from delivery.clients.traffic_log import read_traffic

NEEDED: dict[str, list[Any]] = {
    "request_id": ["b", "a"],
    "variant": ["new", "old"],
    "started_at": [11.0, 10.0],
    "ended_at": [12.0, 10.5],
    "status": [500, 200],
}


def log(folder: Path, name: str = "log.parquet", **columns: Any) -> Path:
    """A file with the needed columns, some replaced, left out (None) or added."""
    wanted = {key: value for key, value in (NEEDED | columns).items() if value is not None}
    parquet.write_table(pyarrow.table(wanted), folder / name)
    return folder / name


def problems(path: Path, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read_traffic(path, **options)
    return caught.value.render()


def test_the_needed_columns_are_enough(tmp_path: Path) -> None:
    found = read_traffic(log(tmp_path), candidate="new")
    one, other = found.traffic.records
    assert (found.candidate, found.stable, one.request_id, other.request_id) == ("new", "old", "a", "b")
    assert (one.ok, other.ok) == (True, False)
    assert {(r.role, r.user_ok, r.ttft_s, r.streamed) for r in (one, other)} == {("served", True, None, False)}
    assert (one.verdicts, found.traffic.rating) == ({}, [None] * 2)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_may_be_timestamps_of_any_unit_or_unix_seconds(tmp_path: Path, unit: str) -> None:
    times = [datetime.datetime.fromtimestamp(second, datetime.UTC) for second in (10, 12)]
    column = pyarrow.array(times, pyarrow.timestamp(unit, tz="Europe/Berlin"))
    traffic = read_traffic(log(tmp_path, started_at=column, ended_at=column), candidate="new").traffic
    assert [record.started_at for record in traffic.records] == traffic.ended_at == [10.0, 12.0]


def test_verdicts_come_from_every_column_of_a_detector(tmp_path: Path) -> None:
    path = log(tmp_path, contract_format=[True, None], contract_refusal=[False, False])
    assert [record.verdicts for record in read_traffic(path, candidate="new").traffic.records] == [
        {"refusal": False},
        {"format": True, "refusal": False},
    ]


def test_files_of_a_folder_are_one_log_even_if_their_columns_differ(tmp_path: Path) -> None:
    log(tmp_path, "1.parquet", contract_format=[True, False])
    log(tmp_path, "2.parquet", arm=["candidate", "stable"])
    found = read_traffic(tmp_path)
    assert (found.candidate, found.stable, len(found.traffic)) == ("new", "old", 4)


def test_the_logs_arms_say_who_is_who_also_after_the_commit(tmp_path: Path) -> None:
    arms = {"variant": ["old", "new", "new", "old"], "arm": ["stable", "candidate", "stable", "holdback"]}
    rest = {"request_id": list("abcd"), "started_at": [1.0] * 4, "ended_at": [2.0] * 4, "status": [200] * 4}
    found = read_traffic(log(tmp_path, **arms, **rest))
    assert (found.candidate, found.stable) == ("new", "old")


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = log(
        tmp_path,
        request_id=["a", None],
        variant=None,
        Variant=["new", "old"],
        status=["500", "200"],
        ttft_s=[float("nan"), 0.1],
        role=["served", "shadowed"],
        rating=[5, None],
        completion_tokens=[-1, 3],
        escalated=[1, 0],
    )
    said = problems(path)
    for part in (
        "request_id: 1 of 2 rows are null, the first is row 1",
        "variant: the column is needed, but missing\n      -> is it 'Variant'?",
        "status: string is no whole",
        "ttft_s: 1 of 2 rows must be a finite number",
        "role: 1 of 2 rows must be one of served, failover, mirror, tester, found 'shadowed'",
        "rating: 1 of 2 rows must be one of -1, 0, 1, found 5",
        "completion_tokens: 1 of 2 rows must not be below 0, found -1",
        "escalated: int64 is no flag",
        "8 problem(s)",
    ):
        assert part in said, said


def test_rows_that_end_before_they_start_are_refused(tmp_path: Path) -> None:
    assert "1 rows end before they start, the first is row 1" in problems(log(tmp_path, ended_at=[12.0, 9.0]))


def test_a_log_that_does_not_say_who_is_who_asks_for_it(tmp_path: Path) -> None:
    said = problems(log(tmp_path))
    assert "--candidate: the log does not say which variant it is" in said
    assert "the log's variants: new, old" in said
    assert "--candidate: newer is not in the log" in problems(log(tmp_path), candidate="newer")
    assert "both are old" in problems(log(tmp_path), candidate="old", stable="old")


def test_one_of_several_routes_must_be_chosen(tmp_path: Path) -> None:
    path = log(tmp_path, route=["math", "tutor"])
    assert "choose one with --route: math, tutor" in problems(path)
    assert "has no route chess" in problems(path, route="chess")


def test_what_is_no_parquet_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "log.parquet").write_text("request_id,variant")
    assert "cannot be read as parquet" in problems(tmp_path / "log.parquet")
    assert "does not exist" in problems(tmp_path / "nothing.parquet")
    (tmp_path / "log.parquet").unlink()
    assert "there is no *.parquet" in problems(tmp_path)
    assert "holds no row" in problems(log(tmp_path, **{name: [] for name in NEEDED}))


def test_made_up_traffic_can_be_read(tmp_path: Path) -> None:
    parquet.write_table(made_up(2000), tmp_path / "made-up.parquet")
    found = read_traffic(tmp_path)
    assert (found.candidate, found.stable, len(found.traffic)) == ("new", "old", 2000)
    assert {name for record in found.traffic.records for name in record.verdicts} == {"format"}
