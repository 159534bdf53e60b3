import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import SlipwayError
from demo.traffic import Profile, arrivals, generate, main, quantile, require_loopback
from demo.traffic_answers import SeenAnswer
from demo.traffic_prompts import read_prompts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def good(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    headers = {"x-slipway-variant": "lora" if body["user"] < "user-0020" else "base"}
    if not body.get("stream"):
        choice = {"message": {"content": "What comes first?"}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 4}}, headers=headers)
    answer = web.StreamResponse(headers=headers | {"content-type": "text/event-stream"})
    await answer.prepare(request)
    for part in ({"role": "assistant"}, {"content": "What"}, {"content": " comes first?"}):
        await answer.write(f"data: {json.dumps({'choices': [{'delta': part}]})}\n\n".encode())
    await answer.write(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n')
    await answer.write(b'data: {"choices": [], "usage": {"completion_tokens": 4}}\n\ndata: [DONE]\n\n')
    return answer


def run(handler: Handler, stop_after: int | None = None, **profile) -> tuple[dict, list[dict]]:
    """Traffic against a stub; returns the summary and the lines."""
    out = io.StringIO()

    async def scenario() -> dict:
        stop = asyncio.Event()
        asked = 0

        async def counted(request: web.Request) -> web.StreamResponse:
            nonlocal asked
            asked += 1
            if asked == stop_after:
                stop.set()
            return await handler(request)

        app = web.Application()
        app.router.add_post("/v1/chat/completions", counted)
        async with TestServer(app) as server:
            given = {"rate": 400.0, "duration_s": 0.25, "max_in_flight": 50} | profile
            full = Profile(url=str(server.make_url("")), route="tutor", **given)
            return await asyncio.wait_for(generate(full, out, stop, drain_s=0.2), 20)

    result = asyncio.run(scenario())
    return result, [json.loads(line) for line in out.getvalue().splitlines()]


def test_every_good_answer_is_counted_and_recorded_by_variant() -> None:
    result, lines = run(good)
    assert result["requests"] == len(lines) > 30
    assert result["failures"] == 0
    assert sum(figures["requests"] for figures in result["by_variant"].values()) == len(lines)
    assert set(result["by_variant"]) == {"lora", "base"}
    assert {line["stream"] for line in lines} == {True, False}
    assert all(line["tokens"] == 4 and line["status"] == 200 and line["sha"] for line in lines)
    assert len({line["sha"] for line in lines}) == 1
    assert all((line["ttft_s"] is not None) == line["stream"] for line in lines)
    variants = {line["user"]: line["variant"] for line in lines}
    assert all(variants[line["user"]] == line["variant"] for line in lines)


def events(*parts: object, done: bool = True) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for part in parts:
            await answer.write(f"data: {json.dumps(part)}\n\n".encode())
        if done:
            await answer.write(b"data: [DONE]\n\n")
        return answer

    return handler


def body(content: object, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(content, status=status)

    return handler


async def cut_off(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(b'data: {"choices": [{"delta": {"content": "What"}}]}\n\n')
    assert request.transport is not None
    request.transport.close()
    return answer


TEXT = {"choices": [{"delta": {"content": "What?"}}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


@pytest.mark.parametrize(
    ("stream", "handler", "problem"),
    [
        (True, events(TEXT, {"error": {"message": "engine died"}}), "error instead of an answer"),
        (True, events(END), "empty answer"),
        (True, events(), "empty answer"),
        (True, events(TEXT), "no finish_reason"),
        (True, events(TEXT, END, done=False), r"stream ended without \[DONE\]"),
        (True, cut_off, "ClientPayloadError"),
        (False, body({"choices": [{"message": {"content": " "}, "finish_reason": "stop"}]}), "empty answer"),
        (False, body({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}), "empty answer"),
        (False, body({"error": "x"}), "error instead of an answer"),
        (False, body([]), "error instead of an answer"),
        (False, body({"error": {"message": "overloaded"}}, status=503), "HTTP 503: .*overloaded"),
    ],
)
def test_whatever_a_user_would_not_accept_is_a_failure(stream: bool, handler: Handler, problem: str) -> None:
    result, lines = run(handler, stop_after=3, stream_share=float(stream))
    assert result["failures"] == result["requests"] >= 3
    assert all(not line["ok"] for line in lines)
    assert any(re.search(problem, error) for error in result["errors"])


def test_a_slow_server_is_not_buried_and_what_was_skipped_is_counted() -> None:
    most = now = 0

    async def slow(request: web.Request) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.1)
        now -= 1
        return await good(request)

    result, _ = run(slow, max_in_flight=3, duration_s=0.5)
    assert most == 3
    assert result["failures"] == 0
    assert result["skipped"] > result["requests"]


@pytest.mark.parametrize("stream", [False, True])
def test_stopping_ends_in_order_and_a_user_who_never_got_an_answer_saw_a_failure(stream: bool) -> None:
    async def hangs(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"x-slipway-variant": "lora"})
        await answer.prepare(request)
        await answer.write(b'data: {"choices": [{"delta": {"content": "What"}}]}\n\n')
        await asyncio.sleep(60)
        raise AssertionError

    result, lines = run(hangs, stop_after=5, duration_s=0, stream_share=float(stream))
    assert result["requests"] == result["failures"] == len(lines) >= 5
    assert all("no answer" in line["error"] and line["duration_s"] >= 0.2 for line in lines[:5])
    assert "no answer" in result["errors"][0]


@given(seed=st.integers(0, 2**32))
def test_the_seed_decides_everything(seed: int) -> None:
    profile = Profile(url="", route="tutor", seed=seed, duration_s=0)
    first, again = list(islice(arrivals(profile), 50)), list(islice(arrivals(profile), 50))
    assert first == again
    assert [a.at_s for a in first] == sorted(a.at_s for a in first)
    other = list(islice(arrivals(Profile(url="", route="tutor", seed=seed + 1, duration_s=0)), 50))
    assert first != other


def test_the_rate_the_users_and_the_streams_are_as_asked() -> None:
    every = list(arrivals(Profile(url="", route="tutor", users=10, rate=5, duration_s=400, stream_share=0.5)))
    assert abs(len(every) / 400 - 5) < 0.5
    assert len({a.user for a in every}) == 10
    assert abs(sum(a.stream for a in every) / len(every) - 0.5) < 0.05
    assert len({a.messages[0]["content"] for a in every}) > 1000
    assert {a.messages[-1]["role"] for a in every} == {"user"}
    assert {len(a.messages) for a in every} == {1, 3}


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_enough_others_do_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert found is not None
    assert sum(v <= found for v in ordered) >= share * len(ordered) - 1e-6
    assert sum(v < found for v in ordered) < share * len(ordered) + 1e-6


def test_without_values_there_is_no_quantile() -> None:
    assert quantile([], 0.5) is None


def test_a_stream_that_is_not_json_is_a_problem() -> None:
    answer = SeenAnswer(done=False)
    answer.take_event("<html>")
    assert answer.problem == "not JSON: <html>"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:1", "http://[::1]:8000"])
def test_this_machine_may_be_loaded(url: str) -> None:
    require_loopback(url)


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:8000", "https://example.org", "nonsense", "http://127.0.0.1.example.org"]
)
def test_another_machine_is_not_loaded_unasked(url: str) -> None:
    with pytest.raises(SlipwayError, match="not on this machine"):
        require_loopback(url)


def test_prompts_are_read_as_lines_or_as_messages(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('What is 1 + 1?\n\n{"messages": [{"role": "user", "content": "Hi"}]}\n')
    assert read_prompts(file) == (
        ({"role": "user", "content": "What is 1 + 1?"},),
        ({"role": "user", "content": "Hi"},),
    )
    file.write_text('fine\n{"messages": 3}\n')
    with pytest.raises(SlipwayError, match=r"prompts\.jsonl: line 2"):
        read_prompts(file)
    file.write_text("\n")
    with pytest.raises(SlipwayError, match="holds no prompts"):
        read_prompts(file)
    with pytest.raises(SlipwayError, match="cannot be read"):
        read_prompts(tmp_path / "none")


def test_a_wrong_call_exits_with_2(tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "out.jsonl")
    assert main(["--url", "http://192.0.2.1", "--route", "tutor", "--out", out]) == 2
    assert "--allow-remote" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_the_process_stops_at_sigterm_with_its_summary_written(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.jsonl"

    async def scenario() -> tuple[int | None, bytes]:
        first = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            first.set()
            return await good(request)

        app = web.Application()
        app.router.add_post("/v1/chat/completions", handler)
        async with TestServer(app) as server:
            url = str(server.make_url(""))
            command = ["-m", "demo.traffic", "--url", url, "--route", "tutor", "--rate", "50", "--duration", "0"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, "--out", str(out), stdout=subprocess.PIPE
            )
            await asyncio.wait_for(first.wait(), 30)
            os.kill(process.pid, signal.SIGTERM)
            printed, _ = await asyncio.wait_for(process.communicate(), 30)
            return process.returncode, printed

    code, printed = asyncio.run(scenario())
    assert code == 0
    assert json.loads(printed) == json.loads((tmp_path / "deep" / "out.jsonl.summary.json").read_text())
    assert json.loads(printed)["requests"] == len(out.read_text().splitlines()) >= 1
