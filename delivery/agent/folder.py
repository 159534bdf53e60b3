"""Adapters in one folder, each named by its digest: taken in from a stream, and hashed again whenever somebody asks."""

import re
import tarfile
from pathlib import Path
from typing import IO

from configs.canonical import short
from configs.errors import Problem, SlipwayError
from delivery.clients.bundles.adapters import FILES, describe
from delivery.clients.fresh_folder import discard, fresh_folder

NAME = re.compile(r"[0-9a-f]{6,64}")
CHUNK_BYTES = 1 << 20


def digest_in(folder: Path, name: str) -> str | None:
    """The digest of the bytes that are there now under this name; None when nothing is.

    Raises SlipwayError when what is there is no adapter, or another one than its name says.
    """
    place = folder / _checked(name)
    if not place.is_dir():
        return None
    found = describe(place)
    extra = sorted(path.name for path in place.iterdir() if path.name not in FILES)
    if extra:
        raise SlipwayError(f"{place} holds more than an adapter: {', '.join(extra)}", where=str(place))
    if short(found.digest) != name:
        raise SlipwayError(
            f"the bytes under {name} are those of adapter {short(found.digest)}",
            where=str(place),
            cure="remove the folder: it is never changed in place, so somebody else wrote there",
        )
    return found.digest


def take_in(folder: Path, name: str, stream: IO[bytes], limit_bytes: int) -> str:
    """Keeps an adapter that comes as a tar of its files; its digest. It is there whole and checked, or not at all."""
    _checked(name)
    with fresh_folder(folder, f"adapter {name}") as fresh:
        _unpack(stream, fresh, limit_bytes)
        return keep(fresh, folder, name)


def keep(fresh: Path, folder: Path, name: str) -> str:
    """A folder with an adapter's files gets its place, unless it holds another adapter; the digest."""
    found = describe(fresh)
    if short(found.digest) != name:
        raise SlipwayError(f"what came as {name} is adapter {short(found.digest)}", where=str(folder))
    for file in fresh.iterdir():
        file.chmod(0o444)
    discard(folder / name)
    fresh.replace(folder / name)
    (folder / name).chmod(0o555)
    return found.digest


def wrong_in(folder: Path) -> list[Problem]:
    """Every adapter of a folder that is not what its name says."""
    problems = []
    for place in sorted(folder.iterdir()):
        if place.is_dir() and NAME.fullmatch(place.name):
            try:
                digest_in(folder, place.name)
            except SlipwayError as error:
                problems.append(Problem(str(place), str(error)))
    return problems


def _unpack(stream: IO[bytes], fresh: Path, limit_bytes: int) -> None:
    """Plain files with the two known names; nothing that a tar could do beside that."""
    left = limit_bytes
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if member.name not in FILES or source is None:
                    raise SlipwayError(f"{member.name!r} does not belong into an adapter", where="what was sent")
                left -= member.size
                if left < 0:
                    raise SlipwayError(f"the adapter is larger than {limit_bytes:,} bytes", where="what was sent")
                with (fresh / member.name).open("xb") as file:
                    while chunk := source.read(CHUNK_BYTES):
                        file.write(chunk)
    except (tarfile.TarError, FileExistsError) as error:
        raise SlipwayError(f"it is no tar of an adapter: {error}", where="what was sent") from error


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SlipwayError(f"{name!r} is no adapter's digest", where="the name of an adapter")
    return name
