"""A Git repository that others write to as well: one file changed at a time, on top of what is there now, or reverted.

Git itself does the work, so whatever opens the repository for `git` opens it here: an ssh key, a credential helper, or
SLIPWAY_GIT_TOKEN for https. Nothing of it is ever shown.
"""

import base64
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configs.errors import SlipwayError

TOKEN = "SLIPWAY_GIT_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT_S = 30.0
TRIES = 5  # pushes that somebody else may be faster than
RELEASE, REVERTS = "Slipway-Release", "Slipway-Reverts"  # trailers: a release's id
OF_ANOTHER = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"}  # where slipway itself is called
AWAY = ("Could not resolve host", "unable to access", "Connection refused", "does not appear to be a git repository")
MOVED = ("non-fast-forward", "fetch first", "cannot lock ref", "incorrect old value", "failed to update ref")
SECRET = re.compile(r"(?<=://)[^/@\s]+@")

Edit = Callable[[str], str]


class GitError(SlipwayError):
    """Something about the repository that people have to see to."""


class GitAwayError(GitError):
    """It was not reached; asking again later may do."""


class GitRefusedError(GitError):
    """It was reached and took nothing: a protected branch, a hook, or no right to write."""


@dataclass(frozen=True)
class GitCommit:
    """One of a branch: the release that it belongs to, or that it takes back; empty for others' commits."""

    sha: str
    subject: str
    release: str = ""
    reverts: str = ""


@dataclass(frozen=True)
class Author:
    """Who stands in a commit."""

    name: str = "slipway"
    email: str = "slipway@localhost"


@dataclass(frozen=True)
class GitRepository:
    """One branch of a repository. Each call works on a fresh copy of it: nothing of an earlier one is in its way."""

    url: str
    branch: str = "main"
    author: Author = Author()

    def read(self, path: str) -> str | None:
        """A file's text on the branch now; None without the file."""
        with self._copy() as copy:
            return copy.read(path)

    def change(self, path: str, change: Edit, message: str) -> GitCommit | None:
        """Commits what `change` makes of the file's text; None when that is what is there.

        When somebody else was faster, `change` is asked again about what is there by then: it refuses by raising.
        """

        def work(copy: "_Copy") -> None:
            before = copy.read(path)
            after = change(before or "")
            if after != before:
                copy.write(path, after)
                copy.git("add", "--", path)
                copy.git("commit", "--quiet", "--message", message)

        return self._pushed(work)

    def revert(self, path: str, release: str, message: str, then: Edit = lambda text: text) -> GitCommit | None:
        """Takes back all that a release committed to this file, newest first, as one commit; None: nothing is left.

        `then`: what else that commit does to the file's text.
        GitError when later commits changed the same lines: nobody's work is overwritten.
        """

        def work(copy: "_Copy") -> None:
            there = standing(copy.commits(path), release)
            for commit in there:
                done = copy.run("revert", "--no-commit", commit.sha)
                if done.returncode != 0:
                    raise GitError(
                        f"commit {commit.sha[:12]} cannot be reverted: {path} was changed there since",
                        where=self.place,
                        cure="take it back by hand, or serve the base model: it needs no revert",
                    )
            reverted = copy.read(path) if there else None
            if reverted is not None:
                copy.write(path, then(reverted))
                copy.git("add", "--", path)
            if copy.run("diff", "--cached", "--quiet").returncode != 0:
                copy.git("commit", "--quiet", "--message", message)

        return self._pushed(work)

    def commits(self, path: str) -> list[GitCommit]:
        """Those that changed a file, newest first."""
        with self._copy() as copy:
            return copy.commits(path)

    @property
    def place(self) -> str:
        """For people, without what may be secret in it."""
        return f"{SECRET.sub('', self.url)}, branch {self.branch}"

    def _pushed(self, work: Callable[["_Copy"], None]) -> GitCommit | None:
        """What `work` commits, on top of what is there now."""
        for _ in range(TRIES):
            with self._copy() as copy:
                before = copy.git("rev-parse", "HEAD")
                work(copy)
                made = copy.git("rev-parse", "HEAD")
                if made == before:
                    return None
                done = copy.run("push", "--quiet", "origin", f"HEAD:refs/heads/{self.branch}")
                if done.returncode == 0:
                    return GitCommit(made, copy.git("log", "-1", "--format=%s"))
                if not any(word in done.stderr for word in MOVED):
                    raise self._refused(done.stderr)
        raise GitRefusedError(
            f"others pushed to the branch before us, {TRIES} times",
            where=self.place,
            cure="give the same command again; nothing was committed",
        )

    @contextmanager
    def _copy(self) -> Iterator["_Copy"]:
        with tempfile.TemporaryDirectory(prefix="slipway-git-") as folder:
            copy = _Copy(Path(folder) / "copy", self)
            words = ("clone", "--quiet", "--single-branch", "--branch", self.branch, "--", self.url, str(copy.folder))
            done = _run(words, Path(folder), self._env())
            if done.returncode != 0:
                raise self._away(done.stderr)
            yield copy

    def _env(self) -> dict[str, str]:
        """No questions to a terminal, no transport that starts programs, and the token as a header that no log has."""
        said = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:https:http:ssh",
            "GIT_AUTHOR_NAME": self.author.name,
            "GIT_AUTHOR_EMAIL": self.author.email,
            "GIT_COMMITTER_NAME": self.author.name,
            "GIT_COMMITTER_EMAIL": self.author.email,
            "LC_ALL": "C",
        }
        token = os.environ.get(TOKEN, "").strip()
        if token and self.url.startswith("https://"):
            basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            said |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "http.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
            }
        return {name: value for name, value in os.environ.items() if name not in OF_ANOTHER} | said

    def _away(self, said: str) -> GitError:
        if "Remote branch" in said:
            return GitError(f"there is no branch {self.branch}", where=self.place, cure="make it, or name another one")
        if any(word in said for word in ("Authentication failed", "Permission denied", "could not read Username")):
            return GitError(
                f"the repository lets us not in: {_last(said)}",
                where=self.place,
                cure=f"give git a way in: an ssh key, a credential helper, or {TOKEN} for https",
            )
        return GitAwayError(
            f"the repository was not reached: {_last(said)}",
            where=self.place,
            cure="nothing was committed; give the same command again when it is there",
        )

    def _refused(self, said: str) -> GitError:
        if any(word in said for word in AWAY):
            return self._away(said)
        return GitRefusedError(
            f"the push was refused: {_last(said)}",
            where=self.place,
            cure="nothing was committed; let this user push to the branch, or name one that it may push to",
        )


