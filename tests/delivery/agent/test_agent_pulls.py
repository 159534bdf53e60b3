"""An agent that pulls by itself, over real HTTP from a registry that may lie: what it keeps, refuses and says."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from signed_bundles import AT, DAY, Owner, certificate_owner, key_owner, make_bundle, required, sign_layout
from stub_registry import Fault, StubRegistry, stub_registry

from configs.agent import AgentConfig
from configs.canonical import short
from configs.loading import as_yaml
from configs.registry import RegistryConfig, Signatures
from delivery.agent.__main__ import main
from delivery.agent.server import Agent
from delivery.build.bundle import Bundle
from delivery.clients.agent import AgentClient, AgentError
from delivery.clients.registry.push import push
from delivery.clients.registry.reference import parse
from delivery.clients.registry.wire import Wire

TOKEN = "an-agent-token"


@pytest.fixture
def registry() -> Iterator[StubRegistry]:
    with stub_registry() as found:
        yield found


def config_for(registry: StubRegistry, policy: Signatures | None = None) -> AgentConfig:
    there = RegistryConfig(repository=f"{registry.address}/team/adapters", timeout_s=0.2)
    return AgentConfig(registry=there, signatures=policy or Signatures())


@contextmanager
def agent_for(registry: StubRegistry, folder: Path, policy: Signatures | None = None) -> Iterator[AgentClient]:
    """An agent that listens, and a client of it."""
    folder.mkdir(exist_ok=True)
    agent = Agent(("127.0.0.1", 0), folder, TOKEN, writable=True, pulls=config_for(registry, policy))
    thread = threading.Thread(target=agent.serve_forever)
    thread.start()
    try:
        with AgentClient(f"http://127.0.0.1:{agent.server_address[1]}", TOKEN) as client:
            yield client
    finally:
        agent.shutdown()
        agent.server_close()
        thread.join()


def published(registry: StubRegistry, home: Path, *signed_by: Owner, number: int = 1) -> tuple[Bundle, str, str]:
    """A bundle in the registry: itself, its adapter's name, and its digest there."""
    bundle, layout = make_bundle(home, number=number)
    for owner in signed_by:
        sign_layout(layout, owner)
    wire = Wire(registry.address, environ={})
    there = push(wire, parse(f"{registry.address}/team/adapters:v{number}"), layout, home).reference
    assert bundle.adapter is not None
    return bundle, short(bundle.adapter.digest), str(there.digest)


def adapters_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_named_bundle_is_pulled_verified_and_its_adapter_alone_is_kept(registry, tmp_path):
    owner = key_owner(tmp_path)
    bundle, name, digest = published(registry, tmp_path / "home", owner)
    folder = tmp_path / "kept"
    with agent_for(registry, folder, required(team=owner)) as client:
        assert client.digest(name) is None
        for _ in range(2):
            assert client.pull(name, digest, AT) == bundle.adapter.digest
        assert client.digest(name) == bundle.adapter.digest
        assert client.refused() == {}
    assert adapters_in(folder) == [name]
    assert not (folder / name).stat().st_mode & 0o222
    left = [path for path in (folder / ".pulled").rglob("*") if path.is_file() and path.stat().st_size > 500]
    assert left == [], "the room is for adapters"


LIES = {
    "a flipped byte": ("/blobs/", Fault(flip=True)),
    "a swapped layer": ("/blobs/", Fault(instead=b"another layer" * 9_000)),
    "a swapped manifest": ("/manifests/sha256", Fault(instead=b"{}")),
}


@pytest.mark.parametrize(("what", "fault"), LIES.values(), ids=LIES.keys())
def test_what_is_not_what_was_asked_for_is_refused_with_the_reason_and_nothing_is_kept(registry, tmp_path, what, fault):
    _, name, digest = published(registry, tmp_path / "home")
    registry.fault = lambda method, path: fault if method == "GET" and what in path else None
    folder = tmp_path / "kept"
    with agent_for(registry, folder) as client:
        with pytest.raises(AgentError, match=r"the agent answers 422: .*the registry sends something else"):
            client.pull(name, digest, AT)
        assert client.digest(name) is None
        assert "the registry sends something else than was asked for" in client.refused()[name]
        registry.fault = lambda method, path: None
        client.pull(name, digest, AT)
        assert client.refused() == {}, "what was refused once is forgotten once it is there"
    assert adapters_in(folder) == [name]


