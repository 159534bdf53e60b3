"""A bare repository, and somebody else who pushes to it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ENV = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_AUTHOR_NAME": "somebody",
    "GIT_AUTHOR_EMAIL": "somebody@example.org",
    "GIT_COMMITTER_NAME": "somebody",
    "GIT_COMMITTER_EMAIL": "somebody@example.org",
}


@dataclass(frozen=True)
class Origin:
    """`bare` is what others clone; `work` is somebody's copy of it."""

    bare: Path
    work: Path

    @property
    def url(self) -> str:
        return f"file://{self.bare}"

    def show(self, path: str) -> str | None:
        """A file on the branch now."""
        done = _git(self.bare, "show", f"main:{path}", check=False)
        return done.stdout if done.returncode == 0 else None

    def log(self) -> list[str]:
        """Whole messages, newest first."""
        return [text.strip() for text in _git(self.bare, "log", "--format=%B%x00", "main").stdout.split("\0")][:-1]

    def push(self, path: str, text: str) -> None:
        """Somebody else's commit."""
        _git(self.work, "pull", "--quiet", "--rebase", "origin", "main")
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self._commit(path)

    def push_link(self, path: str, target: Path) -> None:
        """A symbolic link."""
        (self.work / path).parent.mkdir(parents=True, exist_ok=True)
        (self.work / path).symlink_to(target)
        self._commit(path)

    def _commit(self, path: str) -> None:
        _git(self.work, "add", path)
        _git(self.work, "commit", "--quiet", "-m", f"somebody changes {path}")
        _git(self.work, "push", "--quiet", "origin", "HEAD:main")

    def protect(self, why: str) -> None:
        """Takes no push from now on."""
        hook = self.bare / "hooks" / "pre-receive"
        hook.write_text(f'#!/bin/sh\necho "{why}"\nexit 1\n')
        hook.chmod(0o755)

    def open(self) -> None:
        """Takes pushes again."""
        (self.bare / "hooks" / "pre-receive").unlink()


def origin_in(folder: Path) -> Origin:
    """With a branch `main` and one file."""
    found = Origin(folder / "origin.git", folder / "somebody")
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(found.bare))
    _git(folder, "clone", "--quiet", found.url, str(found.work))
    _git(found.work, "checkout", "--quiet", "-B", "main")
    (found.work / "README.md").write_text("environments\n")
    found._commit("README.md")
    return found


def _git(folder: Path, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", *words], cwd=folder, env=ENV, capture_output=True, text=True, check=check, timeout=60)
