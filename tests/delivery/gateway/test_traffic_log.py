"""The traffic log: whole files or none, what is sampled, what is redacted, and what a kill can cost."""

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as parquet
import pytest
from gateway_world import Running, World, all_to_new, eventually, table_for
from places import ROOT
from pydantic import ValidationError
from stub_upstream import refuses, says

from configs.contract import JUDGED_CHARS
from configs.traffic_log import Redaction, TrafficLog
from delivery.clients.traffic_log import read_traffic
from delivery.gateway.records.log_files import LogFiles
from delivery.gateway.records.traffic_log import WAITING_BYTES, TrafficWriter
from delivery.traffic.columns import COLUMNS, CONTRACT

PAGE = ROOT / "docs" / "traffic-log.md"
CHAT = [{"role": "user", "content": "I am ada@example.org, call +49 170 1234567. What is 2 + 2?"}]


def row(number: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "request_id": f"{number * 2654435761:024x}",
        "variant": "old",
        "started_at": 5.0,
        "ended_at": 5.25,
        "status": 200,
    } | more


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("traffic-*.parquet")) for row in parquet.read_table(file).to_pylist()]


def logged(running: Running, world: World) -> list[dict[str, Any]]:
    """What is in the log after the gateway has ended."""
    folder = running.gateway.log.folder
    world.do(world.stack.aclose())
    return rows_in(folder)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, TrafficLog(max_file_age_s=60), "w")
    files.write([row(n) for n in range(5000)], 100.0)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    files.rotate(159.0)
    assert rows_in(tmp_path) == []
    files.rotate(160.0)
    assert len(rows_in(tmp_path)) == 5000
    assert [path.name for path in tmp_path.iterdir()] == ["traffic-19700101T000140-w-000001.parquet"]


def test_a_large_file_is_closed_before_it_is_old(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, TrafficLog(max_file_mib=0.01), "w")
    for batch in range(4):
        files.write([row(batch * 5000 + n) for n in range(5000)], 100.0)
    assert 1 <= len(list(tmp_path.glob("traffic-*.parquet"))) <= 4


def test_a_clock_that_jumps_back_closes_the_file_rather_than_keeping_it_open(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, TrafficLog(), "w")
    files.write([row()], 1000.0)
    files.rotate(10.0)
    assert len(rows_in(tmp_path)) == 1


def test_a_detector_that_was_not_there_before_begins_a_new_file(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, TrafficLog(), "w")
    files.write([row(n) for n in range(5000)], 100.0)
    files.write([row(5000, **{CONTRACT + "format": True})], 100.0)
    files.close(100.0)
    first, second = sorted(tmp_path.glob("traffic-*.parquet"))
    assert (CONTRACT + "format") not in parquet.read_schema(first).names
    assert parquet.read_table(second).to_pylist()[0][CONTRACT + "format"] is True


def test_the_oldest_files_go_when_there_are_too_many_bytes_or_days(tmp_path: Path) -> None:
    files = LogFiles(tmp_path, TrafficLog(max_total_mib=0.02, max_age_days=1), "w")
    for batch in range(8):
        files.write([row(batch)], time.time())
        files.close(time.time())
    kept = sorted(path.name[-14:-8] for path in tmp_path.iterdir())
    assert 1 <= len(kept) < 8
    assert kept[-1] == "000008"
    files.write([row(9)], time.time() + 2 * 86_400)
    files.close(time.time() + 2 * 86_400)
    assert [path.name[-14:-8] for path in tmp_path.iterdir()] in ([], ["000009"])


def test_remains_of_a_killed_writer_are_removed_and_those_of_a_living_one_are_not(tmp_path: Path) -> None:
    living = LogFiles(tmp_path, TrafficLog(), "living")
    living.write([row(n) for n in range(5000)], 100.0)
    (tmp_path / ".traffic-19700101T000000-dead-000001.parquet.part").write_bytes(b"PAR1")
    LogFiles(tmp_path, TrafficLog(), "new").start()
    assert [path.name for path in tmp_path.iterdir()] == [".traffic-19700101T000140-living-000001.parquet.part"]


