"""Who may do what with an item, when it is approved, and who sees which item next, whatever people do and when."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.review import Review, person_key
from delivery.review.agreement import agreement
from delivery.review.items import ORIGINS, AskedAndAnswered, Item, ItemDraft, ReviewerVerdict
from delivery.review.rows import rows_of
from delivery.review.rules import choose, is_theirs, outcome, why_not_act, why_not_judge, why_not_take

ASKED = AskedAndAnswered(messages=({"role": "user", "content": "What is 2 + 2?"},), answer="5")


def item(**more: object) -> Item:
    values: dict[str, object] = {
        "id": "r-1", "origin": "negative", "why": "", "request_id": "q1", "user": "u", "bundle": "", "at": 0,
        "added_at": 0, "place": 1, "status": "open", "version": 0, "rewritten_by": None, "label": "", "verdicts": (),
        "lease_owner": "", "lease_until": 0, "asked": ASKED, "answer": "5",
    }  # fmt: skip
    return Item.model_validate(values | more)


people = st.sampled_from(["Ann", "ann ", "bob", "Carol"])
rules_of = st.builds(
    Review, reviewers=st.sampled_from([1, 2]), own_rewrites=st.sampled_from(["refuse", "allow"]), lease_s=st.just(10.0)
)
verdicts_of = st.lists(st.builds(ReviewerVerdict, by=people, approved=st.booleans()), max_size=3)
items_of = st.builds(
    item,
    status=st.sampled_from(["open", "open", "approved", "rejected", "erased"]),
    origin=st.sampled_from(ORIGINS),
    place=st.integers(1, 50),
    version=st.integers(0, 1),
    rewritten_by=st.none() | people,
    verdicts=verdicts_of.map(tuple),
    lease_owner=st.just("") | people,
    lease_until=st.integers(0, 20),
)


@given(st.lists(items_of, max_size=8), people, rules_of, st.integers(0, 20))
def test_nobody_is_given_what_somebody_else_has_or_what_they_cannot_decide(
    items: list[Item], person: str, rules: Review, now: int
) -> None:
    for one in choose(items, person, rules, now, len(items)):
        assert one.status == "open"
        assert is_theirs(one, person) or not one.lease_owner or one.lease_until <= now
        if not (is_theirs(one, person) and now < one.lease_until):
            assert person_key(person) not in {person_key(verdict.by) for verdict in one.verdicts}


@given(st.lists(items_of, max_size=8), people, rules_of, st.integers(0, 20), st.integers(1, 8))
def test_the_first_few_are_the_beginning_of_all_and_what_is_in_hand_comes_first(
    items: list[Item], person: str, rules: Review, now: int, count: int
) -> None:
    everything = choose(items, person, rules, now, len(items))
    assert choose(items, person, rules, now, count) == everything[:count]
    in_hand = [is_theirs(one, person) and now < one.lease_until for one in everything]
    assert in_hand == sorted(in_hand, reverse=True)
    free = [one.order for one, mine in zip(everything, in_hand, strict=True) if not mine]
    assert free == sorted(free)


@given(items_of, people, st.booleans(), rules_of, st.integers(0, 20))
def test_whoever_may_judge_may_act_and_whoever_may_act_may_take(
    one: Item, person: str, approved: bool, rules: Review, now: int
) -> None:
    if not why_not_judge(one, person, approved, rules, now):
        assert not why_not_act(one, person, rules, now)
    if not why_not_act(one, person, rules, now):
        assert not why_not_take(one, person, rules, now)
        assert is_theirs(one, person)


@given(verdicts_of, rules_of)
def test_one_person_never_counts_twice_and_a_verdict_never_undoes_an_outcome(
    verdicts: list[ReviewerVerdict], rules: Review
) -> None:
    found = outcome(verdicts, rules)
    approving = {person_key(one.by) for one in verdicts if one.approved}
    if found == "approved":
        assert len(approving) >= rules.reviewers
    if len({person_key(one.by) for one in verdicts}) < rules.reviewers:
        assert found == "open"


@dataclass
class _Desk:
    """What people did, one step after the other, by the rules alone."""

    rules: Review
    one: Item = field(default_factory=item)
    written: set[str] = field(default_factory=set)

    def step(self, what: str, person: str, now: float) -> None:
        if what == "take" and not why_not_take(self.one, person, self.rules, now):
            self.one = self.one.model_copy(update={"lease_owner": person, "lease_until": now + self.rules.lease_s})
        elif what == "rewrite" and not why_not_act(self.one, person, self.rules, now):
            fresh = {"version": self.one.version + 1, "rewritten_by": person, "verdicts": (), "answer": f"4 by {now}"}
            self.one = self.one.model_copy(update={**fresh, "lease_owner": ""})
        elif what in ("approve", "reject"):
            approved = what == "approve"
            if not why_not_judge(self.one, person, approved, self.rules, now):
                verdicts = (*self.one.verdicts, ReviewerVerdict(by=person, approved=approved))
                status = outcome(verdicts, self.rules)
                self.one = self.one.model_copy(update={"verdicts": verdicts, "status": status, "lease_owner": ""})


steps_of = st.lists(st.tuples(st.sampled_from(["take", "rewrite", "approve", "reject"]), people), max_size=25)


@settings(max_examples=300)
@given(steps_of, rules_of)
def test_an_approved_row_always_has_enough_people_behind_it_and_never_its_own_writer_alone(
    steps: list[tuple[str, str]], rules: Review
) -> None:
    desk = _Desk(rules)
    for now, (what, person) in enumerate(steps):
        before = desk.one
        desk.step(what, person, float(now))
        if before.status != "open":
            assert desk.one == before  # what is decided stays decided
    approving = {person_key(one.by) for one in desk.one.verdicts if one.approved}
    rows = list(rows_of([desk.one], "conversations"))
    assert bool(rows) == (desk.one.status == "approved")
    if rows:
        assert len(approving) >= rules.reviewers
        if rules.own_rewrites == "refuse" and desk.one.rewritten_by is not None:
            assert person_key(desk.one.rewritten_by) not in approving
        assert rows[0][1]["review"]["reviewers"] == [one.by for one in desk.one.verdicts if one.approved]


@given(items_of)
def test_only_what_was_approved_and_is_no_eval_sample_becomes_a_row(one: Item) -> None:
    for kind in ("conversations", "preferences"):
        if list(rows_of([one], kind)):
            assert one.status == "approved"
            assert one.origin != "eval"


def test_a_rewrite_is_chosen_and_the_answer_as_it_came_is_rejected() -> None:
    done = item(
        status="approved",
        version=1,
        rewritten_by="bob",
        answer="4",
        verdicts=(ReviewerVerdict(by="Ann", approved=True),),
    )
    ((_, row),) = rows_of([done], "preferences")
    assert row["prompt"] == list(ASKED.messages)
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("4", "5")
    known = {"item": "r-1", "origin": "negative", "request": "q1", "user": "u", "reviewers": ["Ann"]}
    assert row["review"] == {**known, "rewritten_by": "bob"}
    assert not list(rows_of([item(status="approved")], "preferences"))  # nobody said what would be better


def test_two_people_who_disagree_need_a_third() -> None:
    rules = Review(reviewers=2)
    yes, no = ReviewerVerdict(by="ann", approved=True), ReviewerVerdict(by="bob", approved=False)
    assert outcome([yes, no], rules) == "open"
    assert outcome([yes, no, ReviewerVerdict(by="carol", approved=True)], rules) == "approved"
    assert outcome([yes, no, ReviewerVerdict(by="carol", approved=False)], rules) == "rejected"


def test_a_recipe_that_names_too_few_people_is_refused() -> None:
    with pytest.raises(ValidationError, match="name at least 3"):
        Review(reviewers=2, people=("ann", "bob", "Ann"))
    assert Review(reviewers=2, own_rewrites="allow", people=("ann", "bob")).people
    assert "not among the people" in why_not_take(item(), "eve", Review(people=("ann", "bob")), 0)


def test_agreement_is_what_is_left_without_chance() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = agreement(pairs)  # the example of the article on Cohen's kappa in most textbooks: 0.4
    assert (found.n, found.agreed) == (50, 35)
    assert found.kappa == pytest.approx(0.4)
    assert agreement([(True, True)] * 3).kappa is None
    assert "none" in agreement([]).render()


def test_an_item_is_the_same_however_often_its_request_is_found() -> None:
    first = ItemDraft(origin="sampled", why="", asked=ASKED, request_id="q1", at=1)
    again = ItemDraft(origin="negative", why="", asked=ASKED, request_id="q1", at=9)
    assert first.id == again.id != ItemDraft(origin="sampled", why="", asked=ASKED, request_id="q2", at=1).id
