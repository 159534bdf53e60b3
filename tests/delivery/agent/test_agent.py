"""An agent over real HTTP: what it takes in, and what it says of the bytes that are there."""

import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.tiny_bundle import write_tiny_lora
from configs.canonical import short
from configs.errors import SlipwayError
from delivery.agent.__main__ import main
from delivery.agent.folder import take_in, wrong_in
from delivery.agent.server import Agent
from delivery.clients.agent import AgentClient, AgentError
from delivery.clients.bundles.adapters import describe, store_at

TOKEN = "an-agent-token"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder that is named by its digest."""
    write_tiny_lora(tmp_path / "made", 1)
    found = describe(tmp_path / "made")
    return store_at(tmp_path / "made", found, tmp_path / short(found.digest))


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with _running(tmp_path / "kept", writable=True) as found:
        yield found


class _running:  # noqa: N801 - reads as a sentence
    def __init__(self, folder: Path, *, writable: bool):
        folder.mkdir(exist_ok=True)
        self.agent = Agent(("127.0.0.1", 0), folder, TOKEN, writable=writable)
        self.thread = threading.Thread(target=self.agent.serve_forever)

    def __enter__(self) -> Agent:
        self.thread.start()
        return self.agent

    def __exit__(self, *error: object) -> None:
        self.agent.shutdown()
        self.agent.server_close()
        self.thread.join()


def url(agent: Agent) -> str:
    return f"http://127.0.0.1:{agent.server_address[1]}"


def test_an_adapter_that_is_sent_is_there_with_its_digest_and_can_be_sent_again(agent: Agent, adapter: Path) -> None:
    with AgentClient(url(agent), TOKEN) as client:
        assert client.digest(adapter.name) is None
        for _ in range(2):
            assert client.send(adapter.name, adapter) == describe(adapter).digest
        assert client.digest(adapter.name) == describe(adapter).digest
    kept = agent.folder / adapter.name
    assert sorted(path.name for path in kept.iterdir()) == sorted(path.name for path in adapter.iterdir())
    assert not kept.stat().st_mode & 0o222


def test_a_flipped_byte_is_found_when_it_is_asked_for_and_not_only_when_it_came(agent: Agent, adapter: Path) -> None:
    with AgentClient(url(agent), TOKEN) as client:
        client.send(adapter.name, adapter)
        file = agent.folder / adapter.name / "adapter_model.safetensors"
        file.chmod(0o644)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(AgentError, match=f"the bytes under {adapter.name} are those of adapter"):
            client.digest(adapter.name)


def test_what_is_sent_under_another_name_is_refused_and_leaves_nothing(agent: Agent, adapter: Path) -> None:
    with AgentClient(url(agent), TOKEN) as client, pytest.raises(AgentError, match="what came as 0123456789ab is"):
        client.send("0123456789ab", adapter)
    assert list(agent.folder.iterdir()) == []


@pytest.mark.parametrize("token", ["", "Bearer", TOKEN, "Bearer another", f"Bearer {TOKEN}x"])
def test_without_the_token_nobody_reads_or_writes(agent: Agent, token: str) -> None:
    for method in ("GET", "PUT"):
        answer = httpx.request(method, f"{url(agent)}/adapters/0123456789ab", headers={"Authorization": token})
        assert answer.status_code == 401
    assert httpx.get(f"{url(agent)}/healthz").status_code == 200


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fetc", "0123", "ABCDEF012345", ""])
def test_a_name_that_is_no_digest_reaches_no_file(agent: Agent, name: str) -> None:
    answer = httpx.get(f"{url(agent)}/adapters/{name}", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code in (404, 409)


def test_where_a_volume_is_filled_by_others_nothing_is_taken_in(tmp_path: Path, adapter: Path) -> None:
    refused = pytest.raises(AgentError, match="adapters come by a volume here")
    with _running(tmp_path / "shared", writable=False) as agent, AgentClient(url(agent), TOKEN) as client, refused:
        client.send(adapter.name, adapter)


def packed(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = (len(data) if kind == tarfile.REGTYPE else 0), kind
            member.linkname = "/etc/passwd"
            tar.addfile(member, io.BytesIO(data))
    out.seek(0)
    return out


@pytest.mark.parametrize(
    "sent",
    [
        packed(("../adapter_config.json", b"{}")),
        packed(("/etc/cron.d/job", b"x")),
        packed(("adapter_config.json", b""), kind=tarfile.SYMTYPE),
        packed(("adapter_config.json", b""), kind=tarfile.LNKTYPE),
        packed(("adapter_model.bin", b"a pickle")),
        packed(("adapter_config.json", b"{}"), ("adapter_config.json", b"{}")),
        packed(("adapter_config.json", b"{}")),
        packed(("adapter_config.json", b"x" * 2000)),
        io.BytesIO(b"no tar at all" * 100),
        io.BytesIO(b""),
    ],
    ids=["up", "absolute", "link", "hard link", "pickle", "twice", "half", "large", "no tar", "nothing"],
)
def test_nothing_that_a_tar_could_do_happens(tmp_path: Path, sent: io.BytesIO) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with pytest.raises(SlipwayError):
        take_in(folder, "0123456789ab", sent, 1000)
    assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_a_folder_is_checked_as_a_whole_by_the_command_line(
    tmp_path: Path, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    store_at(adapter, describe(adapter), shared / adapter.name)
    assert main(["--folder", str(shared), "--check"]) == 0
    store_at(adapter, describe(adapter), shared / "0123456789ab")
    assert [problem.where for problem in wrong_in(shared)] == [str(shared / "0123456789ab")]
    assert main(["--folder", str(shared), "--check"]) == 1
    assert "are those of adapter" in capsys.readouterr().out


def test_an_agent_without_a_token_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_AGENT_TOKEN", raising=False)
    assert main(["--folder", str(tmp_path)]) == 2
