"""The demo clears nothing that it did not make, and nothing before it is known that it can start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from configs.errors import SlipwayError
from demo import home as demo_home


def refused() -> None:
    raise SlipwayError("port 8000 is in use")


def ready() -> None:
    return None


def filled(folder: Path) -> dict[str, str]:
    """As a state folder in use: an earlier summary, a read-only adapter, the base model."""
    for name in ("summary.json", "adapters/1/adapter.safetensors", "models/base/weights", "environments/local/ledger"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "adapters" / "1").chmod(0o555)
    return contents(folder)


def contents(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_folder_that_no_demo_made_is_refused_untouched(tmp_path: Path) -> None:
    before = filled(tmp_path)
    stopped: list[int] = []
    with pytest.raises(SlipwayError, match="no demo made it") as error:
        demo_home.start_afresh(tmp_path, [ready], lambda: stopped.append(1))
    assert str(tmp_path) in str(error.value)
    assert "--home" in error.value.cure
    assert contents(tmp_path) == before
    assert stopped == []


@pytest.mark.parametrize("name", ["new", "deep/new", "empty"])
def test_a_new_or_empty_folder_becomes_a_demos(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    demo_home.start_afresh(tmp_path / name, [ready], ready)
    assert list(contents(tmp_path / name)) == [demo_home.MARKER]


def test_a_demos_folder_is_cleared_but_for_the_base_model(tmp_path: Path) -> None:
    demo_home.start_afresh(tmp_path, [ready], ready)
    filled(tmp_path)
    demo_home.start_afresh(tmp_path, [ready], ready)
    assert set(contents(tmp_path)) == {demo_home.MARKER, "models/base/weights"}


def test_a_folder_of_the_demo_before_there_was_a_marker_is_known_by_its_prefect_server(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "environments" / "local" / "prefect").mkdir()
    demo_home.start_afresh(tmp_path, [ready], ready)
    assert set(contents(tmp_path)) == {demo_home.MARKER, "models/base/weights"}


def test_a_demo_that_cannot_start_leaves_the_last_one_as_it_is_and_may_be_tried_again(tmp_path: Path) -> None:
    demo_home.start_afresh(tmp_path, [ready], ready)
    before = contents(tmp_path) | filled(tmp_path)
    with pytest.raises(SlipwayError, match="port 8000"):
        demo_home.start_afresh(tmp_path, [refused], ready)
    assert contents(tmp_path) == before
    with pytest.raises(SlipwayError, match="port 8000"):
        demo_home.start_afresh(tmp_path / "new", [refused, lambda: (tmp_path / "new" / "ledger").touch()], ready)
    demo_home.start_afresh(tmp_path / "new", [ready], ready)


def test_what_an_earlier_demo_left_running_is_ended_before_its_files_go(tmp_path: Path) -> None:
    demo_home.start_afresh(tmp_path, [ready], ready)
    before = contents(tmp_path) | filled(tmp_path)
    seen: list[dict[str, str]] = []
    look: Callable[[], None] = lambda: seen.append(contents(tmp_path))  # noqa: E731
    demo_home.start_afresh(tmp_path, [ready], look)
    assert seen == [before]


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SlipwayError, match="is a file"):
        demo_home.start_afresh(tmp_path / "file", [ready], ready)
