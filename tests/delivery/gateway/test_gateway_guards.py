"""What an attacker may try on the users' listener: nothing comes of it upstream, and the gateway stays up."""

import json
import socket
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from gateway_world import CHAT, TOKEN, Running, World, eventually, table_for
from stub_upstream import hangs

from delivery.gateway.bodies import Bodies

BODY = b'{"model": "tutor", "messages": [{"role": "user", "content": "Hi"}]}'
FORBIDDEN = [
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/chat/completions/../../v1/load_lora_adapter",
    "/v1/chat/completions/..%2f..%2fv1%2fload_lora_adapter",
    "/v1/chat/%2e%2e/load_lora_adapter",
    "//v1/load_lora_adapter",
    "/v1/chat/completions/",
    "/V1/chat/completions",
    "/v1/chat/completions;/v1/load_lora_adapter",
    "/v1/models/../load_lora_adapter",
    "/pooling",
    "/tokenize",
    "/metrics",
    "/admin/table",
    "/sleep",
    "/invocations",
]


def raw(running: Running, *parts: bytes, timeout: float = 5.0) -> bytes:
    """What comes back for these bytes, until the gateway closes or falls silent."""
    with socket.create_connection(("127.0.0.1", running.gateway.port), timeout=timeout) as connection:
        got = b""
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                got += data
                if b"\r\n\r\n" in got and b"Connection: close" not in got and not parts[-1].endswith(b"..."):
                    break
        except (TimeoutError, ConnectionError):
            pass
        return got


@pytest.mark.parametrize("path", FORBIDDEN)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_no_path_but_the_allowed_ones_leads_upstream(world: World, path: str, method: str) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url), health_interval_s=60)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    answer = raw(running, head.encode() + BODY)
    assert answer.split(b" ")[1] in (b"400", b"404", b"405"), answer
    assert not stub.seen


def test_a_whole_url_in_the_request_line_changes_nothing_about_where_it_goes(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    line = b"POST http://127.0.0.1:1/v1/chat/completions?x=/v1/load_lora_adapter HTTP/1.1\r\nHost: evil\r\n"
    answer = raw(running, line + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert b" 200 " in answer.split(b"\r\n")[0]
    assert [seen.path for seen in stub.seen] == ["/v1/chat/completions"]
    assert "evil" not in str(stub.seen)


def test_a_model_is_never_asked_for_by_the_name_that_it_has_upstream(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    for name in ("old-model", "new-model", "old", "tutor/../new-model", "tutor\x00", "TUTOR", "base"):
        response = running.ask(model=name)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"
    assert not stub.seen


@pytest.mark.parametrize(
    "name", ["lora_request", "lora_name", "lora_path", "adapter", "kv_transfer_params", "vllm_xargs"]
)
def test_no_parameter_chooses_an_adapter(world: World, name: str) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    assert running.ask(**{name: "new-model"}).json()["error"]["code"] == "unknown_parameter"
    assert not stub.seen


def test_the_header_of_one_gateway_chooses_nothing_at_another(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    headers = {"x-slipway-variant": "new", "x-slipway-request-id": "mine"}
    response = running.http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert response.headers["x-slipway-variant"] == "old"
    assert response.headers["x-slipway-request-id"] != "mine"


def test_a_body_beyond_the_limit_is_refused_by_its_announced_and_by_its_true_length(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url), max_body_bytes=10_000)
    big = [{"role": "user", "content": "x" * 20_000}]
    response = running.ask(messages=big)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")

    def endless() -> bytes:
        return b"x" * 1_000

    chunked = running.http.post("/v1/chat/completions", content=(endless() for _ in range(100)))
    assert chunked.status_code == 413
    assert not stub.seen


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-slipway-user: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(500)) + b"\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFF\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    ],
    ids=["long header", "many headers", "long path", "two lengths", "two contents", "negative", "huge chunk", "TLS"],
)
def test_a_head_that_no_honest_client_sends_is_refused(world: World, head: bytes) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    answer = raw(running, head)
    assert answer.split(b" ")[1] in (b"400", b"431") if answer else True, answer
    assert not stub.seen
    assert running.ask().status_code == 200


def test_a_connection_on_which_the_head_never_ends_is_closed(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url), idle_connection_s=0.3)
    for head in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: a..."):
        with socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100) == b""


