"""Asks a judge about replies: each beside what its sample expects, in both orders, as a release asks about variants.

What the judge did not say is no score. Its failures are told, so that a report with holes is not kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.errors import SlipwayError
from configs.judge import Judge
from delivery.checks.judgements import are_equal, place_in, preference_of, prompts
from delivery.clients.judge import JudgeClient, JudgeReply, key_of
from delivery.traffic.pairs import Pair
from evals.report import SampleScore
from evals.samples import Reply, Sample
from evals.scorers.judge import JudgeScorer
from evals.scorers.kinds import scored, unanswered
from evals.scorers.score import Score, expected_texts, nothing_expected

AskedSample = tuple[Sample, Sequence[Reply]]


@dataclass(frozen=True)
class Judgements:
    """One score a sample, in their order; `failed` says why the judge gave none, one for each question."""

    scores: tuple[SampleScore, ...]
    failed: tuple[str, ...]


def require_judge(judge: Judge, environment: Mapping[str, str]) -> None:
    """Raises SlipwayError when the judge's key is not in the environment."""
    if key_of(judge, environment) is None:
        raise SlipwayError(
            f"the judge's key is not set: {judge.api_key_env}",
            where="eval.yaml: scorer.judge.api_key_env",
            cure=f"export {judge.api_key_env}=..., or leave api_key_env out where no key is needed",
        )


def judge_replies(
    config: JudgeScorer, asked: Sequence[AskedSample], environment: Mapping[str, str], again_after_s: float = 1.0
) -> Judgements:
    """Asks about each last reply that can be judged; one equal to what is expected is a tie without asking."""
    require_judge(config.judge_by, environment)
    given: dict[int, Score] = {}
    pairs: dict[int, Pair] = {}
    for place, (sample, replies) in enumerate(asked):
        wanted = expected_texts(sample)
        trouble = unanswered(sample, replies) or (None if wanted else nothing_expected(sample))
        if trouble is not None:
            given[place] = trouble
            continue
        pair = _pair(sample, replies, wanted[0])
        if are_equal(pair):
            given[place] = config.of("tie")
        else:
            pairs[place] = pair
    questions = [question for pair in pairs.values() for question in prompts(config.judge_by.rubric, pair)]
    client = JudgeClient(config.judge_by, key_of(config.judge_by, environment) or "", again_after_s)
    said = client.ask(questions) if questions else []
    for number, place in enumerate(pairs):
        given[place] = _score(config, *said[2 * number : 2 * number + 2])
    scores = tuple(scored(sample, replies, given[place]) for place, (sample, replies) in enumerate(asked))
    return Judgements(scores, tuple(reply.text for reply in said if reply.outcome != "said"))


def _score(config: JudgeScorer, expected_first: JudgeReply, reply_first: JudgeReply) -> Score:
    for reply in (expected_first, reply_first):
        if reply.outcome != "said":
            return Score(None, f"the judge did not answer: {reply.text}")
    return config.of(preference_of(place_in(expected_first.text), place_in(reply_first.text)))


def _pair(sample: Sample, replies: Sequence[Reply], expected: str) -> Pair:
    """What is expected stands where a release has its stable answer, the reply where it has the candidate's."""
    given = iter(replies)
    asked = [
        {"role": message.role, "content": message.content if message.content is not None else next(given).text}
        for message in sample.messages
    ]
    return Pair(
        seq=0,
        request_id=sample.id,
        route="",
        epoch="",
        user="",
        started_at=0.0,
        asked=asked,
        stable=expected,
        candidate=replies[-1].text or "",
    )
