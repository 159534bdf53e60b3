"""Answers that refuse, insult or match a pattern of the recipe's.

The patterns are English, and miss what they do not know. They look for whole
phrases rather than words, for a tutor may say "I cannot tell" and a novel may say "idiot".
"""

from functools import lru_cache
from typing import Any

from configs.filters import AnswerFilter
from configs.patterns import compiled
from delivery.build.layouts.row import Unusable
from delivery.build.rows import Example
from tasks.data.filters.texts import answers

VERSION = 1
REFUSAL = (
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bi(?:'m| am) (?:just |only )?an? (?:ai|(?:large )?language model)\b"
    r"|\bi(?:'m| am)(?: very| so| really)? sorry,? but (?:i |as an |that |this )"
    r"|\bi (?:can(?:no|')t|am (?:not able|unable) to|won't|will not|must (?:decline|refuse) to) "
    r"(?:help|assist|comply|fulfil?l?|provide|answer|engage|discuss|generate|create|support)\b"
    r"|\bi(?:'m| am) (?:not able|unable) to (?:help|assist|comply|fulfil?l?|provide|answer|discuss)\b"
    r"|\bagainst my (?:programming|guidelines|policies)\b|\bi (?:must|have to) (?:decline|refuse)\b"
)
TOXIC = (
    r"\b(?:kill|hang|shoot) yourself\b|\bkys\b|\bi hope you (?:die|suffer)\b|\bgo die\b|\bdrop dead\b"
    r"|\byou(?:'re| are)(?: such| all| really| just| so)?(?: an?)?"
    r"(?: (?:fucking|complete|total|stupid|dumb|worthless|pathetic|utter))*"
    r" (?:idiots?|morons?|imbeciles?|stupid|dumb|worthless|pathetic|losers?|retard(?:s|ed)?|trash|scum|subhuman"
    r"|vermin)\b"
    r"|\byou (?:fucking |stupid |dumb |worthless |pathetic )+(?:idiot|moron|imbecile|loser|bitch|cunt|pig|piece)\b"
    r"|\bfuck (?:you|off|yourself)\b|\bpiece of shit\b|\bi(?:'ll| will| am going to) (?:kill|hurt|rape|beat) you\b"
    r"|\ball (?:\pL+ ){1,2}(?:should|must|deserve to) (?:die|be killed|be exterminated)\b"
)
PATTERNS = {"refusal": REFUSAL, "toxic": TOXIC}
SHOWN_CHARS = 80


def judge(settings: AnswerFilter, example: Example) -> Example:
    """Raises Unusable (refusal, toxic, or pattern:NAME) with what was found."""
    for where, text in answers(example):
        plain = text.replace("’", "'")
        for reason, pattern in _wanted(settings):
            found = pattern.search(plain)
            if found:
                raise Unusable(reason, f"{where} says {found.group()[:SHOWN_CHARS]!r}")
    return example


@lru_cache(maxsize=8)
def _wanted(settings: AnswerFilter) -> list[tuple[str, Any]]:
    shipped = [name for name, on in (("refusal", settings.refusals), ("toxic", settings.toxic)) if on]
    wanted = [(name, compiled(PATTERNS[name], ignore_case=True)) for name in shipped]
    return wanted + [(f"pattern:{one.name}", compiled(one.pattern, ignore_case=True)) for one in settings.patterns]