def test_writers_of_one_folder_start_and_tidy_beside_each_other_and_lose_nothing(tmp_path: Path) -> None:
    limits = TrafficLog(max_total_mib=0.01)

    def write(number: int) -> int:
        lost = 0
        for turn in range(25):
            LogFiles(tmp_path, limits, "beginner").start()
            files = LogFiles(tmp_path, limits, f"w{number}-{turn}")
            try:
                files.write([row(turn)], time.time())
                files.close(time.time())
            except OSError:
                lost += 1
        return lost

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [0] * 4
    assert list(tmp_path.glob(".*")) == []


KILLED = """
import sys, time
from pathlib import Path
from configs.traffic_log import Redaction, TrafficLog
from delivery.gateway.records.log_files import LogFiles
files = LogFiles(Path(sys.argv[1]), TrafficLog(max_file_mib=0.01), sys.argv[2])
number = 0
while True:
    rows = [{"request_id": f"{number + n:024x}", "variant": "old", "started_at": 5.0, "ended_at": 6.0, "status": 200}
            for n in range(5000)]
    files.write(rows, 100.0)
    number += 5000
    print(number, flush=True)
"""


@pytest.mark.live
def test_a_kill_at_any_moment_leaves_only_whole_files_under_final_names(tmp_path: Path) -> None:
    for delay_s in (0.0, 0.007, 0.013, 0.021):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path, str(delay_s)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(4):
            child.stdout.readline()
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert len(rows_in(tmp_path)) >= 4 * 5000
    LogFiles(tmp_path, TrafficLog(), "next").start()
    assert list(tmp_path.glob(".*")) == []


# -- the writer --------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_costs_rows_that_are_counted_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    writer = TrafficWriter(TrafficLog(), folder, "w")
    writer.start()
    folder.rmdir()
    folder.write_text("a file is in the way")
    for number in range(10):
        writer._put(row(number))
    writer.stop()
    assert writer.counts["lost"] == 10


def test_a_row_that_cannot_be_redacted_costs_itself_alone_and_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = TrafficWriter(TrafficLog(text=True), tmp_path, "w")
    writer.start()
    for number in range(9):
        writer._put(row(number, prompt=b"[" if number % 3 else b"[]"))
    writer.stop()
    assert [found["prompt"] for found in rows_in(tmp_path)] == ["[]"] * 3
    assert writer.counts == {"taken": 9, "lost": 6}
    assert caplog.text.count("cannot be written to the traffic log") == 1


def test_a_count_that_no_column_can_hold_costs_its_row_alone(tmp_path: Path) -> None:
    writer = TrafficWriter(TrafficLog(), tmp_path, "w")
    writer.start()
    for number, tokens in enumerate((3, 2**40, 2**70, None, 4)):
        writer._put(row(number, prompt_tokens=tokens))
    writer.stop()
    assert [found["prompt_tokens"] for found in rows_in(tmp_path)] == [3, None, 4]
    assert writer.counts == {"taken": 5, "lost": 2}


def test_rows_in_hand_when_a_new_detector_closes_a_file_are_counted_when_the_disk_fails_next(tmp_path: Path) -> None:
    files = LogFiles(tmp_path / "log", TrafficLog(), "w")
    files.start()
    files.write([row(n) for n in range(5000)], 100.0)
    (tmp_path / "log").rename(tmp_path / "away")
    with pytest.raises(OSError, match="No such file"):
        files.write([row(n, **{CONTRACT + "format": True}) for n in range(7)] + [row(8)] * 4993, 100.0)
    files.abandon()
    assert files.lost == 10_000


def test_texts_that_wait_for_a_slow_disk_are_bounded_in_bytes_too() -> None:
    writer = TrafficWriter(TrafficLog(text=True), Path("x"), "w")  # its thread is not there: nothing is written
    prompt = bytes(4 * 2**20)
    for number in range(40):
        writer._put(row(number, prompt=prompt))
    assert len(writer._waiting) == WAITING_BYTES // len(prompt) == 16
    assert writer.counts == {"taken": 40, "lost": 24}


