"""How a judge is asked and understood, and what its preferences are evidence of."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_of import ERRORS, NOTHING, SHADOW, page, plan_of, record

from configs.checks import Check
from configs.judge import GENERAL, Judge
from delivery.checks.evidence import Evidence
from delivery.checks.fold import fold
from delivery.checks.judgements import (
    Judged,
    JudgeSeen,
    LocatedPair,
    Preference,
    Settled,
    are_equal,
    conversation,
    drawn,
    place_in,
    preference_of,
    prompts,
)
from delivery.checks.verdicts import CheckResult, judge
from delivery.traffic.pairs import Pair

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]
CHECK = Check(metric="judge", max=0.7, stages=("shadow",))
JUDGE = Judge(base_url="http://127.0.0.1:9000/v1", model="wise", pairs_per_release=300)
PLAN = plan_of(CHECK, ERRORS, judge=JUDGE)
EPOCH = "r/0-shadow"
EMPTY = NOTHING.model_copy(update={"epoch": EPOCH, "candidate_role": "mirror"})


def pair(seq: int = 1, stable: str = "four", candidate: str = "What is 1 + 1?", asked: Any = ASKED) -> Pair:
    return Pair(
        seq=seq,
        request_id=f"q{seq}",
        route="tutor",
        epoch=EPOCH,
        user="ada",
        started_at=100.0 + seq,
        asked=asked,
        stable=stable,
        candidate=candidate,
    )


# -- the question ---------------------------------------------------------------------------------------------------


def test_both_orders_are_asked_with_the_rubric_and_the_conversation() -> None:
    first, second = prompts("Prefer questions.", pair())
    assert "Prefer questions." in first[0]["content"]
    shown = [json.loads(question[1]["content"]) for question in (first, second)]
    assert [one["conversation"] for one in shown] == [ASKED, ASKED]
    assert (shown[0]["answer_A"], shown[0]["answer_B"]) == ("four", "What is 1 + 1?")
    assert (shown[1]["answer_A"], shown[1]["answer_B"]) == ("What is 1 + 1?", "four")


@given(stable=st.text(), candidate=st.text(), said=st.text(), rubric=st.text(min_size=1))
def test_no_text_breaks_out_of_its_place(stable: str, candidate: str, said: str, rubric: str) -> None:
    one = pair(stable=stable, candidate=candidate, asked=[{"role": "user", "content": said}])
    for question in prompts(rubric, one):
        assert rubric in question[0]["content"]
        shown = json.loads(question[1]["content"])
        assert shown.keys() == {"conversation", "answer_A", "answer_B"}
        assert {shown["answer_A"], shown["answer_B"]} == {stable, candidate}
        assert shown["conversation"] == [{"role": "user", "content": said}]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("Once upon", "Once upon"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image_url"}]}],
            "See:\n[not a text]",
        ),
        ([{"role": "assistant", "content": None}], ""),
        ([1, 2, 3], "[1, 2, 3]"),
        (None, "null"),
    ],
)
def test_whatever_was_asked_is_shown_as_text(asked: Any, shown: str) -> None:
    assert [message["content"] for message in conversation(asked)] == [shown]


# -- the reply ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ('{"better": "A"}', "A"),
        (' {"better": "b", "why": "shorter"}\n', "B"),
        ('```json\n{"better": "tie"}\n```', "tie"),
        ("B", "B"),
        ("**A**", "A"),
        ("Tie.", "tie"),
        ("A is better", None),
        ("A or B", None),
        ("", None),
        ("null", None),
        ("[" * 100_000, None),
        ('{"better": "C"}', None),
        ('{"better": ["A"]}', None),
        ('{"worse": "A"}', None),
        ('{"better": "A"} {"better": "B"}', None),
        ("neither", None),
    ],
)
def test_a_reply_is_understood_as_a_whole_or_not_at_all(reply: str, place: str | None) -> None:
    assert place_in(reply) == place


@given(st.text())
def test_any_reply_is_a_place_or_nothing(reply: str) -> None:
    assert place_in(reply) in ("A", "B", "tie", None)


@pytest.mark.parametrize(
    ("stable_first", "candidate_first", "preference"),
    [
        ("A", "B", "stable"),
        ("B", "A", "candidate"),
        ("A", "A", "swayed"),  # whoever is named first
        ("B", "B", "swayed"),
        ("tie", "B", "swayed"),
        ("tie", "tie", "tie"),
        (None, "B", "unclear"),
        ("A", None, "unclear"),
    ],
)
def test_only_a_preference_that_outlasts_the_other_order_counts(
    stable_first: Any, candidate_first: Any, preference: str
) -> None:
    assert preference_of(stable_first, candidate_first) == preference


def test_equal_answers_need_no_judge() -> None:
    assert are_equal(pair(stable="four ", candidate="four"))
    assert not are_equal(pair())


@given(seqs=st.lists(st.integers(1, 10_000), unique=True, max_size=40), most=st.integers(0, 10), seed=st.integers())
def test_which_pairs_are_drawn_hangs_on_their_requests_alone(seqs: list[int], most: int, seed: int) -> None:
    found = [LocatedPair("gw", "b", pair(seq)) for seq in seqs]
    shuffled = [one._replace(pair=one.pair.model_copy(update={"stable": "other"})) for one in found]
    random.Random(seed).shuffle(shuffled)
    chosen = drawn(found, most)
    assert len(chosen) == min(most, len(seqs))
    assert [one.pair.seq for one in chosen] == [one.pair.seq for one in drawn(shuffled, most)]


# -- the evidence ---------------------------------------------------------------------------------------------------


def seen(*preferences: Preference, since: int = 0, error: str = "", user: str = "", **more: Any) -> JudgeSeen:
    """One user each, unless one is named."""
    judged = tuple(
        Judged.model_validate(
            {"gateway": "gw", "boot_id": "b", "seq": since + n, "epoch": EPOCH, "started_at": 100.0 + n}
            | {"user": user or f"u{since + n}", "preference": preference, "asked": True}
            | more
        )
        for n, preference in enumerate(preferences, start=1)
    )
    settled = (Settled(gateway="gw", boot_id="b", seq=since + len(preferences)),) if preferences else ()
    return JudgeSeen(judged=judged, settled=settled, error=error)


def after(*ticks: JudgeSeen, start: Evidence = EMPTY) -> Evidence:
    for tick in ticks:
        start = fold(start, PLAN, SHADOW, "r", {"gw": [page()]}, tick)
    return start


def result(evidence: Evidence) -> CheckResult:
    return next(one for one in judge(PLAN, SHADOW, evidence).results if one.metric == "judge")


def test_a_candidate_that_the_judge_likes_less_fails_and_one_that_it_likes_as_much_passes() -> None:
    lost = result(after(seen(*["stable"] * 14)))
    assert (lost.verdict, lost.candidate, lost.first_bad_at) == ("fail", 1.0, 101.0)
    assert "prefers stable in 14 of 14 pairs, the candidate in 0, ties 0: 100 % lost, ties as half, limit 70 %" in (
        lost.sentence
    )
    mixed: list[Preference] = ["stable", "candidate", "tie", "tie"]
    fair = result(after(seen(*mixed * 12)))
    assert (fair.verdict, fair.candidate) == ("pass", 0.5)
    assert fair.stable_worse is None


def test_a_few_preferences_and_none_at_all_tell_nothing() -> None:
    assert result(after(seen("stable", "stable"))).verdict == "inconclusive"
    assert result(after(JudgeSeen())).verdict == "inconclusive"


def test_ties_are_neutral_where_the_limit_is_an_even_share() -> None:
    plan = plan_of(CHECK.model_copy(update={"max": 0.5, "on_fail": "warn"}), ERRORS, judge=JUDGE)
    found = fold(EMPTY, plan, SHADOW, "r", {"gw": [page()]}, seen(*["tie"] * 200))
    (only,) = [one for one in judge(plan, SHADOW, found).results if one.metric == "judge"]
    assert only.e_worse == pytest.approx(1.0)
    assert only.e_better == pytest.approx(1.0)


def test_what_could_not_be_judged_is_counted_and_passes_nothing() -> None:
    found = result(after(seen(*["unclear"] * 4)))
    assert (found.verdict, found.candidate_requests, found.e_better) == ("inconclusive", 0, 1.0)
    assert "4 more could not be judged" in found.sentence
    broken = result(after(seen(*["unclear"] * 8, "candidate")))
    assert broken.verdict == "error"
    assert "8 pairs could not be judged" in broken.sentence


def test_a_judge_that_follows_the_order_of_the_answers_shows_nothing_about_them() -> None:
    found = result(after(seen(*["swayed"] * 200)))
    assert (found.verdict, found.candidate_requests, found.e_better, found.e_worse) == ("inconclusive", 0, 1.0, 1.0)
    assert "in 200 more its choice followed their order" in found.sentence


def test_a_judge_that_does_not_answer_is_an_error_until_it_does() -> None:
    good = seen(*["candidate"] * 30)
    down = after(good, JudgeSeen(error="the judge does not answer: connection refused"))
    assert result(down).verdict == "error"
    assert "connection refused" in judge(PLAN, SHADOW, down).reason
    assert result(after(JudgeSeen(), start=down)).verdict == "pass"


def test_what_other_checks_find_is_not_held_up_by_a_judge_that_is_down() -> None:
    failing = [record(n, epoch=EPOCH, role="mirror", ok=False, error="status") for n in range(1, 13)]
    down = fold(EMPTY, PLAN, SHADOW, "r", {"gw": [page(*failing)]}, JudgeSeen(error="the judge does not answer"))
    found = judge(PLAN, SHADOW, down)
    assert (found.verdict, found.blame) == ("fail", "rollback")
    assert "error rate 100 %" in found.reason


def test_a_judgement_that_is_shown_again_counts_once() -> None:
    once, more = seen(*["stable"] * 5), seen(*["candidate"] * 3, since=5)
    assert after(once, once, more, more) == after(once, more)
    assert after(once, once).judging.asked == 5


def test_a_users_first_preference_counts_and_no_other() -> None:
    found = after(seen(*["stable"] * 9, user="ada"), seen("candidate", "stable", since=9, user="ada"))
    assert result(found).candidate_requests == 1
    assert result(after(seen("tie", "stable", "stable", user="ada"))).candidate == 1.0
    assert found.judging.asked == 11


def test_pairs_of_another_epoch_or_of_the_warm_up_do_not_count() -> None:
    other = after(seen(*["stable"] * 5, epoch="r/other"))
    assert (result(other).candidate_requests, other.judging.asked) == (0, 5)
    warm = SHADOW.model_copy(update={"warmup_requests": 3})
    cold = fold(EMPTY, PLAN, warm, "r", {"gw": [page()]}, seen(*["stable"] * 5))
    assert result(cold).candidate_requests == 0


def test_what_was_asked_is_remembered_over_the_whole_release() -> None:
    again = after(seen(*["stable"] * 300)).restarted("r/1-shadow", "mirror")
    assert again.judging.asked == 300
    assert "no more are asked after 300" in result(after(JudgeSeen(), start=again)).sentence


@given(st.lists(st.sampled_from(["stable", "candidate", "tie"]), min_size=1, max_size=60))
def test_swapping_the_arms_swaps_who_is_worse(preferences: list[Preference]) -> None:
    even = plan_of(CHECK.model_copy(update={"max": 0.5, "on_fail": "warn"}), ERRORS, judge=JUDGE)
    swapped: dict[Preference, Preference] = {"stable": "candidate", "candidate": "stable", "tie": "tie"}

    def evidence(said: list[Preference]) -> tuple[float, float]:
        found = fold(EMPTY, even, SHADOW, "r", {"gw": [page()]}, seen(*said))
        (one,) = [one for one in judge(even, SHADOW, found).results if one.metric == "judge"]
        return one.e_worse, one.e_better

    worse, better = evidence(preferences)
    assert evidence([swapped[one] for one in preferences]) == pytest.approx((better, worse))


def test_an_equal_candidate_is_rarely_condemned_and_one_at_the_limit_rarely_promoted() -> None:
    """150 pairs, looked at after every tenth."""
    generator = random.Random(3)
    condemned = promoted = 0
    for _ in range(120):
        equal, at_limit = EMPTY, EMPTY
        is_worse = is_within = False
        for tick in range(15):
            fair = generator.choices(["stable", "candidate", "tie"], [3, 3, 4], k=10)
            bad = generator.choices(["stable", "candidate", "tie"], [5.5, 1.5, 3], k=10)
            equal = after(seen(*fair, since=10 * tick), start=equal)
            at_limit = after(seen(*bad, since=10 * tick), start=at_limit)
            is_worse |= result(equal).e_worse >= 20
            is_within |= result(at_limit).e_better >= 20
        condemned += is_worse
        promoted += is_within
    assert condemned <= 6
    assert promoted <= 6


def test_the_default_rubric_is_for_any_route() -> None:
    assert JUDGE.rubric == GENERAL
