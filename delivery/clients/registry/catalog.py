"""What a repository of a registry holds, bundle by bundle, and its removal: index, what only it leads to, signatures.

Registries have no list of what nothing tags, and no ages: digests that were seen before may be named, and who knows
when a bundle was made says so elsewhere. What manifests led to, the registry's own garbage collection frees.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from configs.canonical import digest_bytes
from configs.errors import Problem
from delivery.clients.bundles.layout import is_digest
from delivery.clients.bundles.manifests import BUNDLE_DIGEST, Descriptor
from delivery.clients.registry import fetch
from delivery.clients.registry.attached import list_tag, listed
from delivery.clients.registry.errors import LyingRegistryError, RegistryError
from delivery.clients.registry.reference import Reference
from delivery.clients.registry.wire import Wire

PAGE, MOST_PAGES = 1000, 100
OF_SIGNATURES = re.compile(r"sha256-[0-9a-f]{64}")  # the tag that lists what refers to a digest
REFUSED = (400, 403, 405, 501)  # what registries answer that delete nothing


@dataclass(frozen=True)
class Published:
    """An index in a repository: of which bundle, under which tags, and the manifests that it leads to."""

    digest: str
    bundle: str
    tags: tuple[str, ...]
    manifests: tuple[str, ...]
    size: int  # bytes of all that it leads to; other bundles may share them


def published(wire: Wire, of: Reference, also: Iterable[str] = ()) -> tuple[list[Published], list[Problem]]:
    """Every bundle of a repository, and what else is tagged there. `also` are digests that may have no tag.

    Raises RegistryError.
    """
    tags: dict[str, list[str]] = {}
    others: list[Problem] = []
    for tag in _tags(wire, of):
        if not OF_SIGNATURES.fullmatch(tag):
            content = fetch.manifest(wire, Reference(of.host, of.path, tag=tag))
            tags.setdefault(digest_bytes(content), []).append(tag)
    found = []
    for digest in dict.fromkeys([*tags, *also]):
        try:
            found.append(_read(wire, of.by_digest().at(digest), tags.get(digest, [])))
        except RegistryError as error:
            if error.status != 404 or digest in tags:
                others.append(Problem(", ".join(tags.get(digest, [digest])), error.what))
    return found, others


def remove(wire: Wire, of: Reference, one: Published, staying: Iterable[Published]) -> None:
    """The index first, so that nothing ever leads nowhere; manifests that another bundle shares stay.

    Safe to repeat. Raises RegistryError, in words for a registry that deletes nothing.
    """
    there = of.by_digest().at(one.digest)
    signatures = [str(entry.get("digest")) for entry in listed(wire, there)]
    shared = {digest for other in staying for digest in other.manifests}
    _delete(wire, there)
    for digest in (*(d for d in one.manifests if d not in shared), *filter(is_digest, signatures)):
        _delete(wire, of.by_digest().at(digest))
    try:
        under_tag = fetch.manifest(wire, list_tag(there))
    except RegistryError as error:
        if error.status == 404:
            return
        raise
    _delete(wire, of.by_digest().at(digest_bytes(under_tag)))


def _read(wire: Wire, there: Reference, tags: list[str]) -> Published:
    index = fetch.parsed(fetch.manifest(wire, there), str(there))
    bundle = str((index.get("annotations") or {}).get(BUNDLE_DIGEST, ""))
    entries = index.get("manifests")
    if not is_digest(bundle) or not isinstance(entries, list) or not all(map(_is_whole, entries)):
        raise RegistryError("it is no bundle of ours", where=str(there))
    sizes = {str(entry["digest"]): int(entry["size"]) for entry in entries}
    for digest in list(sizes):
        manifest = fetch.parsed(fetch.manifest(wire, there.at(digest)), str(there))
        parts = [manifest.get("config"), *(manifest.get("layers") or [])]
        sizes |= {str(part["digest"]): int(part["size"]) for part in parts if _is_whole(part)}
    manifests = tuple(str(entry["digest"]) for entry in entries)
    return Published(str(there.digest), bundle, tuple(sorted(tags)), manifests, sum(sizes.values()))


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, dict) and is_digest(str(entry.get("digest"))) and isinstance(entry.get("size"), int)


def _tags(wire: Wire, of: Reference) -> Iterator[str]:
    url: str | None = wire.url(f"/v2/{of.path}/tags/list?n={PAGE}")
    for _ in range(MOST_PAGES):
        if url is None:
            return
        page, url = _page(wire, url, of)
        yield from page
    raise LyingRegistryError(f"its list of tags has no end after {MOST_PAGES} pages", where=of.repository)


def _page(wire: Wire, url: str, of: Reference) -> tuple[list[str], str | None]:
    def once() -> tuple[bytes, str]:
        with wire.ask("GET", url, of.repository, wanted=(200, 404)) as response:
            body = b"{}" if response.status_code == 404 else fetch.body_of(wire, response, of.repository)
            return body, response.headers.get("Link", "")

    content, link = wire.patiently(once)
    tags: Descriptor = fetch.parsed(content, of.repository)
    following = re.match(r"\s*<([^>]+)>", link)
    there = wire.here(following[1]) if following else None
    if there is not None and urlsplit(there).netloc != of.host:
        raise LyingRegistryError("its list of tags goes on at another host", where=of.repository)
    return [str(tag) for tag in tags.get("tags") or []], there


def _delete(wire: Wire, there: Reference) -> None:
    url = wire.url(f"/v2/{there.path}/manifests/{there.digest}")

    def once() -> None:
        wire.ask("DELETE", url, str(there), wanted=(200, 202, 204, 404)).close()

    try:
        wire.patiently(once)
    except RegistryError as error:
        if error.status not in REFUSED:
            raise
        raise RegistryError(
            f"the registry deletes nothing for this login: {error.what}",
            status=error.status,
            where=str(there),
            cure="allow it there (CNCF's registry: storage.delete.enabled: true), give this login the right,"
            " or leave old bundles to the registry's own rules",
        ) from error