@pytest.mark.parametrize("replacement", [r"\1", r"\g<who>", "\\"])
def test_a_replacement_that_cannot_be_put_in_is_refused_when_the_settings_are_read(replacement: str) -> None:
    with pytest.raises(ValidationError, match="cannot stand for pattern"):
        Redaction(pattern="[a-z]+@", replacement=replacement)
    assert Redaction(pattern="([a-z]+)(?P<who>@)", replacement=r"\1 \g<who> \\")


def test_a_request_is_in_the_sample_by_its_id_alone() -> None:
    half = TrafficWriter(TrafficLog(share=0.5), Path("x"), "w")
    ids = [f"{n * 2654435761 % 2**32:08x}" + "0" * 16 for n in range(4000)]
    assert 1800 < sum(half.wants(number) for number in ids) < 2200
    assert not any(TrafficWriter(TrafficLog(share=0), Path("x"), "w").wants(number) for number in ids)
    assert all(TrafficWriter(TrafficLog(share=1), Path("x"), "w").wants(number) for number in ids)


# -- the gateway -------------------------------------------------------------------------------------------------------


def test_every_attempt_and_what_was_said_of_it_is_a_row(world: World, tmp_path: Path) -> None:
    stub = world.upstream(**{"new-model": refuses(500), "old-model": says("one two three four")})
    contract = {"detectors": {"format": {"kind": "form", "max_words": 3}}}
    variants = {"old": {"bundle": "sha256:0"}}
    table = table_for(stub.url, contract=contract, **all_to_new(variants=variants))
    running = world.gateway(table, traffic_log=TrafficLog(folder=tmp_path))
    number = running.ask(user="ada").headers["x-request-id"]
    running.http.post("/v1/feedback", json={"request_id": number, "rating": -1, "comment": "bad"})
    failed, answered, feedback = logged(running, world)
    assert {row["request_id"] for row in (failed, answered, feedback)} == {number}
    assert (failed["variant"], failed["arm"], failed["role"], failed["ok"], failed["error"]) == (
        *("new", "candidate", "served", False, "status"),
    )
    assert (answered["variant"], answered["arm"], answered["role"], answered["bundle"]) == (
        *("old", "stable", "failover", "sha256:0"),
    )
    assert (answered["completion_tokens"], answered["contract_format"], failed["contract_format"]) == (3, True, None)
    assert answered["user"] == failed["user"] != "ada"
    assert answered["started_at"].timestamp() == 1000.0
    assert (feedback["event"], feedback["rating"], feedback["variant"]) == ("feedback", -1, "old")
    assert [row["prompt"] for row in (failed, answered)] == [row["answer"] for row in (failed, answered)] == [None] * 2
    assert feedback["comment"] is None


def test_what_the_gateway_writes_can_be_replayed(world: World, tmp_path: Path) -> None:
    shadow = {"candidate": {"variant": "new", "mirror_bp": 10_000}}
    contract = {"detectors": {"refusal": {"kind": "refusal"}}}
    running = world.gateway(
        table_for(world.upstream().url, contract=contract, **shadow), traffic_log=TrafficLog(folder=tmp_path)
    )
    number = running.ask(user="ada").headers["x-request-id"]
    eventually(lambda: running.gateway.attempts.last_seq == 2)
    running.http.post("/v1/feedback", json={"request_id": number, "escalated": True})
    world.do(world.stack.aclose())
    found = read_traffic(tmp_path)
    assert (found.candidate, found.stable) == ("new", "old")
    rows = found.traffic
    told = zip(rows.records, rows.is_feedback, strict=True)
    assert sorted((record.variant, record.role, said) for record, said in told) == [
        ("new", "mirror", False),
        ("old", "served", False),
        ("old", "served", True),
    ]
    assert {record.request_id for record in rows.records} == {number}
    assert sorted(rows.escalated) == [False, False, True]
    assert [record.verdicts for record in rows.records if record.verdicts] == [{"refusal": False}] * 2


