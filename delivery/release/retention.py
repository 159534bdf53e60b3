"""What may be removed from a state folder, with the reason of each; and why the rest stays.

What is needed stays, with all that it refers to. Of the rest goes what is neither among the newest of its kind nor
young. Bundles are removed before what they refer to: whoever dies in between leaves nothing that points nowhere.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from configs.retention import Retention
from configs.strict import Strict

KeptKind = Literal["bundle", "dataset", "adapter", "merged", "training", "evals"]
ORDER: tuple[KeptKind, ...] = ("bundle", "training", "evals", "adapter", "merged", "dataset")  # who refers goes first
DAY_S = 86_400.0
NEWEST_DATASETS = 1  # of each name: the next build finds it again


class Ref(Strict):
    """One thing in a state folder, by the name of its folder or file."""

    kind: KeptKind
    name: str


class Stored(Strict):
    """A thing as it lies there."""

    ref: Ref
    size: int  # bytes
    changed_at: float  # UNIX seconds
    of: str = ""  # a bundle's route, a dataset's name: the newest of each are kept
    refers_to: tuple[Ref, ...] = ()
    is_busy: bool = False  # somebody writes it just now


class Need(Strict):
    """A bundle that must stay, and why. `refers_to` holds also where its own image is not here."""

    bundle: str  # the name of its folder
    why: str
    refers_to: tuple[Ref, ...] = ()


class Removal(Strict):
    """What goes, and why nothing keeps it."""

    ref: Ref
    size: int
    reason: str


class Cleanup(Strict):
    """`kept`: why each of the others stays."""

    removals: tuple[Removal, ...]
    kept: dict[KeptKind, dict[str, str]]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(one.size for one in self.removals)


def clean_up(stored: Sequence[Stored], needs: Iterable[Need], policy: Retention, now: float) -> Cleanup:
    """The decision; `now` is UNIX seconds. Nothing that is needed, young or busy is in it."""
    there = {one.ref: one for one in stored}
    ranks = _ranks(stored)
    why: dict[Ref, str] = {}
    for need in needs:
        _keep(Ref(kind="bundle", name=need.bundle), need.why, there, why)
        for ref in need.refers_to:
            _keep(ref, f"of bundle {need.bundle}, {need.why}", there, why)
    for one in stored:
        reason = _own_reason(one, ranks[one.ref], policy, now)
        if reason:
            _keep(one.ref, reason, there, why)
    gone = [one for kind in ORDER for one in stored if one.ref.kind == kind and one.ref not in why]
    removals = [Removal(ref=one.ref, size=one.size, reason=_why_not(one, ranks[one.ref], policy, now)) for one in gone]
    kept: dict[KeptKind, dict[str, str]] = {kind: {} for kind in ORDER}
    for ref, reason in why.items():
        if ref in there:
            kept[ref.kind][ref.name] = reason
    return Cleanup(removals=tuple(removals), kept=kept)


def _keep(ref: Ref, reason: str, there: dict[Ref, Stored], why: dict[Ref, str]) -> None:
    """Keeps it and all that it leads to."""
    waiting = [(ref, reason)]
    while waiting:
        one, because = waiting.pop()
        if one in why:
            continue
        why[one] = because
        if one in there:
            waiting += [(other, f"of {one.kind} {one.name}, {because}") for other in there[one].refers_to]


def _own_reason(one: Stored, rank: int, policy: Retention, now: float) -> str:
    days = (now - one.changed_at) / DAY_S
    if one.is_busy:
        return "in use just now"
    if days < policy.keep_days:
        return f"{max(days, 0):.1f} days old"
    newest = _newest(one.ref.kind, policy)
    return f"one of the {newest} newest of {one.of}" if rank < newest else ""


def _newest(kind: KeptKind, policy: Retention) -> int:
    return {"bundle": policy.keep_bundles, "dataset": NEWEST_DATASETS}.get(kind, 0)


def _why_not(one: Stored, rank: int, policy: Retention, now: float) -> str:
    age = f"{(now - one.changed_at) / DAY_S:.1f} days old, and {policy.keep_days:g} are kept"
    newest = _newest(one.ref.kind, policy)
    if one.ref.kind in ("bundle", "dataset"):
        return f"number {rank + 1} of {one.of} by age, and {newest} are kept; {age}"
    no_bundle = "no bundle that stays has it"
    of_whom = {"adapter": no_bundle, "merged": no_bundle, "training": "no adapter that stays came of it"}
    return "; ".join([*([of_whom[one.ref.kind]] if one.ref.kind in of_whom else []), age])


def _ranks(stored: Sequence[Stored]) -> dict[Ref, int]:
    """0 for the newest of its kind and route or name."""
    ranks: dict[Ref, int] = {}
    seen: dict[tuple[KeptKind, str], int] = {}
    for one in sorted(stored, key=lambda one: (-one.changed_at, one.ref.name)):
        group = (one.ref.kind, one.of)
        ranks[one.ref] = seen.get(group, 0)
        seen[group] = ranks[one.ref] + 1
    return ranks
