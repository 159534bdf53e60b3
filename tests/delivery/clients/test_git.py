"""A repository that others write to as well: nothing of theirs is lost, and what is refused is said."""

import os
import subprocess
from pathlib import Path

import pytest
from git_world import Origin, origin_in

from delivery.clients.git import GitAwayError, GitError, GitRefusedError, GitRepository

FILE = "environments/production/release.yaml"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return origin_in(tmp_path)


def repository(origin: Origin, branch: str = "main") -> GitRepository:
    return GitRepository(origin.url, branch)


def put(origin: Origin, text: str, message: str = "a step") -> None:
    assert repository(origin).change(FILE, lambda _: text, message) is not None


def step(text: str, release: str = "r1") -> str:
    return f"{text}\n\nSlipway-Release: {release}"


def test_a_change_is_a_commit_and_what_is_there_already_is_none(origin: Origin) -> None:
    put(origin, "a: 1\n", step("first"))
    assert origin.show(FILE) == "a: 1\n"
    assert repository(origin).change(FILE, lambda _: "a: 1\n", "again") is None
    [commit] = repository(origin).commits(FILE)
    assert (commit.subject, commit.release) == ("first", "r1")
    assert repository(origin).read("absent.yaml") is None


def test_somebody_who_was_faster_loses_nothing_and_the_change_is_made_on_top(origin: Origin) -> None:
    put(origin, "a: 1\n")
    seen = []

    def change(text: str) -> str:
        seen.append(text)
        if len(seen) == 1:  # while it works, another controller pushes
            origin.push(FILE, "a: 1\nb: 2\n")
        return text + "c: 3\n"

    repository(origin).change(FILE, change, "mine")
    assert seen == ["a: 1\n", "a: 1\nb: 2\n"]
    assert origin.show(FILE) == "a: 1\nb: 2\nc: 3\n"


def test_it_gives_up_after_some_tries_with_nothing_committed(origin: Origin) -> None:
    def change(text: str) -> str:
        origin.push("other.txt", os.urandom(4).hex())
        return text + "mine\n"

    with pytest.raises(GitRefusedError, match="pushed to the branch before us, 5 times"):
        repository(origin).change(FILE, change, "mine")
    assert repository(origin).read(FILE) is None


def test_a_protected_branch_is_said_in_its_own_words(origin: Origin) -> None:
    origin.protect("main is protected: open a pull request")
    with pytest.raises(GitRefusedError, match="main is protected: open a pull request") as raised:
        put(origin, "a: 1\n")
    assert "nothing was committed" in str(raised.value)
    assert origin.show(FILE) is None


def test_a_repository_that_is_away_or_has_no_such_branch_is_said(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(GitAwayError, match="was not reached"):
        GitRepository(f"file://{tmp_path}/nowhere.git").read(FILE)
    with pytest.raises(GitError, match="there is no branch release"):
        repository(origin, "release").read(FILE)


def test_a_password_in_an_address_is_shown_to_nobody() -> None:
    found = GitRepository("https://me:secret@127.0.0.1:1/x.git")
    with pytest.raises(GitAwayError) as raised:
        found.read(FILE)
    assert "secret" not in str(raised.value)
    assert "secret" not in found.place


def test_no_address_starts_a_program(tmp_path: Path) -> None:
    with pytest.raises(GitError):
        GitRepository(f"ext::sh -c touch% {tmp_path}/ran").read(FILE)
    assert not (tmp_path / "ran").exists()


def test_a_revert_takes_back_a_release_whole_and_nothing_of_others(origin: Origin) -> None:
    put(origin, "share: 0\n")
    put(origin, "share: 5\n", step("canary"))
    origin.push("other.txt", "others go on")
    put(origin, "share: 100\n", step("full"))
    revert = "take back\n\nSlipway-Reverts: r1"
    assert repository(origin).revert(FILE, "r1", revert) is not None
    assert origin.show(FILE) == "share: 0\n"
    assert origin.show("other.txt") == "others go on"
    assert repository(origin).revert(FILE, "r1", revert) is None
    put(origin, "share: 7\n", step("again"))
    assert repository(origin).revert(FILE, "r1", revert) is not None
    assert origin.show(FILE) == "share: 0\n"


def test_a_revert_over_somebody_elses_later_change_is_refused(origin: Origin) -> None:
    put(origin, "share: 0\n")
    put(origin, "share: 5\n", step("canary"))
    origin.push(FILE, "share: 50\n")
    with pytest.raises(GitError, match="was changed there since"):
        repository(origin).revert(FILE, "r1", "take back")
    assert origin.show(FILE) == "share: 50\n"


def test_a_link_is_not_followed_out_of_the_repository(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    origin.push_link(FILE, tmp_path / "secret")
    with pytest.raises(GitError, match="is a link"):
        repository(origin).read(FILE)


def test_hooks_and_settings_of_this_machine_do_not_run_in_the_copy(origin: Origin, tmp_path: Path) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (hooks / "pre-commit").chmod(0o755)
    subprocess.run(["git", "config", "--file", str(tmp_path / "config"), "core.hooksPath", str(hooks)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
        put(origin, "a: 1\n")
    assert not (tmp_path / "ran").exists()
