"""The ledger keeps what it is told, in one piece, and lets one controller at a time write."""

import json
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from configs.rollout import Check, RolloutPlan, Stage
from configs.routing import RoutingTable, Variant
from delivery.bundle import Bundle
from delivery.clients import ledger_schema
from delivery.clients.ledger import LeaseHeldError, Ledger, LedgerError
from delivery.release import Commit, Decision, Quarantine, ReleaseState, Served, SetTable
from delivery.rollout import new_state
from delivery.tables import alone

PLAN = RolloutPlan(
    stages=(Stage(kind="canary", share_bp=500), Stage(kind="full", share_bp=9500)),
    checks=(Check(metric="error_rate", max=0.1),),
)


def bundle(prompt: str = "short") -> Bundle:
    return Bundle(
        route="tutor",
        base_model="base",
        base_revision="sha256:0",
        adapter=None,
        dataset_version=None,
        dataset_code=None,
        training=None,
        system_prompt=prompt,
        temperature=0.0,
        max_tokens=16,
    )


def served(of: Bundle) -> Served:
    return Served(
        bundle=of.digest,
        name=of.variant_name,
        variant=Variant(model=of.served_name, upstreams=("http://vllm",), system_prompt=of.system_prompt),
    )


BASE, NEW = bundle("a long prompt"), bundle("short")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", busy_timeout_s=0.05)


def begun(ledger: Ledger, now: float = 0.0, release_id: str = "r1") -> ReleaseState:
    state = new_state(release_id, "local", "tutor", served(NEW), served(BASE), now)
    ledger.set_base("local", "tutor", served(BASE), BASE, now)
    ledger.begin(state, PLAN, NEW, "me", 30, now)
    return state


def table(revision: int, who: Served) -> RoutingTable:
    return RoutingTable(revision=revision, routes={"tutor": alone(who, "salt", "epoch")})


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(ledger: Ledger) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with sa.create_engine(ledger.url).connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == ledger_schema.HEAD
        assert compare_metadata(context, ledger_schema.metadata) == []


def test_a_state_comes_back_as_it_was_written(ledger: Ledger) -> None:
    state = begun(ledger)
    assert ledger.state("r1") == state
    assert ledger.unfinished("local", "tutor") == state
    assert ledger.plan("r1") == PLAN
    assert ledger.bundle(NEW.digest) == NEW


def test_a_second_controller_is_refused_with_the_name_of_the_first(ledger: Ledger) -> None:
    ledger.acquire("local", "ann@host:1", 30, now=0)
    with pytest.raises(LeaseHeldError, match="ann@host:1"):
        ledger.acquire("local", "bob@host:2", 30, now=29)
    ledger.acquire("other", "bob@host:2", 30, now=29)


def test_a_dead_owners_lease_ends_by_itself(ledger: Ledger) -> None:
    ledger.acquire("local", "ann", 30, now=0)
    ledger.acquire("local", "bob", 30, now=30.1)
    with pytest.raises(LeaseHeldError, match="bob"):
        ledger.acquire("local", "ann", 30, now=31)


def test_an_owner_prolongs_its_lease_and_gives_it_back(ledger: Ledger) -> None:
    ledger.acquire("local", "ann", 30, now=0)
    ledger.acquire("local", "ann", 30, now=20)
    with pytest.raises(LeaseHeldError):
        ledger.acquire("local", "bob", 30, now=40)
    ledger.release_lease("local", "ann")
    ledger.acquire("local", "bob", 30, now=40)


def test_a_controller_that_lost_its_lease_can_write_nothing(ledger: Ledger) -> None:
    state = begun(ledger)
    ledger.acquire("local", "other", 30, now=100)
    decision = Decision(state=state, actions=(Quarantine(bundle=NEW.digest, reason="x"),), verdict="fail", reason="x")
    with pytest.raises(LeaseHeldError):
        ledger.record(decision, "me", 30, now=101)
    assert ledger.decisions("r1") == []
    assert ledger.quarantined(NEW.digest) == ""


