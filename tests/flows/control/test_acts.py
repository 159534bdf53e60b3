"""What people do in the control room goes the command line's way, stands under their name, and bends no rule."""

import os
from pathlib import Path
from typing import Any

import pytest
from control_scene import PEOPLE, SLOW_PLAN, ControlScene
from release_scene import in_canary_of, interrupt, when

from configs.errors import SlipwayError
from delivery.clients.people import Person
from flows.control.acts import NotAllowedError

WHO = {name: Person(name=name, roles=frozenset(roles)) for name, roles in PEOPLE.items()}  # type: ignore[arg-type]
QUICK = SLOW_PLAN.model_copy(
    update={"stages": tuple(one.model_copy(update={"min_duration_s": 0.0}) for one in SLOW_PLAN.stages)}
)


@pytest.fixture
def control(tmp_path: Path) -> ControlScene:
    return ControlScene(tmp_path, QUICK, real_s=0.0)


def in_the_middle(control: ControlScene, moment: Any) -> str:
    """A release whose controller was stopped at this moment; its id."""
    when(control.scene.world, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        control.scene.release()
    control.scene.world.on_effect = lambda effect: None
    return str(control.state().release_id)


def waiting(control: ControlScene) -> tuple[str, int]:
    release_id = in_the_middle(control, control.waits)
    return release_id, control.state().stage_index


def asked_for(control: ControlScene) -> list[tuple[str, str]]:
    events = control.scene.ledger.audit.events("local")
    return [(event["who"], event["text"]) for event in events if event["kind"] == "asked_for"]


@pytest.mark.parametrize("approved", [True, False])
def test_an_answer_is_recorded_under_the_persons_name(control: ControlScene, approved: bool) -> None:
    seen = waiting(control)
    control.acts.approve(WHO["anna"], "tutor", seen, approved=approved, reason="read twenty answers")
    found = control.scene.ledger.approval(*seen)
    assert found is not None
    assert (found.by, found.approved, found.reason) == ("anna", approved, "read twenty answers")


def test_an_answer_to_a_stage_that_was_not_seen_is_refused(control: ControlScene) -> None:
    release_id, index = waiting(control)
    with pytest.raises(SlipwayError, match="does not wait any more"):
        control.acts.approve(WHO["anna"], "tutor", (release_id, index + 1), approved=True, reason="fine")
    assert control.scene.ledger.approval(release_id, index) is None


def test_a_rollback_takes_back_what_was_seen_and_nothing_else_when_repeated(control: ControlScene) -> None:
    release_id = in_the_middle(control, in_canary_of(control.scene))
    asked = {"to_base": False, "quarantine": True, "reason": "complaints"}
    first = control.acts.roll_back(WHO["olga"], "tutor", release_id, **asked)  # type: ignore[arg-type]
    again = control.acts.roll_back(WHO["anna"], "tutor", release_id, **asked)  # type: ignore[arg-type]
    command = control.scene.ledger.command(release_id)
    assert (first.outcome, again.outcome) == ("rolled_back", "nothing_to_do")
    assert command is not None
    assert (command.by, command.reason) == ("olga", "complaints")
    assert control.scene.serves() == {control.scene.base.variant_name}
    assert control.scene.ledger.quarantined(control.scene.new.digest)


def test_a_quarantine_is_lifted_under_the_persons_name(control: ControlScene) -> None:
    release_id = in_the_middle(control, in_canary_of(control.scene))
    control.acts.roll_back(WHO["olga"], "tutor", release_id, to_base=False, quarantine=True, reason="complaints")
    control.acts.lift_quarantine(WHO["anna"], "tutor", control.scene.new.digest, reason="it was the network")
    rows = control.scene.ledger.audit.quarantine_of(control.scene.new.digest)
    assert [(row["by"], row["lifted"]) for row in rows] == [("olga", False), ("anna", True)]


def test_what_lasts_is_the_command_itself_and_on_record_before_it_starts(control: ControlScene) -> None:
    digest = control.scene.new.digest
    control.acts.release(WHO["olga"], "tutor", digest[:20], at_any_hour=True, reason="the new data")
    control.acts.build(WHO["olga"], "tutor", reason="the new data")
    control.acts.refresh(WHO["olga"], "tutor", reason="weekly")
    control.acts.watch(WHO["olga"], "tutor", duration_s=600, holdback_bp=500, reason="a complaint")
    words = [command.argv[3:4] + command.argv[8:] for command in control.launched]
    assert words == [
        ("release", digest, "--by", "olga", "--at-any-hour"),
        ("build",),
        ("refresh", "--by", "olga"),
        ("watch", "--duration-s", "600", "--holdback-bp", "500"),
    ]
    assert [who for who, _ in asked_for(control)] == ["olga"] * 4
    assert asked_for(control)[-1][1] == f"route tutor: a release of bundle {digest}: the new data"


def test_what_was_started_shows_its_last_lines_the_newest_first(control: ControlScene) -> None:
    folder = control.home / "environments" / "local" / "control-room" / "tutor"
    folder.mkdir(parents=True)
    assert control.acts.started("tutor") == []
    for at, name in enumerate(("build", "watch"), start=1):
        log = folder / f"{name}.log"
        log.write_text("".join(f"line {number}\n" for number in range(5000)))
        os.utime(log, (at, at))
    found = control.acts.started("tutor")
    assert [(one.name, one.runs) for one in found] == [("watch", False), ("build", False)]
    assert found[0].said.splitlines() == [f"line {number}" for number in range(4988, 5000)]


def every_deed(control: ControlScene, who: Person, reason: str) -> dict[str, Any]:
    acts, digest = control.acts, control.scene.new.digest
    seen = ("r1", 1)
    return {
        "approve": lambda: acts.approve(who, "tutor", seen, approved=True, reason=reason),
        "reject": lambda: acts.approve(who, "tutor", seen, approved=False, reason=reason),
        "roll back": lambda: acts.roll_back(who, "tutor", "r1", to_base=False, quarantine=True, reason=reason),
        "release": lambda: acts.release(who, "tutor", digest, at_any_hour=False, reason=reason),
        "watch": lambda: acts.watch(who, "tutor", duration_s=60, holdback_bp=0, reason=reason),
        "build": lambda: acts.build(who, "tutor", reason=reason),
        "refresh": lambda: acts.refresh(who, "tutor", reason=reason),
        "lift quarantine": lambda: acts.lift_quarantine(who, "tutor", digest, reason=reason),
    }


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("vera", {"approve", "reject", "roll back", "release", "watch", "build", "refresh", "lift quarantine"}),
        ("olga", {"approve", "reject", "lift quarantine"}),
        ("anna", {"release", "watch", "build", "refresh"}),
    ],
)
def test_nobody_does_what_their_roles_do_not_allow(control: ControlScene, name: str, refused: set[str]) -> None:
    for deed, do in every_deed(control, WHO[name], "because").items():
        if deed in refused:
            with pytest.raises(NotAllowedError, match=f"{name} may not {deed}"):
                do()
    assert asked_for(control) == []
    assert control.launched == []


def test_whoever_reads_without_a_name_does_nothing(control: ControlScene) -> None:
    nameless = Person(name="", roles=frozenset({"viewer", "operator", "approver"}))
    for do in every_deed(control, nameless, "because").values():
        with pytest.raises(NotAllowedError):
            do()


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001])
def test_every_deed_needs_a_reason_of_a_readable_length(control: ControlScene, reason: str) -> None:
    for do in every_deed(control, WHO["omar"], reason).values():
        with pytest.raises(SlipwayError, match="a reason is needed"):
            do()


def test_a_bundle_that_is_not_there_starts_nothing(control: ControlScene) -> None:
    with pytest.raises(SlipwayError):
        control.acts.release(WHO["olga"], "tutor", "sha256:feed", at_any_hour=False, reason="x")
    assert asked_for(control) == []


def test_a_route_that_is_not_shown_is_named_with_those_that_are(control: ControlScene) -> None:
    with pytest.raises(SlipwayError, match="no route 'other'"):
        control.acts.build(WHO["olga"], "other", reason="x")