def test_another_key_no_signature_and_a_signature_for_another_route_are_refused(registry, tmp_path):
    mine = key_owner(tmp_path, "mine")
    other_route = key_owner(tmp_path, "route", routes=("elsewhere",))
    unsigned = published(registry, tmp_path / "home", number=1)
    others = published(registry, tmp_path / "home", key_owner(tmp_path, "theirs"), number=2)
    elsewhere = published(registry, tmp_path / "home", other_route, number=3)
    folder = tmp_path / "kept"
    with agent_for(registry, folder, required(mine=mine, route=other_route)) as client:
        for (_, name, digest), why in (
            (unsigned, "no signature at all"),
            (others, "does not verify"),
            (elsewhere, "may sign elsewhere only"),
        ):
            with pytest.raises(AgentError, match=why):
                client.pull(name, digest, AT)
            assert why in client.refused()[name]
    assert adapters_in(folder) == []


def test_a_certificate_counts_as_of_the_time_that_is_asked_for(registry, tmp_path):
    owner = certificate_owner(tmp_path, days=(-1, 1))
    _, name, digest = published(registry, tmp_path / "home", owner)
    with agent_for(registry, tmp_path / "kept", required(team=owner)) as client:
        with pytest.raises(AgentError, match="expired on"):
            client.pull(name, digest, AT + 2 * DAY.total_seconds())
        client.pull(name, digest, AT)


def test_a_bundle_that_holds_another_adapter_than_was_asked_for_is_refused(registry, tmp_path):
    _, name, _ = published(registry, tmp_path / "home", number=1)
    _, other, digest = published(registry, tmp_path / "home", number=2)
    folder = tmp_path / "kept"
    with agent_for(registry, folder) as client, pytest.raises(AgentError, match=f"holds adapter {other}, not {name}"):
        client.pull(name, digest, AT)
    assert adapters_in(folder) == []


def test_a_registry_that_is_away_is_another_thing_than_a_refused_bundle(registry, tmp_path):
    _, name, digest = published(registry, tmp_path / "home")
    registry.fault = lambda method, path: Fault(status=404, body=b"{}")
    refused = pytest.raises(AgentError, match=r"the agent answers 502: .*does not have it")
    with agent_for(registry, tmp_path / "kept") as client, refused:
        client.pull(name, digest, AT)


def test_nothing_is_taken_that_is_sent_and_nothing_is_pulled_on_a_word_that_is_none(registry, tmp_path):
    _, name, digest = published(registry, tmp_path / "home")
    folder = tmp_path / "kept"
    with agent_for(registry, folder) as client:
        with pytest.raises(AgentError, match="adapters are pulled here, and are not sent"):
            client.send(name, tmp_path / "trained-1")
        url = f"{client._url}/adapters/{name}"
        authorised = {"Authorization": f"Bearer {TOKEN}"}
        for body in (b"", b"[]", b'{"digest": "../x", "as_of": 1}', b'{"digest": "%s"}' % digest.encode(), b"x" * 5000):
            assert httpx.post(url, content=body, headers=authorised).status_code == 400
        said = {"digest": digest, "as_of": AT}
        assert httpx.post(url, json=said).status_code == 401
        assert httpx.get(f"{client._url}/refused").status_code == 401
    assert adapters_in(folder) == []


def test_before_vllm_starts_the_named_bundles_are_there_or_the_last_line_says_why(registry, tmp_path, capsys):
    owner = key_owner(tmp_path)
    _, name, digest = published(registry, tmp_path / "home", owner, number=1)
    _, _, unsigned = published(registry, tmp_path / "home", number=2)
    file, folder = tmp_path / "agent.yaml", tmp_path / "kept"
    file.write_text(as_yaml(config_for(registry, required(team=owner))))
    words = ["--folder", str(folder), "--config", str(file)]
    assert main([*words, f"--pull={digest}"]) == 0
    assert adapters_in(folder) == [name]
    assert main([*words, f"--pull={digest}", f"--pull={unsigned}"]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"{unsigned}: bundle ")
    assert "no signature at all" in last


def test_an_agent_whose_file_names_no_registry_does_not_start(tmp_path, capsys):
    file = tmp_path / "agent.yaml"
    file.write_text("registry: {}\n")
    assert main(["--folder", str(tmp_path), "--config", str(file)]) == 2
    assert "registry.repository" in capsys.readouterr().err
