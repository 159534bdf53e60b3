"""Names of bundles in registries: HOST/PATH:TAG@DIGEST. A tag finds a digest, and the digest counts."""

import re
from dataclasses import dataclass, replace

from configs.errors import SlipwayError
from configs.registry import REPOSITORY

REFERENCE = re.compile(
    rf"{REPOSITORY.pattern}(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
EXAMPLE = "registry.example.com/team/adapters@sha256:..."


@dataclass(frozen=True)
class Reference:
    """A repository of a registry, and perhaps one thing in it."""

    host: str  # with its port
    path: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def repository(self) -> str:
        """HOST/PATH."""
        return f"{self.host}/{self.path}"

    def at(self, digest: str) -> "Reference":
        """What has this digest in the same repository; the tag stays, as the way it was found."""
        return replace(self, digest=digest)

    def by_digest(self) -> "Reference":
        """The same without its tag."""
        return replace(self, tag=None)


def parse(text: str) -> Reference:
    """Raises SlipwayError for what names no registry's host, or is no reference at all."""
    found = REFERENCE.fullmatch(text.strip())
    if found is None:
        raise SlipwayError(
            f"{text!r} is no reference to a registry", cure=f"HOST[:PORT]/PATH[:TAG][@DIGEST]: {EXAMPLE}"
        )
    host = found["host"]
    if not (":" in host or "." in host or host == "localhost"):
        raise SlipwayError(f"{text!r} names no registry's host", cure=f"write it out: {EXAMPLE}")
    return Reference(host, found["path"], found["tag"], found["digest"])


def is_reference(text: str) -> bool:
    """Whether a registry is meant, and not a bundle here."""
    return "/" in text