def test_a_body_that_trickles_is_given_up(world: World) -> None:
    stub = world.upstream()
    running = world.gateway(table_for(stub.url))
    running.gateway.proxy.bodies = Bodies(10_000, timeout_s=0.2)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + BODY
    answer = raw(running, head)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"body_timeout" in answer
    assert not stub.seen


def test_more_requests_than_can_be_under_way_are_turned_away_at_once(world: World) -> None:
    stub = world.upstream(**{"old-model": hangs})
    running = world.gateway(table_for(stub.url), max_in_flight=2)

    def ask(_: int) -> int:
        try:
            return httpx.post(running.url + "/v1/chat/completions", json=CHAT, timeout=3.0).status_code
        except httpx.ReadTimeout:
            return 0

    with ThreadPoolExecutor(2) as pool:
        held = pool.map(ask, range(2))
        eventually(lambda: len(stub.seen) == 2)
        response = running.ask()
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert set(held) == {0}


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "gzip;q=1.0", "identity, gzip", "deflate"])
def test_a_compressed_body_is_read_however_its_coding_is_spelled(world: World, coding: str) -> None:
    running = world.gateway(table_for(world.upstream().url))
    packed = zlib.compress(json.dumps(CHAT).encode(), wbits=15 if coding == "deflate" else 31)
    response = running.http.post("/v1/chat/completions", content=packed, headers={"Content-Encoding": coding})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        ("gzip", zlib.compress(b" " * 5_000_000, wbits=31), 413),
        ("gzip", b"\x1f\x8b" + b"\0" * 99, 400),
        ("gzip", zlib.compress(b"{}", wbits=31)[:-4], 400),
        ("br", b"x", 415),
        ("gzip, gzip", zlib.compress(zlib.compress(b" " * 5_000_000, wbits=31), wbits=31), 413),
    ],
)
def test_a_compressed_body_unfolds_to_no_more_than_a_body_may_have(
    world: World, coding: str, body: bytes, status: int
) -> None:
    stub = world.upstream()
    headers = {"Content-Encoding": coding}
    running = world.gateway(table_for(stub.url))
    assert running.http.post("/v1/chat/completions", content=body, headers=headers).status_code == status
    assert not stub.seen


def test_small_values_beyond_all_measure_are_refused_and_a_text_full_of_commas_is_not(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    many = b'{"model": "tutor", "messages": [' + b"[]," * 100_000 + b"[]]}"
    assert running.http.post("/v1/chat/completions", content=many).status_code == 413
    text = '",[{\\' * 60_000
    assert running.ask(messages=[{"role": "user", "content": text}]).status_code == 200


def test_failed_log_ins_are_counted_and_answered_later_the_more_they_are(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))

    def ask(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(running.admin_url + "/admin/table", headers=headers, timeout=60).status_code

    assert [ask("wrong") for _ in range(5)] == [401] * 5
    began = time.monotonic()
    assert ask("wrong") == 401
    assert time.monotonic() - began > 0.9
    assert ask(TOKEN) == 200
    assert "slipway_admin_failed_logins_total 6" in running.metrics()


def test_deeply_nested_json_is_a_clients_error(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    nested = b'{"model": "tutor", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert running.http.post("/v1/chat/completions", content=nested).status_code in (400, 413)


def test_the_admin_token_opens_nothing_on_the_users_side(world: World) -> None:
    running = world.gateway(table_for(world.upstream().url))
    for path in ("/admin/table", "/admin/records", "/admin/lease", "/admin/upstreams", "/metrics"):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert running.http.get(path, headers=headers).status_code == 404
