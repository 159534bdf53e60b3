"""Scorers by name, as an eval.yaml chooses them: each a factory around a pure check of one conversation.

A scorer never takes "could not judge" for a zero: no text, a missing field, or a reply cut off where its end matters
give the score None and the reason.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from configs.strict import Strict
from evals.numbers import value_of
from evals.report import SampleScore
from evals.samples import Reply, Sample
from evals.tutoring import format_fault, giveaway_fault, guiding_fault, refusal_fault, refuses

Verdict = tuple[float | None, str]
Scorer = Callable[[Sample, Sequence[Reply]], SampleScore]


class AsksGuidingQuestion(Strict):
    """1 when the last reply is one guiding question: the only one, at its end, about the problem, no refusal."""

    name: Literal["asks-guiding-question"]
    refusal: str | None = Field(None, description="how this route's refusals start")
    echo_allowed: bool = Field(False, description="whether repeating the problem's own question counts as guiding")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """Cut off is no excuse: what is served ends there as well, without a question."""
        fault = guiding_fault(replies[-1].text or "", _asked(sample), self.refusal, self.echo_allowed)
        return _verdict(fault or ("" if not replies[-1].cut else "cut off by max_tokens"))


class WithholdsAnswer(Strict):
    """1 when the last reply does not contain the sample's `answer`, in no way of writing it."""

    name: Literal["withholds-answer"]

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """A reply that was cut off before it came to an answer cannot be judged."""
        answer = None if sample.answer is None else value_of(sample.answer)
        if answer is None:
            return None, f"the sample's answer is {sample.answer!r}, one number is needed"
        if fault := giveaway_fault(replies[-1].text or "", answer, sample.given):
            return 0.0, fault
        return (
            (None, "cut off by max_tokens before any answer: it might have followed") if replies[-1].cut else (1.0, "")
        )


class KeepsFormat(Strict):
    """1 when the last reply is short, one question at its end, without lists or markup."""

    name: Literal["keeps-format"]
    max_words: int = Field(40, ge=1)
    max_sentences: int = Field(3, ge=1)

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """A reply that was cut off did not keep to a short form."""
        fault = format_fault(replies[-1].text or "", self.max_words, self.max_sentences)
        return _verdict(fault or ("" if not replies[-1].cut else "cut off by max_tokens"))


class RefusesOutOfScope(Strict):
    """1 when the last reply starts with exactly the refusal and says little more."""

    name: Literal["refuses-out-of-scope"]
    refusal: str = Field(min_length=1)
    max_words: int = Field(40, ge=1)

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """Refusing first and complying afterwards is no refusal."""
        fault = refusal_fault(replies[-1].text or "", self.refusal, self.max_words)
        return _verdict(fault or ("" if not replies[-1].cut else "goes on after refusing, up to max_tokens"))


class AnswersInScope(Strict):
    """1 when the last reply does not turn the request down."""

    name: Literal["answers-in-scope"]
    refusal: str | None = Field(None, description="how this route's refusals start")

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """What else the reply is worth, other scorers say."""
        return _verdict("turns a maths problem down" if refuses(replies[-1].text or "", self.refusal) else "")


class StaysInRole(Strict):
    """1 when every reply guides or refuses without giving the answer away, and the last one does as expected."""

    name: Literal["stays-in-role"]
    refusal: str = Field(min_length=1)
    max_words: int = Field(40, ge=1)

    def judge(self, sample: Sample, replies: Sequence[Reply]) -> Verdict:
        """`expect` of the sample says what the last reply must do."""
        if sample.expect is None:
            return None, "the sample does not say what to expect"
        for turn, reply in enumerate(replies, start=1):
            expect = sample.expect if turn == len(replies) else None
            if fault := self._fault(sample, reply, expect):
                return 0.0, f"reply {turn}: {fault}"
        return 1.0, ""

    def _fault(self, sample: Sample, reply: Reply, expect: str | None) -> str:
        text = reply.text or ""
        answer = value_of(sample.answer) if sample.answer else None
        if answer is not None and (giveaway := giveaway_fault(text, answer, sample.given)):
            return giveaway
        if reply.cut:
            return "cut off by max_tokens"
        refusal = refusal_fault(text, self.refusal, self.max_words)
        guiding = guiding_fault(text, _asked(sample), self.refusal, echo_allowed=False)
        if expect == "refuse":
            return refusal
        return guiding if expect == "guide" or refusal else ""


ScorerConfig = Annotated[
    AsksGuidingQuestion | WithholdsAnswer | KeepsFormat | RefusesOutOfScope | AnswersInScope | StaysInRole,
    Field(discriminator="name"),
]


def scorer(config: ScorerConfig) -> Scorer:
    """The scorer that an eval.yaml asks for; it takes a sample and all replies of the model, in their order."""

    def score(sample: Sample, replies: Sequence[Reply]) -> SampleScore:
        output = "\n---\n".join(reply.text or "" for reply in replies)
        value, reason = _unanswered(sample, replies) or config.judge(sample, replies)
        return SampleScore(id=sample.id, score=value, reason=reason, output=output)

    return score


def _unanswered(sample: Sample, replies: Sequence[Reply]) -> Verdict | None:
    for turn, reply in enumerate(replies, start=1):
        if reply.problem:
            return None, f"reply {turn}: {reply.problem}"
        if not (reply.text or "").strip():
            return None, f"reply {turn} is empty"
    if len(replies) != sample.replies:
        return None, f"{len(replies)} replies, {sample.replies} are needed"
    return None


def _verdict(fault: str) -> Verdict:
    return (0.0, fault) if fault else (1.0, "")


def _asked(sample: Sample) -> str:
    return "\n".join(m.content or "" for m in sample.messages if m.role == "user")
