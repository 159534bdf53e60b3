"""The file of people who may use the control room: names, roles, hashed passwords and hashed tokens.

Passwords are hashed with scrypt, whose cost is kept beside each hash. A token is random and long, so that one SHA-256
is enough. The file belongs to its owner alone; it is written whole and put in place at once.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from configs.control_room import PersonRole
from configs.errors import ConfigError
from configs.strict import Strict

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,99}")
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1000  # hashing more would only keep the room busy
COST = 2**15  # with BLOCK_SIZE: 32 MiB and about 0.1 s
BLOCK_SIZE = 8
TOKEN_MARK = "slipway_"  # noqa: S105 - by which scanners find one that was published by mistake


class Person(Strict):
    """Somebody who is known, and what they may do."""

    name: str
    roles: frozenset[PersonRole]


class Secret(Strict):
    """A hashed password."""

    salt: str
    hash: str
    cost: int = COST
    block_size: int = BLOCK_SIZE


class Entry(Strict):
    """One person, or one program that has a token."""

    roles: tuple[PersonRole, ...] = Field(min_length=1)
    password: Secret | None = None  # None: a proxy signs them in, or it is a program
    token: str | None = None  # SHA-256


class _Content(Strict):
    people: dict[str, Entry] = Field(default_factory=dict)


def people_file(home: Path) -> Path:
    """Where the people of a state folder's control room are kept."""
    return home / "control-room" / "people.json"


class People:
    """The people of one file. What another process changes is seen at the next question.

    `cost` is scrypt's, for passwords that are set from now on.
    """

    def __init__(self, file: Path, cost: int = COST):
        self.file, self.cost = file, cost
        self._stamp: tuple[int, int] | None = None
        self._known: dict[str, Entry] = {}

    def names(self) -> dict[str, Entry]:
        """Everybody, by name. Raises ConfigError for a file that cannot be read."""
        try:
            found = self.file.stat()
        except FileNotFoundError:
            return {}
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            self._known, self._stamp = self._read(), stamp
        return self._known

    def person(self, name: str) -> Person | None:
        """Who has this name."""
        entry = self.names().get(name)
        return Person(name=name, roles=frozenset(entry.roles)) if entry is not None else None

    def with_password(self, name: str, password: str) -> Person | None:
        """Who has this name and password. As slow for a name that nobody has."""
        entry = self.names().get(name)
        kept = entry.password if entry is not None else None
        nobodys = Secret(salt="00" * 16, hash="00" * 64, cost=self.cost)
        matches = len(password) <= LONGEST_PASSWORD and _matches(kept or nobodys, password)
        return self.person(name) if matches and kept is not None else None

    def with_token(self, token: str) -> Person | None:
        """Whose token it is."""
        mine = hashlib.sha256(token.encode()).hexdigest()
        found = [name for name, entry in self.names().items() if entry.token and hmac.compare_digest(entry.token, mine)]
        return self.person(found[0]) if found else None

    # -- changes ----------------------------------------------------------------------------------------------------

    def put(self, name: str, roles: tuple[PersonRole, ...], password: str | None) -> None:
        """Adds somebody, or changes their roles and password. None: a proxy signs them in."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot be a name here", cure="use at most 100 letters, digits and the signs @ . _ + -"
            )
        if password is not None and not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise ConfigError(
                f"the password has {len(password)} characters",
                cure=f"choose one of at least {SHORTEST_PASSWORD} and at most {LONGEST_PASSWORD}",
            )
        with self._changed() as people:
            people[name] = Entry(roles=roles, password=None if password is None else hashed(password, self.cost))

    def put_token(self, name: str, roles: tuple[PersonRole, ...]) -> str:
        """A fresh token for a program; it is shown once, and takes the place of an earlier one of that name."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot be a name here", cure="use at most 100 letters, digits and the signs @ . _ + -"
            )
        token = TOKEN_MARK + secrets.token_urlsafe(32)
        with self._changed() as people:
            known = people.get(name)
            if known is not None and known.token is None:
                raise ConfigError(f"{name} is a person", cure="give the program a name of its own, as in ci-release")
            people[name] = Entry(roles=roles, token=hashlib.sha256(token.encode()).hexdigest())
        return token

    def remove(self, name: str) -> None:
        """Takes somebody out; their sessions end with their next request."""
        with self._changed() as people:
            if name not in people:
                known = ", ".join(sorted(people)) or "nobody yet"
                raise ConfigError(f"nobody is called {name!r}", where=str(self.file), cure=f"known: {known}")
            del people[name]

    @contextmanager
    def _changed(self) -> Iterator[dict[str, Entry]]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            people = dict(self._read()) if self.file.exists() else {}
            yield people
            fresh = self.file.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            content = _Content(people=people).model_dump(mode="json", exclude_none=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                json.dump(content, out, indent=2)
            fresh.replace(self.file)

    def _read(self) -> dict[str, Entry]:
        try:
            content: Any = json.loads(self.file.read_text(encoding="utf-8"))
            return _Content.model_validate(content).people
        except (OSError, ValueError, ValidationError) as error:
            raise ConfigError(
                f"the file of people cannot be read: {error}",
                where=str(self.file),
                cure="put back a copy, or remove it and add the people again: slipway people add",
            ) from error


def hashed(password: str, cost: int = COST) -> Secret:
    """With a salt of its own."""
    salt = secrets.token_bytes(16)
    return Secret(salt=salt.hex(), hash=_scrypt(password, salt, cost, BLOCK_SIZE).hex(), cost=cost)


def _matches(kept: Secret, password: str) -> bool:
    found = _scrypt(password, bytes.fromhex(kept.salt), kept.cost, kept.block_size)
    return hmac.compare_digest(found, bytes.fromhex(kept.hash))


def _scrypt(password: str, salt: bytes, cost: int, block_size: int) -> bytes:
    room = 2 * 128 * cost * block_size
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block_size, p=1, maxmem=room)
