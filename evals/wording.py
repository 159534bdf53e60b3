"""What the form of a text is, as pure checks: each returns the fault as a sentence, or "" when there is none."""

import re
import unicodedata

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


def words(text: str) -> list[str]:
    """Words and numbers; punctuation alone is none."""
    return re.findall(r"[^\W_]+(?:[.,:/'’-][^\W_]+)*", text)


def word_count(text: str) -> int:
    """How many `words` there are. Every answer to a user is counted, most are in ASCII: that way is the quick one."""
    if not text.isascii():
        return len(words(text))
    parts = text.encode().translate(_SHAPES).replace(b"--", b" ").split()
    return len(parts) - parts.count(b"-")


def refusal_fault(text: str, opening: str | None, max_words: int | None) -> str:
    """What speaks against a reply that must refuse with exactly this opening, if one is given, and leave it there."""
    if opening is not None and not text.strip().startswith(opening):
        return f"does not start with {opening!r}"
    count = 0 if max_words is None else word_count(text)
    return f"goes on after refusing: {count} words, allowed are {max_words}" if count > (max_words or 0) else ""


def refuses(text: str, opening: str | None) -> bool:
    """Whether a reply turns the request down, by the route's own opening or in the words that models use for it."""
    plain = unified(text)
    if opening and plain.startswith(unified(opening)):
        return True
    low = plain.lower()  # all that refuses holds one of these, which are found in no time
    if not ("can" in low or "not" in low or "n't" in low or "unable" in low or "wont" in low or "decl" in low):
        return False
    return _REFUSALS.search(plain) is not None


def length_fault(text: str, max_words: int | None, max_sentences: int | None) -> str:
    """More words or sentences than allowed."""
    plain = unified(text)
    count = word_count(plain) if max_words is not None else 0
    if max_words is not None and count > max_words:
        return f"{count} words, allowed are {max_words}"
    sentences = len(re.findall(r"[.!?](?=[\s\"'”’»)]|$)", plain)) if max_sentences is not None else 0
    if max_sentences is not None and sentences > max_sentences:
        return f"{sentences} sentences, allowed are {max_sentences}"
    return ""


def markup_fault(text: str) -> str:
    """Anything but one plain paragraph: lists, markdown, formulas, line breaks."""
    plain = unified(text)
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
    plain = unified(text)
    if plain.count("?") != 1 or not plain.rstrip("\"'”’»)").endswith("?"):
        return f"{plain.count('?')} question marks; one is needed, at the end"
    return ""


def unified(text: str) -> str:
    """One way of writing for what looks the same: compatibility forms and apostrophes, without blanks around it."""
    if text.isascii():  # most are, and then there is nothing to normalise
        return text.strip()
    parts = [text] if len(text) <= _MARKS else re.findall(rf"\s+|\S{{1,{_MARKS}}}", text)
    return "".join(unicodedata.normalize("NFKC", part) for part in parts).replace("’", "'").strip()
