"""The review queue: one person works on an item at a time, nothing is lost, and what is erased is gone."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.review import Review
from delivery.clients.ledger.ledger import Ledger, LedgerError
from delivery.clients.ledger.review import Queue
from delivery.clients.ledger.turns import PAUSE_S, Turns
from delivery.review.items import ORIGINS, AskedAndAnswered, Item, ItemDraft, ItemOrigin
from delivery.review.rules import choose

QUEUE = Queue(environment="local", route="tutor")
RULES = Review(lease_s=60)
TWO = Review(reviewers=2, lease_s=60)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, empty_ledger: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
        found = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", busy_timeout_s=5)
    else:
        new: Callable[[], str] = request.getfixturevalue("new_postgres")
        found = Ledger(new(), busy_timeout_s=5)
    yield found
    found.close()


def found(number: int, origin: ItemOrigin = "negative", at: float = 0, user: str = "u", secret: str = "") -> ItemDraft:
    asked = AskedAndAnswered(
        messages=({"role": "user", "content": f"What is {number}?{secret}"},), answer=f"It is {number + 1}."
    )
    return ItemDraft(origin=origin, why="because", asked=asked, request_id=f"q{number}", user=user, at=at)


def take(ledger: Ledger, person: str, now: float = 0, rules: Review = RULES, item: str | None = None) -> Item:
    one = ledger.review.take(QUEUE, person, rules, now, item)
    assert one is not None
    return one


def test_items_come_once_and_complaints_come_first(ledger: Ledger) -> None:
    assert ledger.review.add(QUEUE, [found(1, "sampled"), found(2), found(3, "escalated")], "ann", 0) == 3
    assert ledger.review.add(QUEUE, [found(1, "negative"), found(2, "sampled")], "ann", 1) == 0
    assert [one.request_id for one in ledger.review.items(QUEUE)] == ["q3", "q1", "q2"]  # q1 was complained about since
    assert ledger.review.counts(QUEUE) == {"open": {"escalated": 1, "negative": 2}}
    assert ledger.review.items(Queue(environment="local", route="other")) == []


def test_an_item_is_one_persons_until_the_lease_ends(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1)], "ann", 0)
    one = take(ledger, "ann")
    assert take(ledger, "ANN", now=30).id == one.id  # she comes back to it
    assert ledger.review.take(QUEUE, "bob", RULES, 80) is None
    with pytest.raises(LedgerError, match="ANN works on it for another 10 s"):
        take(ledger, "bob", now=80, item=one.id)
    assert take(ledger, "bob", now=90).id == one.id
    with pytest.raises(LedgerError, match="bob works on it"):
        ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 91)


def test_who_saw_an_older_text_cannot_judge_the_newer_one(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1)], "ann", 0)
    one = take(ledger, "ann")
    take(ledger, "bob", now=70)
    ledger.review.rewrite(QUEUE, "bob", one.id, "It is 1.", "wrong", RULES, 71)
    with pytest.raises(LedgerError, match="you have not taken it"):
        ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 72)
    assert take(ledger, "ann", now=73).answer == "It is 1."
    assert ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 74).status == "approved"


def test_nobody_approves_their_own_rewrite_and_two_must_agree(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1)], "ann", 0)
    one = take(ledger, "ann", rules=TWO)
    ledger.review.rewrite(QUEUE, "ann", one.id, "It is 1.", "wrong", TWO, 0)
    assert ledger.review.take(QUEUE, "ann", TWO, 0) is None
    take(ledger, "ann", rules=TWO, item=one.id)
    with pytest.raises(LedgerError, match="nobody approves their own rewrite"):
        ledger.review.judge(QUEUE, "ann", one.id, True, "mine", TWO, 0)
    ledger.review.give_back(QUEUE, "ann", one.id, TWO, 0)
    for person, status in (("bob", "open"), ("carol", "approved")):
        take(ledger, person, rules=TWO)
        assert ledger.review.judge(QUEUE, person, one.id, True, "right", TWO, 0).status == status
    told = [(act["kind"], act["by"], act["version"]) for act in ledger.review.acts(QUEUE, one.id)]
    assert told == [("rewrite", "ann", 1), ("approve", "bob", 1), ("approve", "carol", 1)]
    assert ledger.review.verdict_pairs(QUEUE) == [(True, True)]
    assert [one.answer for one in ledger.review.approved(QUEUE)] == ["It is 1."]


def test_a_name_and_a_reason_are_needed_and_an_empty_rewrite_is_none(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1)], "ann", 0)
    one = take(ledger, "ann")
    for by, reason in (("", "fine"), ("ann", " ")):
        with pytest.raises(LedgerError, match="name of a person"):
            ledger.review.judge(QUEUE, by, one.id, True, reason, RULES, 0)
    for answer, why in ((" ", "is empty"), ("It is 2.", "says already")):
        with pytest.raises(LedgerError, match=why):
            ledger.review.rewrite(QUEUE, "ann", one.id, answer, "better", RULES, 0)
    with pytest.raises(LedgerError, match="has no item r-0"):
        take(ledger, "ann", item="r-0")
    ledger.review.label(QUEUE, "ann", one.id, "arithmetic", "it counts", RULES, 0)
    assert ledger.review.judge(QUEUE, "ann", one.id, False, "no use", RULES, 0).label == "arithmetic"
    with pytest.raises(LedgerError, match="it is rejected"):
        take(ledger, "bob", item=one.id)


def test_an_erased_item_keeps_its_digests_and_its_history_and_is_read_no_more(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1, user="eve"), found(2)], "ann", 0)
    one = take(ledger, "ann")
    ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 0)
    ledger.review.mark_read(QUEUE, [one.id], "sha256:v1")
    before = digests(ledger)
    (gone,) = ledger.review.erase(QUEUE, "dpo", "eve asked for it", 9, user="eve")
    assert (gone.id, gone.dataset, gone.asked) == (one.id, "sha256:v1", None)
    assert not list(ledger.review.approved(QUEUE))
    assert digests(ledger) == before
    assert [act["kind"] for act in ledger.review.acts(QUEUE, one.id)] == ["approve", "erase"]
    assert ledger.review.add(QUEUE, [found(1, user="eve")], "ann", 10) == 0  # its text does not come back
    assert ledger.review.item(QUEUE, one.id).asked is None
    assert ledger.review.erase(QUEUE, "dpo", "again", 11, ids=[one.id]) == []


def digests(ledger: Ledger) -> list[str]:
    with sa.create_engine(ledger.url).connect() as anyone:
        return list(anyone.execute(sa.text("SELECT digest FROM review_texts ORDER BY item, version")).scalars())


def test_old_texts_go_unless_they_were_approved(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1, at=5), found(2, at=5), found(3, at=50)], "ann", 50)
    one = take(ledger, "ann", now=50)
    ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 50)
    assert [gone.request_id for gone in ledger.review.erase_older(QUEUE, 10, "ann", 51)] == ["q2"]
    assert ledger.review.counts(QUEUE) == {one: {"negative": 1} for one in ("approved", "erased", "open")}


def test_a_text_can_be_forgotten_and_never_rewritten(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1)], "ann", 0)
    with sa.create_engine(ledger.url).connect() as anyone:
        for change in ("content = '{}'", "content = NULL, digest = 'x'"):
            with pytest.raises(sa.exc.DBAPIError, match="review_texts is append-only"):
                anyone.execute(sa.text(f"UPDATE review_texts SET {change}"))
            anyone.rollback()


def test_what_is_erased_is_not_left_in_the_file(tmp_path: Path, empty_ledger: Path) -> None:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.review.add(QUEUE, [found(1, secret="SECRET-OF-EVE")], "ann", 0)
    assert any(b"SECRET-OF-EVE" in file.read_bytes() for file in tmp_path.iterdir())
    assert "SECRET-OF-EVE" not in "".join(ledger.export())
    ledger.review.erase(QUEUE, "ann", "asked", 1, ids=[found(1, secret="SECRET-OF-EVE").id])
    assert not any(b"SECRET-OF-EVE" in file.read_bytes() for file in tmp_path.iterdir())


def test_only_what_no_version_has_read_is_newly_approved(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(1), found(2), found(3, "eval")], "ann", 0)
    for _ in range(3):
        one = take(ledger, "ann")
        ledger.review.judge(QUEUE, "ann", one.id, True, "fine", RULES, 0)
    assert ledger.review.newly_approved(QUEUE) == 2  # nothing is trained on its own test
    ledger.review.mark_read(QUEUE, [found(1).id], "v1")
    ledger.review.mark_read(QUEUE, [found(1).id], "v2")
    assert ledger.review.newly_approved(QUEUE) == 1
    assert ledger.review.item(QUEUE, found(1).id).dataset == "v1"


acts_of = st.lists(
    st.tuples(st.sampled_from(["ann", "Bob", "carol"]), st.sampled_from(["take", "approve", "reject", "rewrite"])),
    max_size=12,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts_of, st.lists(st.sampled_from(ORIGINS), min_size=1, max_size=4))
def test_the_database_gives_what_the_rules_choose(
    tmp_path: Path, empty_ledger: Path, acts: list[tuple[str, str]], origins: list[ItemOrigin]
) -> None:
    shutil.copy(empty_ledger, tmp_path / "ledger.sqlite")
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite")
    ledger.review.add(QUEUE, [found(n, origin) for n, origin in enumerate(origins)], "ann", 0)
    held: dict[str, str] = {}
    for step, (person, act) in enumerate(acts):
        now = 25.0 * step
        if act == "take":
            wanted = choose(ledger.review.items(QUEUE), person, TWO, now)
            got = ledger.review.take(QUEUE, person, TWO, now)
            assert [one.id for one in wanted] == ([] if got is None else [got.id])
            if got is not None:
                held[person] = got.id
        elif person in held:
            try:
                if act == "rewrite":
                    ledger.review.rewrite(QUEUE, person, held[person], f"{step}", "better", TWO, now)
                else:
                    ledger.review.judge(QUEUE, person, held[person], act == "approve", "so", TWO, now)
            except LedgerError:
                held.pop(person)  # somebody else has it now
    ledger.close()


WORKER = """
import sys
from pathlib import Path
from configs.review import Review
from delivery.clients.ledger.ledger import Ledger
from delivery.clients.ledger.review import Queue
url, person, die = sys.argv[1:]
ledger = Ledger(url, busy_timeout_s=120)
queue, rules = Queue(environment="local", route="tutor"), Review(lease_s=60)
sys.stdin.readline()
while (one := ledger.review.take(queue, person, rules, 10.0)) is not None:
    print(one.id, flush=True)
    if die:
        sys.stdin.readline()
    ledger.review.judge(queue, person, one.id, True, "fine", rules, 10.0)
