"""Answers are judged by the route's contract, for stable and candidate alike, and nobody waits for it."""

import pytest
from gateway_world import World, all_to_new, table_for
from stub_upstream import DONE, ROLE, Stub, answers, chunk, frame, refuses, says, sends

from configs.contract import JUDGED_CHARS
from delivery.gateway.openai.contract import Said

CONTRACT = {
    "detectors": {
        "format": {"kind": "form", "max_words": 5},
        "refusal": {"kind": "refusal"},
    }
}
LONG = "one two three four five six"


def judged(world: World, stub: Stub, *, stream: bool = False, role: str = "served", **route) -> dict[str, bool]:
    running = world.gateway(table_for(stub.url, contract=CONTRACT, **route))
    running.ask(stream=stream)
    records = running.wait_for_records(2 if role != "served" else 1)
    (record,) = [record for record in records if record.role == role]
    return record.verdicts


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("What is next?", {"format": False, "refusal": False}),
        (LONG, {"format": True, "refusal": False}),
        ("I cannot help with that", {"format": False, "refusal": True}),
    ],
)
def test_a_served_answer_is_judged_plain_or_streamed(world: World, stream: bool, text, verdicts) -> None:
    assert judged(world, world.upstream(**{"old-model": says(text)}), stream=stream) == verdicts


@pytest.mark.parametrize("stream", [False, True])
def test_a_mirrored_answer_is_judged_as_well(world: World, stream: bool) -> None:
    stub = world.upstream(**{"new-model": says(LONG)})
    route = {"candidate": {"variant": "new", "mirror_bp": 10_000}}
    assert judged(world, stub, stream=stream, role="mirror", **route)["format"] is True


def test_stable_that_takes_over_is_judged_and_the_failed_attempt_is_not(world: World) -> None:
    stub = world.upstream(**{"new-model": refuses(500), "old-model": says(LONG)})
    running = world.gateway(table_for(stub.url, contract=CONTRACT, **all_to_new()))
    running.ask()
    served, failover = running.wait_for_records(2)
    assert (served.verdicts, failover.verdicts) == ({}, {"format": True, "refusal": False})


def test_an_answer_that_breaks_off_is_not_judged(world: World) -> None:
    broken_off = sends(ROLE, frame(chunk({"content": LONG})), then="cut")
    assert judged(world, world.upstream(**{"old-model": broken_off}), stream=True) == {}


def test_an_answer_that_only_calls_a_tool_is_not_judged(world: World) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    assert judged(world, world.upstream(**{"old-model": answers(answer)})) == {}


def test_of_several_choices_the_first_is_judged(world: World) -> None:
    chunks = [chunk({"content": "short"}), chunk({"content": LONG}), chunk({}, "stop")]
    chunks[1]["choices"][0]["index"] = 1
    stub = world.upstream(**{"old-model": sends(ROLE, *map(frame, chunks), DONE)})
    assert judged(world, stub, stream=True)["format"] is False


def test_without_a_contract_nothing_is_judged_or_kept(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    running.ask()
    assert running.wait_for_records(1)[0].verdicts == {}


def test_the_metrics_count_what_was_judged_and_what_was_broken(world: World) -> None:
    running = world.gateway(table_for(world.upstream(**{"old-model": says(LONG)}).url, contract=CONTRACT))
    running.ask()
    running.wait_for_records(1)
    lines = {line for line in running.metrics().splitlines() if line.startswith("slipway_contract_")}
    values = {line.rsplit(" ", 1)[0].partition("{")[0] + _detector(line): line.rsplit(" ", 1)[1] for line in lines}
    assert values == {
        "slipway_contract_judged_total format": "1.0",
        "slipway_contract_broken_total format": "1.0",
        "slipway_contract_judged_total refusal": "1.0",
        "slipway_contract_broken_total refusal": "0.0",
    }


def _detector(line: str) -> str:
    return " " + line.split('detector="')[1].split('"')[0]


def test_a_long_answer_is_kept_up_to_the_bound_and_known_to_be_longer() -> None:
    said = Said()
    for _ in range(30):
        said.add("x" * 1000)
    assert (len(said.text), said.is_whole) == (JUDGED_CHARS, False)
    exact = Said()
    exact.add("x" * JUDGED_CHARS)
    exact.add("")
    assert (len(exact.text), exact.is_whole) == (JUDGED_CHARS, True)


def test_what_takes_more_than_a_moment_is_judged_beside_the_event_loop(world: World) -> None:
    slow = {"detectors": {"it": {"kind": "pattern", "pattern": "|".join(f"a[ab]{{{n}}}c" for n in range(1, 60))}}}
    stub = world.upstream(**{"old-model": says("ab" * 3_900)})
    running = world.gateway(table_for(stub.url, contract=slow))
    judges, begun = running.gateway.attempts.judges, []
    former = judges._thread.submit
    judges._thread.submit = lambda *call: begun.append(call) or former(*call)  # type: ignore[method-assign]
    running.ask()
    assert running.wait_for_records(1)[0].verdicts == {"it": False}
    assert len(begun) == 1


def test_a_detector_that_gives_up_is_counted_and_says_nothing(world: World) -> None:
    steps = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": steps | {"a40": {}}, "$ref": "#/$defs/a0"}
    contract = {"detectors": {"shape": {"kind": "json", "json_schema": schema}, "refusal": {"kind": "refusal"}}}
    running = world.gateway(table_for(world.upstream(**{"old-model": says("[1]")}).url, contract=contract))
    running.ask()
    assert running.wait_for_records(1)[0].verdicts == {"refusal": False}
    labels = 'detector="shape",role="served",route="tutor",variant="old"'
    assert f"slipway_contract_unjudged_total{{{labels}}} 1.0" in running.metrics()
