"""Folders of this machine that containers see, and whether the user inside can read or write them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from configs.errors import Problem, SlipwayError
from configs.gateway import GatewayConfig
from configs.loading import as_yaml
from delivery.clients.fresh_folder import explained_writes

ROOTS_USER = "10001:10001"  # as in our images; root inside would be root outside


def user_inside(wanted: str | None) -> str:
    """UID:GID: the one that is asked for, else our own, but never root."""
    if wanted is not None:
        return wanted
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else ROOTS_USER


def gateway_folder(folder: Path, number: int) -> Path:
    """Where a gateway keeps its table and its budgets, below the environment's folder."""
    return folder.absolute() / "containers" / f"gateway-{number}"


def traffic_folder(config: GatewayConfig) -> Path | None:
    """The traffic log's folder where the settings name one; otherwise it lies beside the table."""
    log = config.traffic_log
    return None if log is None or log.folder is None else log.folder.absolute()


def kept_config(config: GatewayConfig, folder: Path) -> Path:
    """The file that gateways read; its name says its content, which other settings must not look like."""
    text = as_yaml(config)
    file = folder.absolute() / "containers" / "config" / f"gateway-{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    with explained_writes(file.parent, "the gateway's settings"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)
    return file


def make_writable(folder: Path, user: str) -> None:
    """Makes the folder and gives it to the user inside; one that is there must be the user's already.

    Raises SlipwayError where the user could not write there.
    """
    with explained_writes(folder, "what a gateway keeps"):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            if os.getuid() == 0:
                os.chown(folder, *_ids(user))
    if not _may(folder, user, 0o3):
        raise SlipwayError(
            f"user {user} inside the container cannot write to {folder}",
            where="environment.yaml: target.user",
            cure=f"chown {user} {folder}, or set target.user to the folder's owner",
        )


def require_readable(folder: Path, user: str) -> None:
    """Raises SlipwayError naming each file that the user inside could not read."""
    problems = [Problem(str(path), "is not for this user to read") for path in _unreadable(folder, user)]
    if problems:
        raise SlipwayError(
            f"user {user} inside the container cannot read {folder}",
            where="environment.yaml: target.user",
            problems=problems,
            cure=f"chmod -R a+rX {folder}, or set target.user to the files' owner",
        )


def _unreadable(folder: Path, user: str) -> Iterator[Path]:
    if not _may(folder, user, 0o5):
        yield folder
    for path in sorted(folder.iterdir()):
        if path.is_file() and not _may(path, user, 0o4):
            yield path


def _may(path: Path, user: str, bits: int) -> bool:
    uid, gid = _ids(user)
    stat = path.stat()
    shift = 6 if stat.st_uid == uid else 3 if stat.st_gid == gid else 0
    return (stat.st_mode >> shift) & bits == bits


def _ids(user: str) -> tuple[int, int]:
    uid, _, gid = user.partition(":")
    return int(uid), int(gid)
