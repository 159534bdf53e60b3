"""What people are told: a pure function of a release's state before a decision, and of the decision.

A message's key is the same whoever tells of the same thing, and however often; so it is told once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from configs.canonical import short
from configs.notifications import MessageKind, Receiver
from configs.strict import Strict
from delivery.release.state import Alert, AwaitApproval, Decision, ReleaseState
from delivery.release.way_back import TakenBack

ANSWER = "Answer: slipway approve --by NAME --reason TEXT, or with --reject; or the deployment `approve` in Prefect."


class ReleaseMessage(Strict):
    """One thing to tell. `at` is UNIX seconds."""

    key: str
    kind: MessageKind
    title: str  # one line
    text: str
    environment: str
    route: str
    release_id: str = ""  # empty: none began
    bundle: str = ""  # digest
    at: float


class Letter(Strict):
    """A message to one receiver. `told`: it has arrived already, by a way that needs no ledger."""

    receiver: str
    message: ReleaseMessage
    told: bool = False


def letters(
    receivers: Mapping[str, Receiver], messages: Iterable[ReleaseMessage], told: Sequence[str] = ()
) -> tuple[Letter, ...]:
    """Every message to everybody who wants its kind. `told`: receivers that have it already."""
    return tuple(
        Letter(receiver=name, message=message, told=name in told)
        for message in messages
        for name, receiver in receivers.items()
        if message.kind in receiver.tell
    )


def of_decision(before: ReleaseState, decision: Decision) -> tuple[ReleaseMessage, ...]:
    """What a recorded decision is to tell people."""
    state, found = decision.state, []
    if state.phase != before.phase:
        found += [_refused(state)] if state.phase == "refused" else []
        found += [_went_live(state)] if state.phase == "live" and before.phase == "stage" else []
        if before.phase not in ("rolling_back", "rolled_back") and state.rollback is not None:
            found.append(_taken_back(state))
    what = f"release {state.release_id} of {short(state.candidate.bundle)}"
    for number, action in enumerate(decision.actions):
        if isinstance(action, Alert):  # the clock tells an alert that is raised anew from one that is told again
            key = f"alert/{state.clocks.last_tick_at:.3f}/{number}"
            found.append(_of(state, key, "alert", f"{state.route}: {action.text}", f"{what}: {action.text}"))
        elif isinstance(action, AwaitApproval):
            title = f"{state.route}: an approval is wanted for {short(state.candidate.bundle)}"
            key = f"approval/{action.stage_index}.{state.attempt}"
            found.append(_of(state, key, "approval", title, f"{what}: {action.text}\n{ANSWER}"))
    return tuple(found)


def rollback_key(release_id: str) -> str:
    """A release is taken back once, whoever does it and wherever that is put on record."""
    return f"{release_id}/rollback"


def of_rollback_without_ledger(taken: TakenBack, environment: str, serves: str) -> ReleaseMessage:
    """A person took a release back while the ledger could not be written."""
    return ReleaseMessage(
        key=rollback_key(taken.release_id),
        kind="rollback",
        title=f"{taken.route}: release {taken.release_id} is taken back by {taken.by}",
        text=f"{taken.reason}\nAll traffic is on {serves}. The ledger could not be written: the record follows.",
        environment=environment,
        route=taken.route,
        release_id=taken.release_id,
        at=taken.at,
    )


def of_ledger_away(state: ReleaseState, why: str) -> ReleaseMessage:
    """A release's controller cannot write what it decides."""
    title = f"{state.route}: the ledger cannot be written, nothing advances"
    text = f"{why}\nStable gets all traffic when the gateways' lease ends. The release goes on when the ledger is back."
    return _of(state, f"ledger/{state.clocks.last_tick_at:.3f}", "alert", title, text)


def of_refusal(environment: str, route: str, bundle: str, reason: str, at: float) -> ReleaseMessage:
    """A release that did not even begin."""
    title = f"{route}: bundle {short(bundle)} is not released"
    return _against(bundle, "refusal", title, reason, environment, route, at)


def of_gate(environment: str, route: str, bundle: str, reason: str, at: float) -> ReleaseMessage:
    """The eval gate is against a bundle that was built."""
    title = f"{route}: the eval gate refuses bundle {short(bundle)}"
    return _against(bundle, "gate", title, reason, environment, route, at)


def _against(bundle: str, who: str, title: str, text: str, environment: str, route: str, at: float) -> ReleaseMessage:
    """A bundle is refused before a release of it has begun."""
    return ReleaseMessage(
        key=f"{who}/{bundle}/{at:.3f}",
        kind="refusal",
        title=title,
        text=text,
        environment=environment,
        route=route,
        bundle=bundle,
        at=at,
    )


def of_incident(environment: str, route: str, name: str, what: str, text: str, at: float) -> ReleaseMessage:
    """A vLLM or a gateway that died, was given up, or is away."""
    return ReleaseMessage(
        key=f"incident/{name}/{what}/{at:.3f}",
        kind="alert",
        title=f"{environment}: {text.splitlines()[0] if text else name}",
        text=text,
        environment=environment,
        route=route,
        at=at,
    )


def of_test(environment: str, route: str, by: str, at: float) -> ReleaseMessage:
    """Nothing has happened."""
    return ReleaseMessage(
        key=f"test/{at:.3f}",
        kind="alert",
        title=f"{environment}: a test of Slipway's notifications",
        text=f"{by} asked for this message. Nothing has happened.",
        environment=environment,
        route=route,
        at=at,
    )


def _refused(state: ReleaseState) -> ReleaseMessage:
    title = f"{state.route}: bundle {short(state.candidate.bundle)} is refused"
    return _of(state, "refusal", "refusal", title, f"release {state.release_id}: {state.reason}")


def _went_live(state: ReleaseState) -> ReleaseMessage:
    title = f"{state.route}: bundle {short(state.candidate.bundle)} is live"
    return _of(state, f"live/{state.attempt}", "live", title, f"release {state.release_id} went through all its stages")


def _taken_back(state: ReleaseState) -> ReleaseMessage:
    note = state.rollback
    by, reason, ruled_out = (note.by, note.reason, note.quarantine) if note else ("slipway", state.reason, False)
    lift = f"slipway lift-quarantine {short(state.candidate.bundle)} --reason TEXT"
    after = f"It is quarantined; to lift that: {lift}" if ruled_out else "It is not quarantined: it may be tried again."
    title = f"{state.route}: bundle {short(state.candidate.bundle)} is taken back by {by}"
    text = f"release {state.release_id}: {reason}\n{state.stable.name} gets all traffic. {after}"
    key = rollback_key(state.release_id).removeprefix(f"{state.release_id}/")
    return _of(state, key, "rollback", title, text)


def _of(state: ReleaseState, key: str, kind: MessageKind, title: str, text: str) -> ReleaseMessage:
    what: dict[str, Any] = {"kind": kind, "title": " ".join(title.split()), "text": text}
    return ReleaseMessage(
        key=f"{state.release_id}/{key}",
        environment=state.environment,
        route=state.route,
        release_id=state.release_id,
        bundle=state.candidate.bundle,
        at=state.clocks.last_tick_at,
        **what,
    )
