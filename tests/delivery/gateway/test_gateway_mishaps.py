"""What nobody foresaw, in the gateway's own code or its files: it is logged and counted, and all else goes on."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import World, all_to_new, table_for

from configs.errors import ConfigError
from configs.routing import RoutingTable
from delivery.gateway.keys.access import Keys
from delivery.gateway.keys.budget_files import BudgetFile
from delivery.gateway.table.files import parse_table
from delivery.gateway.table.watch import Watch
from delivery.gateway.upstream.health import Health
from delivery.gateway.upstream.replicas import Replicas
from delivery.gateway.workers.link import LinkError, linked

WITH_SHADOW = {"candidate": {"variant": "new", "mirror_bp": 10_000}}


def for_a_while(world: World, run: Callable[[], Awaitable[None]], is_done: Callable[[], bool]) -> None:
    """Runs it until this holds, and then ends it."""

    async def scenario() -> None:
        task = asyncio.ensure_future(run())
        try:
            async with asyncio.timeout(10):
                while not is_done():
                    assert not task.done(), task
                    await asyncio.sleep(0.002)
        finally:
            task.cancel()

    world.do(scenario())


@pytest.mark.parametrize("error", [ValueError("day is out of range for month"), TypeError("unhashable type: 'dict'")])
def test_a_watched_file_that_breaks_the_reader_is_reported_and_the_next_edit_is_served(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    file, served = tmp_path / "keys.yaml", []
    file.write_text("odd")

    def read(path: Path) -> str:
        text = path.read_text()
        if text == "odd":
            raise error
        return text

    watch = Watch(file, read, served.append)

    async def scenario() -> None:
        watching = asyncio.create_task(watch.run(every_s=0.002))
        await asyncio.sleep(0.05)
        file.write_text("revoked")
        async with asyncio.timeout(5):
            while not served and not watching.done():
                await asyncio.sleep(0.002)
        watching.cancel()

    world.do(scenario())
    assert served == ["revoked"]
    assert caplog.text.count(str(error)) == 1
    assert str(file) in str([vars(record) for record in caplog.records])


class Asked:
    """Upstreams of which one breaks the gateway's own code."""

    def __init__(self) -> None:
        self.count: dict[str, int] = {}

    async def get(self, upstream: str, path: str) -> tuple[int, bytes]:
        self.count[upstream] = self.count.get(upstream, 0) + 1
        if upstream == "http://odd":
            raise UnicodeEncodeError("latin-1", "ь", 0, 1, "ordinal not in range(256)")
        return 200, b'{"data": [{"id": "old-model"}]}'


def test_a_replica_whose_health_check_breaks_the_gateways_code_ends_no_other_check(world: World) -> None:
    replicas, asked = Replicas(lambda: 0.0), Asked()
    replicas.keep_only(table_for("http://odd", "http://sound"))
    health = Health(replicas, asked, 0.002)  # type: ignore[arg-type]
    for_a_while(world, health.run, lambda: asked.count.get("http://sound", 0) >= 3)
    known = dict(replicas.known())
    assert (known["http://sound"].is_up, known["http://sound"].models) == (True, {"old-model"})
    assert not known["http://odd"].is_up


def test_budgets_are_written_again_after_a_write_that_broke(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Keys):
        asked = 0

        def spent(self) -> dict[str, dict[str, float]]:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("dictionary changed size during iteration")
            return {"ada": {"tokens_per_day": 3.0}}

    keys = Odd(True, lambda: 0.0, lambda: 0.0)
    kept = BudgetFile(tmp_path / "budgets.json", keys)
    for_a_while(world, lambda: kept.run(every_s=0.002), (tmp_path / "budgets.json").exists)
    assert "changed size" in caplog.text


def test_an_answer_that_cannot_be_sent_to_the_other_process_is_an_error_there_and_the_link_stays(world: World) -> None:
    async def later(_: Any) -> Any:
        return object()

    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        asking = await linked(ours, {})
        asked = await linked(theirs, {"odd": lambda _: object(), "later": later, "good": lambda _: 1})
        tasks = [asyncio.create_task(link.run()) for link in (asking, asked)]
        for name in ("odd", "later"):
            with pytest.raises(LinkError, match="not JSON serializable"):
                await asking.call(name, None, 5.0)
        assert await asking.call("good", None, 5.0) == 1
        for task in tasks:
            task.cancel()

    world.do(scenario())


