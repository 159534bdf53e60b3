"""The ledger keeps what it is told, in one piece, and lets one controller at a time write."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.tiny_bundle import tiny_bundle
from configs.checks import Check
from configs.review import Review
from configs.rollout import RolloutPlan, Stage
from configs.routing import RoutingTable, Variant
from delivery.build.bundle import Bundle
from delivery.build.gate import GateDecision
from delivery.clients.ledger import schema as ledger_schema
from delivery.clients.ledger.ledger import LeaseHeldError, Ledger, LedgerError, RevisionTakenError
from delivery.clients.ledger.review import Queue
from delivery.release.decide import new_state
from delivery.release.routes import alone
from delivery.release.state import Commit, Decision, Quarantine, ReleaseState, Served, SetTable
from delivery.review.items import AskedAndAnswered, ItemDraft

PLAN = RolloutPlan(
    stages=(Stage(kind="canary", share_bp=500), Stage(kind="full", share_bp=9500)),
    checks=(Check(metric="error_rate", max=0.1),),
)


def served(of: Bundle) -> Served:
    return Served(
        bundle=of.digest,
        name=of.variant_name,
        variant=Variant(model=of.served_name, upstreams=("http://vllm",), system_prompt=of.system_prompt),
    )


QUEUE = Queue(environment="local", route="tutor")
BASE, NEW = tiny_bundle("a long prompt"), tiny_bundle("short")


@pytest.fixture
def sqlite_ledger(tmp_path: Path, empty_ledger: Path) -> Ledger:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    return Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", busy_timeout_s=0.05)


@pytest.fixture
def postgres_ledger(new_postgres: Callable[[], str]) -> Iterator[Ledger]:
    found = Ledger(new_postgres(), busy_timeout_s=0.05)
    yield found
    found.close()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    found: Ledger = request.getfixturevalue(f"{request.param}_ledger")
    return found


def begun(ledger: Ledger, now: float = 0.0, release_id: str = "r1") -> ReleaseState:
    state = new_state(release_id, "local", "tutor", served(NEW), served(BASE), now)
    ledger.set_base("local", "tutor", served(BASE), BASE, "me", now)
    ledger.acquire("local", "me", 30, now)
    ledger.begin(state, PLAN, NEW, "me", 30, now)
    return state


def taken(ledger: Ledger) -> str:
    item = ledger.review.take(QUEUE, "ann", Review(), 1)
    assert item is not None
    return item.id


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
    ledger.release_lease("local", "ann", 40)
    ledger.acquire("local", "bob", 30, now=40)


def test_a_controller_that_lost_its_lease_can_write_nothing(ledger: Ledger) -> None:
    state = begun(ledger)
    ledger.acquire("local", "other", 30, now=100)
    decision = Decision(state=state, actions=(Quarantine(bundle=NEW.digest, reason="x"),), verdict="fail", reason="x")
    with pytest.raises(LeaseHeldError):
        ledger.record(decision, "me", 30, now=101)
    ledger.release_lease("local", "other", 102)  # it may have moved the release on before
    with pytest.raises(LeaseHeldError, match="nobody does"):
        ledger.record(decision, "me", 30, now=103)
    assert ledger.decisions("r1") == []
    assert ledger.quarantined(NEW.digest) == ""


def test_a_lease_that_ended_and_that_nobody_took_is_still_its_owners(ledger: Ledger) -> None:
    state = begun(ledger)
    assert ledger.record(Decision(state=state, actions=(), verdict="pass", reason="late"), "me", 30, now=1000) > 0


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
    ledger.set_base("local", "tutor", served(BASE), BASE, "me", 0)
    ledger.set_base("local", "tutor", served(NEW), NEW, "me", 1)
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


def test_a_locked_ledger_is_a_clear_error_and_keeps_nothing(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    ledger, state = sqlite_ledger, begun(sqlite_ledger)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    decision = Decision(state=state, actions=(), verdict="pass", reason="x")
    with pytest.raises(LedgerError, match="locked"):
        ledger.record(decision, "me", 30, now=1)
    assert ledger.state("r1") == state  # readers are not held up
    other.execute("ROLLBACK")
    assert ledger.record(decision, "me", 30, now=1) == 1


def test_a_full_disk_is_a_clear_error_and_keeps_nothing(sqlite_ledger: Ledger) -> None:
    ledger, state = sqlite_ledger, begun(sqlite_ledger)
    full = Ledger(ledger.url)

    @sa.event.listens_for(full._engine, "connect")
    def _no_room(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")

    full._engine.dispose()
    decision = Decision(state=state, actions=(), verdict="pass", reason="x" * 200_000)
    with pytest.raises(LedgerError, match="make room"):
        full.record(decision, "me", 30, now=1)
    assert ledger.decisions("r1") == []


def test_a_postgres_that_is_locked_is_a_clear_error_within_a_moment(postgres_ledger: Ledger) -> None:
    state = begun(postgres_ledger)
    decision = Decision(state=state, actions=(), verdict="pass", reason="x")
    with sa.create_engine(postgres_ledger.url).connect() as other, other.begin():
        other.execute(sa.select(ledger_schema.leases).with_for_update())
        with pytest.raises(LedgerError, match="lock timeout"):
            postgres_ledger.record(decision, "me", 30, now=1)
        assert postgres_ledger.state("r1") == state
    assert postgres_ledger.record(decision, "me", 30, now=1) > 0


def test_a_postgres_that_is_gone_is_a_clear_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="PGPASSWORD") as caught:
        Ledger(f"postgresql://me:hunter2@/ledger?host={tmp_path}", busy_timeout_s=0.05)
    assert "hunter2" not in str(caught.value)


def test_another_database_is_refused_with_what_is_known() -> None:
    with pytest.raises(LedgerError, match="SQLite or PostgreSQL, found mysql"):
        Ledger("mysql://me@host/ledger")
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger("nonsense")


def test_what_happened_can_be_neither_changed_nor_deleted_by_anyone(ledger: Ledger) -> None:
    state = begun(ledger)
    actions = (Quarantine(bundle="d", reason="bad"), SetTable(table=table(3, served(BASE))))
    number = ledger.record(Decision(state=state, actions=actions, verdict="fail", reason="bad"), "me", 30, now=1)
    ledger.mark_applied(number, 0, now=1)
    ledger.add_command("r1", "rollback", "ann", "users complain", 1)
    ledger.add_approval("r1", 0, True, "ann", "looks fine", 1)
    ledger.add_build(NEW, GateDecision(passed=True, findings=()), 1)
    asked = AskedAndAnswered(messages=({"role": "user", "content": "why?"},), answer="so")
    ledger.review.add(QUEUE, [ItemDraft(origin="hand", why="", asked=asked, at=1)], "ann", 1)
    ledger.review.judge(QUEUE, "ann", taken(ledger), True, "fine", Review(), 1)
    moving = {"outbox", "review_items", "review_texts"}  # how a delivery or a review goes; a text can be forgotten
    pointers = {"releases", "routes", "leases", *moving}
    written = {table.name for table in ledger_schema.metadata.sorted_tables} - pointers
    before = list(ledger.export())
    assert {json.loads(line)["table"] for line in before} >= written
    with sa.create_engine(ledger.url).connect() as anyone:
        for name in sorted(written | {"releases"}):
            column = next(iter(ledger_schema.metadata.tables[name].columns)).name
            statements = [f'DELETE FROM "{name}"', f'UPDATE "{name}" SET "{column}" = "{column}"']
            for statement in statements if name in written else statements[:1]:
                with pytest.raises(sa.exc.DBAPIError, match=f"{name} is append-only"):
                    anyone.execute(sa.text(statement))
                anyone.rollback()
    assert list(ledger.export()) == before


def test_the_audit_says_who_did_what_and_when(ledger: Ledger) -> None:
    begun(ledger, now=5)
    ledger.acquire("other", "ann@host:1", 30, now=6)
    ledger.acquire("other", "bob@host:2", 30, now=40)
    ledger.release_lease("other", "bob@host:2", now=41, by="carol@host:3")
    ledger.add_table("local", table(9, served(BASE)), "by hand", "dave", 42)
    rows = [json.loads(line) for line in ledger.export()]
    told = [row["row"] for row in rows if row["table"] == "events"]
    assert [(one["at"], one["kind"], one["who"]) for one in told] == [
        (5, "base_set", "me"),
        (5, "lease_taken", "me"),
        (5, "release_begun", "slipway"),
        (6, "lease_taken", "ann@host:1"),
        (40, "lease_taken", "bob@host:2"),
        (41, "lease_given_back", "carol@host:3"),
        (42, "table_put", "dave"),
    ]
    assert "from ann@host:1" in told[4]["text"]


def test_of_many_who_take_a_lease_at_once_one_gets_it(ledger: Ledger) -> None:
    for now in (0.0, 100.0):  # free at first, then ended
        won, barrier = [], threading.Barrier(6)

        def take(number: int, now: float = now, barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            mine = Ledger(ledger.url, busy_timeout_s=5)
            barrier.wait()
            try:
                mine.acquire("local", f"{now}/{number}", 30, now)
                won.append(number)
            except LeaseHeldError:
                pass
            finally:
                mine.close()

        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        holder = ledger.holder("local")
        assert holder is not None
        assert holder.owner == f"{now}/{won[0]}"


def test_of_two_tables_with_one_revision_the_first_stays(ledger: Ledger) -> None:
    ledger.add_table("local", table(9, served(BASE)), "by hand", "ann", 1)
    ledger.add_table("local", table(9, served(BASE)), "by hand", "ann", 2)
    with pytest.raises(RevisionTakenError, match="by hand"):
        ledger.add_table("local", table(9, served(NEW)), "also by hand", "bob", 3)
    assert ledger.newest_table("local") == table(9, served(BASE))


def test_a_table_that_an_older_version_wrote_with_fewer_fields_is_the_same_table(ledger: Ledger) -> None:
    known = table(9, served(BASE))
    older = known.model_dump(mode="json")
    for route in older["routes"].values():
        del route["trip"]
    with ledger._engine.begin() as connection:
        values = {"environment": "local", "revision": 9, "table": older, "why": "by hand", "at": 1.0}
        connection.execute(sa.insert(ledger_schema.routing_revisions).values(**values))
    ledger.add_table("local", known, "start", "ann", 2)
    with pytest.raises(RevisionTakenError, match="by hand"):
        ledger.add_table("local", table(9, served(NEW)), "start", "bob", 3)


def test_what_a_foreign_program_prints_is_kept_whatever_it_is(ledger: Ledger) -> None:
    number = ledger.record(Decision(state=begun(ledger), actions=(), verdict="pass", reason="\0 ä"), "me", 30, 1)
    ledger.mark_applied(number, 0, 2, "vLLM said \0")
    assert [row["reason"] for row in ledger.decisions("r1")] == ["\ufffd ä"]


def test_an_older_ledger_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config

    url = f"sqlite:///{tmp_path}/old.sqlite"
    config = Config()
    config.set_main_option("script_location", str(Path(ledger_schema.__file__).parent / "migrations"))
    with sa.create_engine(url).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = {"digest": "d", "manifest": {"route": "tutor"}, "first_seen_at": 1.0}
        connection.execute(sa.insert(ledger_schema.bundles).values(**values))
    rows = [json.loads(line) for line in Ledger(url).export()]
    assert rows == [{"table": "bundles", "row": values}]


def test_a_newer_ledger_is_refused(sqlite_ledger: Ledger) -> None:
    with sa.create_engine(sqlite_ledger.url).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="schema 9999"):
        Ledger(sqlite_ledger.url)


def test_the_export_is_every_row_as_json(ledger: Ledger) -> None:
    state = begun(ledger)
    ledger.record(Decision(state=state, actions=(), verdict="inconclusive", reason="nothing yet"), "me", 30, now=1)
    rows = [json.loads(line) for line in ledger.export()]
    assert {row["table"] for row in rows} >= {"bundles", "releases", "decisions", "routes", "leases"}
    assert [row["row"]["reason"] for row in rows if row["table"] == "decisions"] == ["nothing yet"]


def test_it_says_which_bundles_must_stay_and_why(ledger: Ledger) -> None:
    state = begun(ledger)
    assert dict(reversed(ledger.needs())) == {
        BASE.digest: "live of tutor in local",
        NEW.digest: "candidate of release r1, which is under way",
    }
    over = state.model_copy(update={"phase": "rolled_back"})
    ruled_out = (Quarantine(bundle=NEW.digest, reason="errors"),)
    ledger.record(Decision(state=over, actions=ruled_out, verdict="fail", reason="errors"), "me", 30, 1.0)
    assert dict(ledger.needs())[NEW.digest] == "quarantined: it is the evidence"
    ledger.lift_quarantine(NEW.digest, "ann", "not its fault", 2.0)
    assert NEW.digest not in dict(ledger.needs())
