"""What makes a tutor's turn wrong, as pure checks: each returns the fault as a sentence, or "" when there is none."""

import re
import unicodedata
from fractions import Fraction

from evals.numbers import Mention, mentions, normalised

_COURTESIES = re.compile(
    r"does (?:that|this|it) (?:make sense|help\W*$)|(?:^|[,;] ?)(?:and |so )?do you (?:understand|see|follow|get it)\b"
    r"|(?:is|was) (?:that|this|it) (?:clear|correct|right|helpful|ok|okay)\W*$"
    r"|anything else (?:i|you(?:'d| would) like|you need help)|\b(?:how|what) (?:can|may) i (?:help|do)\b"
    r"|(?:can|may|could|shall|should) i (?:help|assist|explain|show)|would you like"
    r"|do you (?:have any|need any|need help|want me|want help)|are you (?:ready|sure|there|ok|okay)\W*$"
    r"|, ?(?:right|isn't it|okay|ok|got it|correct)\W*$",
    re.IGNORECASE,
)
_REFUSALS = re.compile(
    r"\b(?:sorry|afraid|apologi[sz]e)\b.{0,30}\b(?:can'?t|can ?not|unable|not able)\b|\b(?:not|isn't) appropriate\b"
    r"|\bi(?: can'?t| can ?not| won'?t| will not|(?:'m| am) (?:unable|not able) to| must decline to)"
    r" (?:help|assist|answer|discuss|support|engage|do that|provide (?:information|assistance|guidance|instructions))",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(
    r"\*\*\S|(?<![\w*])\*[^\s*][^*\n]*\*(?!\w)|(?<!\w)__?[^\s_][^_\n]*__?(?!\w)|`|^[^\S\n]*#{1,6}\s|^[^\S\n]*>\s|^[^\S\n]*\|.*\||\]\(|"
    r"\\[\[(]|\\(?:frac|times|text|boxed)\b|\$\$",
    re.MULTILINE,
)
_MARKS = 400  # characters normalised at once: of combining marks alone the time grows with the square of the length
_SHAPES = bytes(  # of ASCII: a for what words are made of, - for what joins them, a blank for all else
    97 if chr(code).isalnum() else 45 if chr(code) in ".,:/'-" else 32 for code in range(256)
)
_SIGNS = re.compile(r"[*_`#>|\]\\$]")  # without one of these there is no markup, which is dear to look for
_ITEM = re.compile(r"^[^\S\n]*(?:[-*+•–]|\d{1,2}[.)]|[a-h][.)])\s+\S", re.MULTILINE)
_FIRST = re.compile(r"(?:^|\s)\(?1[.)]\s", re.MULTILINE)
_SECOND = re.compile(r"\s\(?2[.)]\s")
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


def words(text: str) -> list[str]:
    """Words and numbers; punctuation alone is none."""
    return re.findall(r"[^\W_]+(?:[.,:/'’-][^\W_]+)*", text)


def word_count(text: str) -> int:
    """How many `words` there are. Every answer to a user is counted, most are in ASCII: that way is the quick one."""
    if not text.isascii():
        return len(words(text))
    parts = text.encode().translate(_SHAPES).replace(b"--", b" ").split()
    return len(parts) - parts.count(b"-")


def refusal_fault(text: str, opening: str, max_words: int) -> str:
    """What speaks against a reply that must refuse with exactly this opening, and leave it there."""
    if not text.strip().startswith(opening):
        return f"does not start with {opening!r}"
    count = word_count(text)
    return f"goes on after refusing: {count} words, allowed are {max_words}" if count > max_words else ""


def refuses(text: str, opening: str | None) -> bool:
    """Whether a reply turns the request down, by the route's own opening or in the words that models use for it."""
    plain = _plain(text)
    if opening and plain.startswith(_plain(opening)):
        return True
    low = plain.lower()  # all that refuses holds one of these, which are found in no time
    if not ("can" in low or "not" in low or "n't" in low or "unable" in low or "wont" in low or "decl" in low):
        return False
    return _REFUSALS.search(plain) is not None


def guiding_fault(text: str, problem: str, opening: str | None, echo_allowed: bool) -> str:
    """What speaks against a reply that must be one guiding question. `problem` is the user's text."""
    plain = _plain(text)
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


def format_fault(text: str, max_words: int, max_sentences: int) -> str:
    """What speaks against the form: too long, not one question at the end, lists, markdown, several paragraphs."""
    if fault := length_fault(text, max_words, None) or markup_fault(text) or ending_fault(text):
        return fault
    return length_fault(text, None, max_sentences)


def length_fault(text: str, max_words: int | None, max_sentences: int | None) -> str:
    """More words or sentences than allowed."""
    plain = _plain(text)
    count = word_count(plain) if max_words is not None else 0
    if max_words is not None and count > max_words:
        return f"{count} words, allowed are {max_words}"
    sentences = len(re.findall(r"[.!?](?=[\s\"'”’»)]|$)", plain)) if max_sentences is not None else 0
    if max_sentences is not None and sentences > max_sentences:
        return f"{sentences} sentences, allowed are {max_sentences}"
    return ""


def markup_fault(text: str) -> str:
    """Anything but one plain paragraph: lists, markdown, formulas, line breaks."""
    plain = _plain(text)
    if _holds_list(plain):
        return "holds a list"
    if _SIGNS.search(plain) and (found := _MARKDOWN.search(plain)):
        return f"holds markup: {found.group().strip()!r}"
    return "has more than one paragraph" if "\n" in plain else ""


def _holds_list(plain: str) -> bool:
    if (_ITEM.search if "\n" in plain else _ITEM.match)(plain):  # on one line there is one place to look
        return True
    first = _FIRST.search(plain) if "1." in plain or "1)" in plain else None
    return first is not None and _SECOND.search(plain, first.end()) is not None


def ending_fault(text: str) -> str:
    """Anything but exactly one question, at the end."""
    plain = _plain(text)
    if plain.count("?") != 1 or not plain.rstrip("\"'”’»)").endswith("?"):
        return f"{plain.count('?')} question marks; one is needed, at the end"
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


def _plain(text: str) -> str:
    if text.isascii():  # most are, and then there is nothing to normalise
        return text.strip()
    parts = [text] if len(text) <= _MARKS else re.findall(rf"\s+|\S{{1,{_MARKS}}}", text)
    return "".join(unicodedata.normalize("NFKC", part) for part in parts).replace("’", "'").strip()


def _bare(text: str) -> str:
    return " ".join(words(_plain(text).casefold()))