@pytest.mark.parametrize("stream", [False, True])
def test_texts_are_written_only_where_wanted_and_redacted(world: World, tmp_path: Path, stream: bool) -> None:
    stub = world.upstream(**{"old-model": says("Write to bob@example.org or use sk-abcdefghijkl")})
    rules = TrafficLog(folder=tmp_path, text=True)
    running = world.gateway(table_for(stub.url), traffic_log=rules)
    running.ask(messages=CHAT, stream=stream)
    (one,) = logged(running, world)
    assert one["answer"].strip() == "Write to [e-mail] or use [key]"
    assert one["prompt"] == '[{"role":"user","content":"I am [e-mail], call [number]. What is 2 + 2?"}]'
    for file in tmp_path.iterdir():
        assert b"example.org" not in file.read_bytes()


@pytest.mark.parametrize(
    "secret",
    ["bob@example.org", "x\nbob.a+b@post.example.org", "\nsk-abcdefghijkl", "\n+49 170 1234567", "4111-1111-1111-1111"],
)
def test_the_usual_rules_find_what_must_not_be_written_wherever_it_stands(secret: str) -> None:
    writer = TrafficWriter(TrafficLog(text=True), Path("x"), "w")
    asked = [{"role": "user", "content": [{"text": f"Hi {secret} there"}], secret: 1}]
    one = row(prompt=orjson.dumps(asked), answer=f"{secret}")
    writer._redact(one)
    assert not set(re.findall(r"\w{4,}", secret)) & set(re.findall(r"\w+", f"{one['prompt']} {one['answer']}"))
    assert "there" in one["prompt"]


def test_half_a_secret_at_the_cut_is_not_written() -> None:
    writer = TrafficWriter(TrafficLog(text=True), Path("x"), "w")
    one = row(answer=("x " * JUDGED_CHARS)[: JUDGED_CHARS - 8] + " bob@exa")
    writer._redact(one)
    assert "bob" not in one["answer"]
    assert len(one["answer"]) == JUDGED_CHARS - 100


def test_redacting_a_hostile_text_takes_no_time() -> None:
    writer = TrafficWriter(TrafficLog(text=True), Path("x"), "w")
    began = time.process_time()
    for text in ("a" * 10**6, "1" * 10**6, "1 " * 10**6, "a." * 10**6, "sk-" * 10**6, "a@" * 10**6):
        writer._redact(row(prompt=orjson.dumps([text]), answer=text, comment=text))
    assert time.process_time() - began < 1.0


def test_a_request_nested_beyond_all_measure_costs_its_row_and_none_of_the_others(world: World, tmp_path: Path) -> None:
    rules = TrafficLog(folder=tmp_path, text=True)
    running = world.gateway(table_for(world.upstream().url, policy={"media": "any"}), traffic_log=rules)
    nested: list[Any] = []
    for _ in range(300):
        nested = [nested]
    assert running.ask(messages=[{"role": "user", "content": nested}]).status_code == 400
    eventually(lambda: 'slipway_traffic_log_rows_total{fate="lost"} 1.0' in running.metrics())
    running.ask(messages=CHAT)
    (one,) = logged(running, world)
    assert one["answer"] == "I am old-model"


def test_the_metrics_say_how_much_was_written(world: World, tmp_path: Path) -> None:
    running = world.gateway(table_for(world.upstream().url), traffic_log=TrafficLog(folder=tmp_path))
    running.ask()
    eventually(lambda: 'slipway_traffic_log_rows_total{fate="taken"} 1.0' in running.metrics())
    assert 'slipway_traffic_log_rows_total{fate="lost"} 0.0' in running.metrics()


def test_the_page_for_people_describes_every_column() -> None:
    described = re.findall(r"^\| `(\w+)`( \*\*needed\*\*)? \| (\w+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [(name, kind, meaning, bool(needed)) for name, needed, kind, meaning in described] == [
        (column.name, column.kind, column.meaning, column.needed) for column in COLUMNS
    ]