ODD_URLS = {
    "http://127.0.0.1:8100/v1": "write http://127.0.0.1:8100",
    "https://models.example/eu/v1/": "write https://models.example/eu",
    "127.0.0.1:8100": "e.g. http://127.0.0.1:8100",
    "localhost:8100": "e.g. http://localhost:8100",
    "ftp://127.0.0.1:8100": "e.g. http://127.0.0.1:8100",
    "http://me:secret@127.0.0.1:8100": "SLIPWAY_VLLM_API_KEY",
    "http://127.0.0.1:8100?a=b": "write http://127.0.0.1:8100",
    "http://модель:8100": "http://xn--d1acsbk1g:8100",
    "http://127.0.0.1:8100/модель": "http://127.0.0.1:8100",
    "http://127.0.0.1:8100/caf\xe9": "http://127.0.0.1:8100",
    f"http://{'x' * 64}.example:8100": "http://127.0.0.1:8100",
    "http://models..example:8100": "http://127.0.0.1:8100",
}


@pytest.mark.parametrize(("url", "cure"), ODD_URLS.items())
def test_a_base_url_that_cannot_be_asked_is_refused_with_one_that_can(url: str, cure: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_table(table_for("http://odd").model_dump_json().replace("http://odd", url).encode())
    said = refused.value.render()
    assert "routes.tutor.variants.old.upstreams" in said
    assert "is no base URL" in said
    assert cure in said


def odd_gateway(world: World, table: RoutingTable, odd: str = "new") -> Any:
    """A gateway whose code cannot cope with what this variant says."""
    running = world.gateway(table)
    asking, streaming = running.gateway.upstreams.ask, running.gateway.upstreams.stream

    async def ask(call: Any, variant: Any, attempt: Any) -> Any:
        if attempt.variant == odd:
            raise RuntimeError("the code is wrong")
        return await (streaming if call.stream else asking)(call, variant, attempt)

    running.gateway.upstreams.ask = running.gateway.upstreams.stream = ask
    return running


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_gateways_own_is_on_record_as_its_own_and_stable_takes_over(
    world: World, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    running = odd_gateway(world, table_for(world.upstream().url, **all_to_new()))
    assert running.said(stream=stream).strip() == "I am old-model"
    odd, taken = running.wait_for_records(2)
    assert (odd.variant, odd.ok, odd.error, odd.user_ok) == ("new", True, "internal_error", True)
    assert (taken.variant, taken.role, taken.ok) == ("old", "failover", True)
    assert "the code is wrong" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_the_gateways_own_that_nobody_makes_good_is_told_and_counted(
    world: World, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    running = odd_gateway(world, table_for(world.upstream().url), "old")
    response = running.ask(stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    (record,) = running.wait_for_records(1)
    assert (record.ok, record.error, record.user_ok) == (True, "internal_error", False)
    assert 'slipway_refused_total{code="internal_error"} 1.0' in running.metrics()
    assert "the code is wrong" in caplog.text


def test_after_the_first_word_a_fault_of_the_gateways_own_breaks_the_stream_and_nobody_takes_over(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url, **all_to_new()))
    streaming = running.gateway.upstreams.stream

    async def breaks_later(*about: Any) -> Any:
        stream = await streaming(*about)
        relay = stream.relay

        async def broken(client: Any, timeout_s: float) -> None:
            await relay(client, timeout_s)
            raise RuntimeError("the code is wrong")

        stream.relay = broken  # type: ignore[method-assign]
        return stream

    running.gateway.upstreams.stream = breaks_later  # type: ignore[method-assign]
    with pytest.raises(httpx.RemoteProtocolError):
        running.ask(stream=True)
    (record,) = running.wait_for_records(1)
    assert (record.variant, record.ok, record.error, record.user_ok) == ("new", True, "internal_error", False)
    assert not stub.asked("old-model")


def test_a_copy_that_breaks_the_gateways_code_is_on_record_as_that(world: World) -> None:
    running = odd_gateway(world, table_for(world.upstream().url, **WITH_SHADOW))
    assert running.said() == "I am old-model"
    (copy,) = [record for record in running.wait_for_records(2) if record.role == "mirror"]
    assert (copy.ok, copy.error, copy.user_ok) == (True, "internal_error", True)


REFUSED: dict[str, tuple[bytes, str]] = {
    "an unknown path": (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "no_such_path"),
    "another method": (b"PUT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "method_not_allowed"),
    "an unknown model": (b"GET /v1/models/other HTTP/1.1\r\nHost: x\r\n\r\n", "model_not_found"),
    "no key": (b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "invalid_api_key"),
    "no key for one model": (b"GET /v1/models/tutor HTTP/1.1\r\nHost: x\r\n\r\n", "invalid_api_key"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "invalid_http"),
    "a long head": (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", "head_too_large"),
}


@pytest.mark.parametrize(("request_", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_every_refusal_is_counted_by_its_code(world: World, tmp_path: Path, request_: bytes, code: str) -> None:
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"keys: [{{name: ada, sha256: ['{'0' * 64}']}}]")
    running = world.gateway(table_for("http://a"), api_keys=keys if code == "invalid_api_key" else None)
    with socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10) as connection:
        connection.sendall(request_)
        assert code.encode() in connection.recv(65536)
    assert f'slipway_refused_total{{code="{code}"}} 1.0' in running.metrics()
