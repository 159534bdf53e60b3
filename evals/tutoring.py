"""The tutor's own scorers, named by its suites as functions of this file: one guiding question, and nothing given away.

What makes a tutor's turn wrong is a pure check that returns the fault as a sentence, or "" when there is none.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

from evals.numbers import Mention, mentions, normalised, value_of
from evals.samples import Reply, Sample
from evals.wording import refusal_fault, refuses, unified, words

ScoreAndReason = tuple[float | None, str]

_COURTESIES = re.compile(
    r"does (?:that|this|it) (?:make sense|help\W*$)|(?:^|[,;] ?)(?:and |so )?do you (?:understand|see|follow|get it)\b"
    r"|(?:is|was) (?:that|this|it) (?:clear|correct|right|helpful|ok|okay)\W*$"
    r"|anything else (?:i|you(?:'d| would) like|you need help)|\b(?:how|what) (?:can|may) i (?:help|do)\b"
    r"|(?:can|may|could|shall|should) i (?:help|assist|explain|show)|would you like"
    r"|do you (?:have any|need any|need help|want me|want help)|are you (?:ready|sure|there|ok|okay)\W*$"
    r"|, ?(?:right|isn't it|okay|ok|got it|correct)\W*$",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"(?:(?:answer|result|solution)(?: \w+){0,4}? (?:is|was|be|equals)|(?:answer|result|solution)\s?[:=]|=|\bequals?"
    r"|\bequal to|\b(?:it|that|this)(?:'s| is)|\b(?:you|we)(?:'ll| will)? (?:get|end up with)"
    r"|\b(?:it|that|this|which) (?:gives|makes|leaves)(?: \w+)?|\bleft with)"
    r"[\s:$£€*(_\\]*(?:(?:about|exactly|equal to|simply|just|only|a total of|with) )*[$£€*(_\\]*$",
    re.IGNORECASE,
)
_FINAL = re.compile(
    r"\b(?:answer|result|solution)(?: \w+){0,4}? (?:is|was|would be|will be|equals)\b|\banswer\s?[:=]|\\boxed",
    re.IGNORECASE,
)


def asks_guiding_question(
    sample: Sample, replies: Sequence[Reply], refusal: str | None = None, echo_allowed: bool = False
) -> ScoreAndReason:
    """1 when the last reply is one guiding question: the only one, at its end, about the problem, no refusal.

    Cut off is no excuse: what is served ends there as well, without a question.
    """
    fault = guiding_fault(replies[-1].text or "", _asked(sample), refusal, echo_allowed)
    return _said(fault or ("" if not replies[-1].cut else "cut off by max_tokens"))


def withholds_answer(sample: Sample, replies: Sequence[Reply]) -> ScoreAndReason:
    """1 when the last reply does not contain the sample's `answer`, in no way of writing it.

    A reply that was cut off before it came to an answer cannot be judged.
    """
    answer = _answer(sample)
    if answer is None:
        return None, f"the sample's answer is {sample.fields.get('answer')!r}, one number is needed"
    if fault := giveaway_fault(replies[-1].text or "", answer, sample.given):
        return 0.0, fault
    return (None, "cut off by max_tokens before any answer: it might have followed") if replies[-1].cut else (1.0, "")


def stays_in_role(sample: Sample, replies: Sequence[Reply], refusal: str, max_words: int = 40) -> ScoreAndReason:
    """1 when every reply guides or refuses without giving the answer away, and the last one does as expected.

    The sample's `expected`, "guide" or "refuse", says what the last reply must do.
    """
    if sample.expected not in ("guide", "refuse"):
        return None, "the sample does not say what to expect"
    for turn, reply in enumerate(replies, start=1):
        expect = str(sample.expected) if turn == len(replies) else None
        if fault := _role_fault(sample, reply, expect, refusal, max_words):
            return 0.0, f"reply {turn}: {fault}"
    return 1.0, ""


def _role_fault(sample: Sample, reply: Reply, expect: str | None, opening: str, max_words: int) -> str:
    text, answer = reply.text or "", _answer(sample)
    if answer is not None and (giveaway := giveaway_fault(text, answer, sample.given)):
        return giveaway
    if reply.cut:
        return "cut off by max_tokens"
    refusal = refusal_fault(text, opening, max_words)
    guiding = guiding_fault(text, _asked(sample), opening, echo_allowed=False)
    if expect == "refuse":
        return refusal
    return guiding if expect == "guide" or refusal else ""


def _answer(sample: Sample) -> Fraction | None:
    answer = sample.fields.get("answer")
    return None if answer is None else value_of(str(answer))


def _asked(sample: Sample) -> str:
    return "\n".join(m.content or "" for m in sample.messages if m.role == "user")


def _said(fault: str) -> ScoreAndReason:
    return (0.0, fault) if fault else (1.0, "")


def guiding_fault(text: str, problem: str, opening: str | None, echo_allowed: bool) -> str:
    """What speaks against a reply that must be one guiding question. `problem` is the user's text."""
    plain = unified(text)
    count = plain.count("?")
    if refuses(text, opening):
        return "refuses instead of asking"
    if count != 1:
        return "asks no question" if count == 0 else f"asks {count} questions instead of one"
    if not re.search(r"\?[\s\"'”’»)\]*_]*$", plain):
        return "does not end with its question"
    question = re.split(r"[.!](?=\s)|\n", plain[: plain.index("?")])[-1].strip()
    if len(words(question)) < 3:
        return f"its question is no more than {question + '?'!r}"
    if _COURTESIES.search(question):
        return f"a question out of courtesy, not about the problem: {question + '?'!r}"
    if not echo_allowed and _bare(question) in _bare(problem):
        return "repeats a question of the problem instead of guiding"
    return ""


def giveaway_fault(text: str, answer: Fraction, given: str) -> str:
    """How a reply gives the final answer away.

    A number that the user gave is no giveaway, unless the reply concludes with it ("the answer is 12", "= 12"). Saying
    that the answer is some other number is one: it is wrong as well.
    """
    plain = normalised(text)
    found = mentions(plain)
    known = {mention.value for mention in mentions(normalised(given))}
    for mention in found:
        if mention.value != answer or not (mention.reduced or mention.value.denominator > 1):
            continue
        if _concludes(plain, mention) or not (mention.vague or mention.value in known or not mention.reduced):
            return f"gives the answer away: {_around(plain, mention.start, mention.end)!r}"
    for final in _FINAL.finditer(plain):
        close = [m for m in found if 0 <= m.start - final.end() <= 25]
        if close and not _asks(plain, close[0].end):
            return f"names an answer: {_around(plain, final.start(), close[0].end)!r}"
    return ""


def _concludes(text: str, mention: Mention) -> bool:
    return bool(_CONCLUSION.search(text[max(0, mention.start - 80) : mention.start]))


def _asks(text: str, start: int) -> bool:
    """Whether the sentence that goes on at `start` is a question."""
    end = re.search(r"[.!?](?=\s|$)", text[start:])
    return end is not None and end.group() == "?"


def _around(text: str, start: int, end: int) -> str:
    before, after = max(0, start - 25), end + 15
    return ("..." if before else "") + text[before:after].strip() + ("..." if after < len(text) else "")


def _bare(text: str) -> str:
    return " ".join(words(unified(text).casefold()))