def test_a_decision_its_state_its_table_and_its_effects_are_one_transaction(ledger: Ledger) -> None:
    state = begun(ledger).model_copy(update={"phase": "live", "committed": True})
    actions = (
        Commit(live=served(NEW), previous=served(BASE)),
        SetTable(table=table(3, served(NEW))),
    )
    number = ledger.record(Decision(state=state, actions=actions, verdict="pass", reason="ok"), "me", 30, now=5)
    ledger.mark_applied(number, 0, now=6)
    assert ledger.newest_table("local") == table(3, served(NEW))
    pointers = ledger.route("local", "tutor")
    assert pointers is not None
    assert (pointers.live, pointers.previous, pointers.base) == (served(NEW), served(BASE), served(BASE))
    assert ledger.unfinished("local", "tutor") is None
    assert ledger.release_that_made_live("local", "tutor", NEW.digest) == state

    clash = SetTable(table=table(3, served(BASE)))
    again = state.model_copy(update={"phase": "rolling_back"})
    decision = Decision(state=again, actions=(clash,), verdict="fail", reason="no")
    with pytest.raises(LedgerError, match="another table"):
        ledger.record(decision, "me", 30, now=7)
    assert ledger.state("r1") == state


def test_a_later_base_does_not_change_what_is_live(ledger: Ledger) -> None:
    ledger.set_base("local", "tutor", served(BASE), BASE, 0)
    ledger.set_base("local", "tutor", served(NEW), NEW, 1)
    pointers = ledger.route("local", "tutor")
    assert pointers is not None
    assert pointers.live == served(BASE)
    assert pointers.base == served(NEW)


def test_a_quarantine_holds_until_a_named_person_lifts_it(ledger: Ledger) -> None:
    state = begun(ledger)
    decision = Decision(state=state, actions=(Quarantine(bundle="d", reason="bad"),), verdict="fail", reason="bad")
    ledger.record(decision, "me", 30, now=1)
    assert ledger.quarantined("d") == "bad"
    with pytest.raises(LedgerError, match="name"):
        ledger.lift_quarantine("d", "", "because", 2)
    ledger.lift_quarantine("d", "ann", "fixed the upstream", 2)
    assert ledger.quarantined("d") == ""


def test_approvals_and_commands_need_a_person_and_a_reason(ledger: Ledger) -> None:
    begun(ledger)
    with pytest.raises(LedgerError, match="name"):
        ledger.add_approval("r1", 0, True, " ", "fine", 1)
    with pytest.raises(LedgerError, match="reason"):
        ledger.add_command("r1", "rollback", "ann", "", 1)
    ledger.add_approval("r1", 0, True, "ann", "looks fine", 1)
    approval = ledger.approval("r1", 0)
    assert approval is not None
    assert approval.by == "ann"
    assert ledger.approval("r1", 1) is None


def test_a_rollback_outranks_a_cancel_that_came_later(ledger: Ledger) -> None:
    begun(ledger)
    ledger.add_command("r1", "rollback", "ann", "users complain", 1, target=served(BASE))
    ledger.add_command("r1", "cancel", "bob", "superseded", 2)
    command = ledger.command("r1")
    assert command is not None
    assert (command.kind, command.by, command.target) == ("rollback", "ann", served(BASE))


def test_a_locked_ledger_is_a_clear_error_and_keeps_nothing(ledger: Ledger, tmp_path: Path) -> None:
    state = begun(ledger)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    decision = Decision(state=state, actions=(), verdict="pass", reason="x")
    with pytest.raises(LedgerError, match="locked"):
        ledger.record(decision, "me", 30, now=1)
    assert ledger.state("r1") == state  # readers are not held up
    other.execute("ROLLBACK")
    assert ledger.record(decision, "me", 30, now=1) == 1


def test_a_full_disk_is_a_clear_error_and_keeps_nothing(ledger: Ledger) -> None:
    state = begun(ledger)
    full = Ledger(ledger.url)

    @sa.event.listens_for(full._engine, "connect")
    def _no_room(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    full._engine.dispose()
    decision = Decision(state=state, actions=(), verdict="pass", reason="x" * 200_000)
    with pytest.raises(LedgerError, match="full"):
        full.record(decision, "me", 30, now=1)
    assert ledger.decisions("r1") == []


def test_the_export_is_every_row_as_json(ledger: Ledger) -> None:
    state = begun(ledger)
    ledger.record(Decision(state=state, actions=(), verdict="inconclusive", reason="nothing yet"), "me", 30, now=1)
    rows = [json.loads(line) for line in ledger.export()]
    assert {row["table"] for row in rows} >= {"bundles", "releases", "decisions", "routes", "leases"}
    assert [row["row"]["reason"] for row in rows if row["table"] == "decisions"] == ["nothing yet"]
