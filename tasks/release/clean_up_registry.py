"""Old bundles out of a registry: the same decision as for the state folder, and the same that always stay.

Only bundles that a ledger here knows can go: how old the others are, and who serves them, nobody here can tell.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from configs.canonical import short
from configs.environment import Environment
from configs.errors import Problem, SlipwayError
from configs.kubernetes import KubernetesTarget, PulledAdapters
from configs.retention import Retention
from configs.target import members_of
from delivery.build.bundle import Bundle
from delivery.clients.registry import known
from delivery.clients.registry.catalog import Published, published, remove
from delivery.clients.registry.reference import Reference, parse
from delivery.clients.registry.wire import Wire
from delivery.progress import Progress, silent
from delivery.release.retention import Cleanup, Need, Ref, Stored, clean_up
from tasks.release.clean_up import Cleaned, ledgers, needs
from tasks.serving.kubernetes.pulled import FOLDER as NOTES


@dataclass(frozen=True)
class Known:
    """A bundle that a ledger knows: what it is, and since when, in UNIX seconds."""

    bundle: Bundle
    since: float


def clean_registry(
    environment: Environment,
    home: Path,
    repository: str | None,
    policy: Retention,
    now: float,
    *,
    dry_run: bool,
    on_progress: Progress = silent,
) -> Cleaned:
    """Decides, and unless `dry_run` deletes. `repository`: HOST/PATH, by default `registry.repository`.

    Raises RegistryError where the registry cannot be asked or deletes nothing, and SlipwayError where a ledger of this
    state folder cannot be asked: what it needs would be unknown.
    """
    of = _repository(environment, repository)
    wire = Wire(of.host, environment.registry)
    seen = [one.reference.digest for one in known.seen(home) if one.reference.repository == of.repository]
    there, strangers = published(wire, of, [digest for digest in seen if digest is not None])
    ours = _known(environment, home)
    strangers += [Problem(_named(one), "no ledger here knows this bundle") for one in there if one.bundle not in ours]
    there = [one for one in there if one.bundle in ours]
    stored = _stored(there, ours)

    def decide() -> Cleanup:
        return clean_up(stored, [*needs(environment, home), *_asked_for(environment, there, ours)], policy, now)

    cleanup, removed = decide(), list[Ref]()
    for one in () if dry_run else cleanup.removals:
        if one.ref not in [other.ref for other in decide().removals]:
            continue  # a release has begun meanwhile
        gone = [other for other in there if short(other.bundle) == one.ref.name]
        there = [other for other in there if other not in gone]
        for index in gone:
            remove(wire, of, index, there)
            _forget(home, index.digest)
        removed.append(one.ref)
        on_progress(len(removed), len(cleanup.removals), f"deleted bundle {one.ref.name} of {of.repository}")
    return Cleaned(cleanup, tuple(removed), tuple(strangers))


def _repository(environment: Environment, repository: str | None) -> Reference:
    named = repository or environment.registry.repository
    if named is None:
        raise SlipwayError(
            "no registry is named", cure="name it: slipway gc --registry HOST/PATH, or registry.repository"
        )
    found = parse(named)
    if found.tag is not None or found.digest is not None:
        raise SlipwayError("a repository is cleaned up as a whole", where=named, cure="leave out tag and digest")
    return found


def _known(environment: Environment, home: Path) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for opened in ledgers(environment, home).values():
        with closing(opened()) as ledger:
            for digest, since in ledger.bundles_since().items():
                bundle = ledger.bundle(digest)
                if bundle is not None:
                    found[digest] = Known(bundle, max(since, found[digest].since if digest in found else since))
    return found


def _stored(there: Iterable[Published], ours: dict[str, Known]) -> list[Stored]:
    """One for each bundle; it may lie there on several base images."""
    found: dict[str, Stored] = {}
    for one in there:
        what, name = ours[one.bundle], short(one.bundle)
        size = one.size + (found[name].size if name in found else 0)
        parents = (Ref(kind="bundle", name=short(what.bundle.parent)),) if what.bundle.parent else ()
        ref = Ref(kind="bundle", name=name)
        found[name] = Stored(ref=ref, size=size, changed_at=what.since, of=what.bundle.route, refers_to=parents)
    return list(found.values())


def _asked_for(environment: Environment, there: Iterable[Published], ours: dict[str, Known]) -> Iterator[Need]:
    """A tag that a person has set keeps a bundle, and so does a pod that wants it before its vLLM starts."""
    pods = [one for one in members_of(environment.target).values() if isinstance(one, KubernetesTarget)]
    from_start = {d for one in pods if isinstance(one.adapters, PulledAdapters) for d in one.adapters.from_start}
    for one in there:
        own = ours[one.bundle].bundle.variant_name
        for tag in one.tags:
            if tag != own:
                yield Need(bundle=short(one.bundle), why=f"the tag {tag} leads to it")
        if one.digest in from_start:
            yield Need(bundle=short(one.bundle), why="target.adapters.from_start names it")


def _named(one: Published) -> str:
    return ", ".join(one.tags) or one.digest


def _forget(home: Path, digest: str) -> None:
    """Pods are not told any more to pull what is gone: a later release pushes it anew."""
    for file in (home / "environments").glob(f"*/{NOTES}/*.json"):
        noted = json.loads(file.read_text(encoding="utf-8"))
        left = [one for one in noted if one.get("digest") != digest]
        if len(left) < len(noted):
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(left), encoding="utf-8")
            fresh.replace(file)
