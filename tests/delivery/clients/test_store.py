"""Items go to a store and come back whole or not at all: on a shared folder, and on an S3 server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from s3_server import S3Server, s3_server

from configs.environment import Environment
from configs.store import StoreConfig
from delivery.clients.processes.ports import free_ports
from delivery.clients.store.errors import DamagedError, StoreAwayError, StoreError
from delivery.clients.store.items import Store


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as there:
        yield there


@pytest.fixture(params=["file", "s3"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> StoreConfig:
    if request.param == "file":
        return StoreConfig(url=f"file://{tmp_path}/shared")
    return request.getfixturevalue("server").bucket()


@pytest.fixture
def store(config: StoreConfig) -> Store:
    return Store(config)


def item(folder: Path, **files: str) -> tuple[Path, list[Path]]:
    """A folder with these files, dots for slashes."""
    paths = [folder / name.replace("__", "/") for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder, paths


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def paths_there(config: StoreConfig) -> list[str]:
    return list(Store(config)._files.find(config.root))


def test_an_item_comes_back_as_it_was_put_there(store: Store, tmp_path: Path) -> None:
    store.require()
    folder, files = item(tmp_path / "a", one="1", deep__er__two="2", empty="")
    assert store.put("datasets", "abc", folder, files) == 3
    assert store.names("datasets") == ("abc",)
    assert store.fetch("datasets", "abc", tmp_path / "back", read_only=True)
    assert content(tmp_path / "back") == content(folder)
    assert (tmp_path / "back").stat().st_mode & 0o222 == 0
    assert store.put("datasets", "abc", folder, files) == 0


def test_what_is_not_there_is_not_fetched_and_nothing_here_is_touched(store: Store, tmp_path: Path) -> None:
    item(tmp_path / "here", mine="x")
    assert not store.fetch("datasets", "abc", tmp_path / "here", read_only=False)
    assert content(tmp_path / "here") == {"mine": "x"}
    assert store.names("datasets") == ()


def test_an_item_that_changes_sends_what_is_new_and_leaves_nothing_old_behind(
    store: Store, config: StoreConfig, tmp_path: Path
) -> None:
    folder, files = item(tmp_path / "a", log="first", weights="w")
    store.put("trainings", "t", folder, files)
    (folder / "log").write_text("second")
    assert store.put("trainings", "t", folder, files) == 1
    assert len(paths_there(config)) == 3  # two files and the index
    store.fetch("trainings", "t", tmp_path / "back", read_only=False)
    assert content(tmp_path / "back") == {"log": "second", "weights": "w"}


def test_what_a_killed_run_left_half_written_counts_as_nothing_and_is_completed(
    store: Store, config: StoreConfig, tmp_path: Path
) -> None:
    folder, files = item(tmp_path / "a", one="1", two="22")
    store.put("bundles", "b", folder, files)
    there = store._files
    index = f"{config.root}/bundles/b/index.json"
    there.rm_file(index)  # killed before its last act
    blobs = sorted(there.find(f"{config.root}/bundles/b"))
    there.pipe_file(blobs[0], b"")  # and a shared folder shows what is written by halves
    assert store.names("bundles") == ()
    assert not store.fetch("bundles", "b", tmp_path / "back", read_only=False)
    assert store.put("bundles", "b", folder, files) == 1
    assert store.fetch("bundles", "b", tmp_path / "back", read_only=False)
    there.pipe_file(index, there.cat_file(index)[:20])
    assert not store.fetch("bundles", "b", tmp_path / "again", read_only=False)
    store.put("bundles", "b", folder, files)
    assert store.fetch("bundles", "b", tmp_path / "again", read_only=False)


def test_other_bytes_and_missing_files_are_refused_and_leave_what_is_here(
    store: Store, config: StoreConfig, tmp_path: Path
) -> None:
    folder, files = item(tmp_path / "a", weights="right")
    store.put("adapters", "x", folder, files)
    (blob,) = store._files.find(f"{config.root}/adapters/x/files")
    store._files.pipe_file(blob, b"wrong")
    item(tmp_path / "here", weights="mine")
    with pytest.raises(DamagedError, match="other bytes for weights"):
        store.fetch("adapters", "x", tmp_path / "here", read_only=True)
    store._files.rm_file(blob)
    with pytest.raises(DamagedError, match="did not give weights"):
        store.fetch("adapters", "x", tmp_path / "here", read_only=True)
    assert content(tmp_path / "here") == {"weights": "mine"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".building")] == []


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../out", "./a", "."])
def test_an_index_that_leads_out_of_its_item_counts_as_none(tmp_path: Path, name: str) -> None:
    config = StoreConfig(url=f"file://{tmp_path}/shared")
    store = Store(config)
    digest = "sha256:" + "0" * 64
    lie = {"format": 1, "files": {name: {"digest": digest, "size": 1}}}
    folder, files = item(tmp_path / "a", one="1")
    store.put("adapters", "x", folder, files)
    store._files.pipe_file(f"{config.root}/adapters/x/index.json", json.dumps(lie).encode())
    assert not store.fetch("adapters", "x", tmp_path / "here" / "deep", read_only=True)
    assert not (tmp_path / "here").exists()


def test_a_bucket_that_is_not_there_is_named(server: S3Server) -> None:
    store = Store(StoreConfig(url="s3://no-such-bucket/team", endpoint_url=server.url, tries=1))
    with pytest.raises(StoreError, match="bucket does not exist") as told:
        store.require()
    assert "make the bucket" in told.value.cure
    with pytest.raises(StoreError, match="bucket does not exist"):
        store.fetch("bundles", "b", Path("nowhere"), read_only=True)


def test_wrong_credentials_are_told_without_repeating_them(server: S3Server, tmp_path: Path) -> None:
    config = server.bucket()
    with server.checking_logins():
        with pytest.raises(StoreError, match="Access Key Id you provided does not exist") as told:
            Store(config).require()
        assert "AWS_ACCESS_KEY_ID" in told.value.cure
        assert "a-secret-of-tests" not in told.value.render()
    Store(config).require()


def test_no_credentials_are_told(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = server.bucket().model_copy(update={"timeout_s": 4})  # a client of its own, which has not logged in yet
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="no login"):
        Store(config).require()


def test_a_server_that_is_away_is_told_and_may_be_asked_again(tmp_path: Path, server: S3Server) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    store = Store(StoreConfig(url="s3://bucket/team", endpoint_url=url, timeout_s=2, tries=1))
    with pytest.raises(StoreAwayError, match="Could not connect") as told:
        store.require()
    assert "nothing was lost" in told.value.cure


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://user:secret@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("s3://Bucket", "no store"),
        ("gs://bucket", "no store"),
        ("file://relative", "no store"),
        ("file:///a/../b", "no store"),
        ("/mnt/x", "no store"),
        ("", "no store"),
    ],
)
def test_a_place_that_is_no_store_is_refused_where_it_is_typed(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        StoreConfig(url=url)


def test_a_store_wants_a_ledger_that_outlives_the_machine() -> None:
    with pytest.raises(ValidationError, match="name ledger_url"):
        Environment(store=StoreConfig(url="s3://bucket/team"))