def standing(commits: Sequence[GitCommit], release: str) -> list[GitCommit]:
    """Of these, newest first, what the release changed since its last revert: reverting twice takes nothing else."""
    found = []
    for commit in commits:
        if commit.reverts == release:
            break
        if commit.release == release:
            found.append(commit)
    return found


@dataclass(frozen=True)
class _Copy:
    """A clone of one branch."""

    folder: Path
    repository: GitRepository

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return _run(words, self.folder, self.repository._env())

    def git(self, *words: str) -> str:
        done = self.run(*words)
        if done.returncode != 0:
            raise GitError(f"git {words[0]} failed: {_last(done.stderr)}", where=self.repository.place)
        return done.stdout.strip()

    def read(self, path: str) -> str | None:
        file = self.folder / path
        if file.is_symlink():
            raise GitError(f"{path} is a link", where=self.repository.place, cure="put the file itself there")
        return file.read_text(encoding="utf-8") if file.exists() else None

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def commits(self, path: str) -> list[GitCommit]:
        trailers = "%x1f".join(f"%(trailers:key={key},valueonly,separator=%x20)" for key in (RELEASE, REVERTS))
        lines = self.git("log", f"--format=%H%x1f%s%x1f{trailers}", "--", path).splitlines()
        return [GitCommit(*(part.strip() for part in line.split("\x1f"))) for line in lines]


def _run(words: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    command = ["git", "-c", "core.hooksPath=/dev/null", *words]
    try:
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise GitAwayError(f"git {words[0]} took over {TIMEOUT_S:g} s", cure="give the same command again") from error
    except OSError as error:
        raise GitError(f"git does not start: {error.strerror}", cure="install git") from error


def _last(said: str) -> str:
    """The line that says why, without addresses that may hold a password."""
    lines = [line.strip() for line in SECRET.sub("", said).splitlines() if line.strip()]
    telling = [line for line in lines if "remote:" in line or "fatal:" in line or "rejected" in line]
    return " ".join((telling or lines or ["git said nothing"])[:3])