"""


@pytest.mark.live
def test_two_processes_never_have_one_item_and_a_killed_one_loses_nothing(ledger: Ledger) -> None:
    ledger.review.add(QUEUE, [found(number) for number in range(20)], "ann", 0)

    def start(person: str, die: str = "") -> "subprocess.Popen[str]":
        argv = [sys.executable, "-c", WORKER, ledger.url, person, die]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    doomed = start("dan", "die")
    assert doomed.stdin is not None
    assert doomed.stdout is not None
    doomed.stdin.write("go\n")
    doomed.stdin.flush()
    lost = doomed.stdout.readline().strip()  # he has it, and dies before he decides
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.communicate()

    workers = [start("bob"), start("carol")]
    done = []
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    done = [worker.communicate(timeout=300)[0].split() for worker in workers]
    taken = [item for own in done for item in own]
    assert len(taken) == len(set(taken)) == 19
    assert lost not in taken  # it is his until his lease ends
    assert take(ledger, "bob", now=71).id == lost
    ledger.review.judge(QUEUE, "bob", lost, True, "fine", RULES, 71)
    assert ledger.review.counts(QUEUE) == {"approved": {"negative": 20}}
    assert all(len(ledger.review.acts(QUEUE, item)) == 1 for item in (*taken, lost))


def test_long_work_pauses_between_its_transactions_so_that_others_can_write() -> None:
    now, pauses = [0.0], list[float]()
    turns = Turns(pauses.append, lambda: now[0])
    for at in (0.05, 0.10, 0.16, 0.20, 0.40):
        now[0] = at
        turns.done()
    assert pauses == [PAUSE_S, PAUSE_S]  # after 0.16 s, and 0.24 s later
    turns.shared = True
    now[0] = 9.0
    turns.done()
    assert len(pauses) == 2


def test_many_items_come_in_and_go_in_several_transactions(ledger: Ledger) -> None:
    begun = []
    write = ledger.review._write
    ledger.review._write = lambda: (begun.append(1), write())[1]  # type: ignore[method-assign]
    many = [found(number, user=f"u{number % 2}") for number in range(1_100)]
    assert ledger.review.add(QUEUE, many, "ann", 0) == 1_100
    assert len(begun) == 3
    assert ledger.review.add(QUEUE, many, "ann", 0) == 0
    begun.clear()
    assert len(ledger.review.of_user(QUEUE, "u1")) == 550
    gone = ledger.review.erase(QUEUE, "ann", "asked", 1, user="u1")
    assert len({one.id for one in gone}) == 550
    assert len(begun) == 6
    assert all(one.asked is None and one.answer is None for one in gone)
    assert ledger.review.counts(QUEUE) == {"open": {"negative": 550}, "erased": {"negative": 550}}
    assert ledger.review.of_user(QUEUE, "u1") == []
