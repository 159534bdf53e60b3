"""Personal data and secrets in messages: presidio's pattern recognisers find them, without a language model.

Presidio is imported where a recipe asks for this filter alone, for that takes seconds. What was found is named by its
kind and place and never repeated, neither in a report nor in an error.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from configs.filters import PersonalDataFilter
from delivery.build.layouts.row import Message, Unusable
from delivery.build.rows import Change, Example
from delivery.build.steps import PERSONAL_DATA
from tasks.data.filters.texts import SIDES

VERSION = 1
PACKAGES = ("presidio-analyzer", "phonenumbers", "tldextract")
SECRETS = {
    "AWS access key": (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", 0.9),
    "GitHub token": (r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_[A-Za-z0-9_]{22,}\b", 0.9),
    "Slack token": (r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b", 0.9),
    "key of a model API": (r"\bsk-[A-Za-z0-9_-]{20,}", 0.8),
    "Hugging Face token": (r"\bhf_[A-Za-z0-9]{30,}\b", 0.9),
    "Google API key": (r"\bAIza[0-9A-Za-z_-]{35}", 0.9),
    "JSON web token": (r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}", 0.9),
    "private key": (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", 1.0),
    "password": (r"(?i)\b(?:password|passwd|pwd|api[_-]?key|secret)\s*(?:[:=]|is:)\s*[^\s\"',;]{6,}", 0.6),
}
DIGITS = 7  # fewer make no phone number; looking for one is what takes time


def judge(settings: PersonalDataFilter, example: Example) -> Example:
    """A row without any of it, or with <KIND> in its place. Raises Unusable (personal-data) for quarantine."""
    changed: dict[str, Any] = {}  # side -> its messages
    changes: dict[str, Change] = {}
    for side in SIDES:
        messages: Sequence[Message] = getattr(example, side)
        for index, message in enumerate(messages):
            found = find(message["content"], settings)
            if not found:
                continue
            where = f"{side}.{index} ({message['role']})"
            if settings.action == "quarantine":
                raise Unusable(PERSONAL_DATA, f"{where} holds {_told(found)}")
            messages = (
                *messages[:index],
                {**message, "content": _without(message["content"], found)},
                *messages[index + 1 :],
            )
            changed[side] = messages
            changes.setdefault(PERSONAL_DATA, Change(where, f"[{_told(found)}]", _shown(messages[index]["content"])))
    return replace(example, **changed, changes={**example.changes, **changes}) if changed else example


def find(text: str, settings: PersonalDataFilter) -> list[tuple[int, int, str]]:
    """(start, end, kind) of all that was found, in the order of the text, none in another."""
    results = []
    for recogniser in _recognisers(settings.entities, settings.phone_regions):
        if _is_hopeless(recogniser, text):
            continue
        for one in recogniser.analyze(text, recogniser.supported_entities, None):
            if one.score >= settings.min_score and one.end > one.start:
                results.append((one.start, one.end, one.score, one.entity_type))
    chosen: list[tuple[int, int, str]] = []
    for start, end, _, kind in sorted(results, key=lambda one: (-one[2], one[0] - one[1], one[0])):
        if all(end <= low or start >= high for low, high, _ in chosen):
            chosen.append((start, end, kind))
    return sorted(chosen)


def _is_hopeless(recogniser: Any, text: str) -> bool:
    kinds = recogniser.supported_entities
    if kinds == ["EMAIL_ADDRESS"]:
        return "@" not in text
    return kinds == ["PHONE_NUMBER"] and sum(letter.isdecimal() for letter in text) < DIGITS


def _told(found: Sequence[tuple[int, int, str]]) -> str:
    return ", ".join(f"{kind} ({end - start} characters)" for start, end, kind in found)


def _shown(text: str) -> str:
    return text[:120]


def _without(text: str, found: Sequence[tuple[int, int, str]]) -> str:
    parts, at = [], 0
    for start, end, kind in found:
        parts += [text[at:start], f"<{kind}>"]
        at = end
    return "".join([*parts, text[at:]])


@lru_cache(maxsize=8)
def _recognisers(entities: tuple[str, ...], phone_regions: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(_made(entities, phone_regions))


def _made(entities: tuple[str, ...], phone_regions: tuple[str, ...]) -> Iterator[Any]:
    import tldextract
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer import predefined_recognizers as known

    suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)  # the list of the package; nothing is fetched

    class OfflineEmail(known.EmailRecognizer):  # type: ignore[misc]
        """As presidio's, which would fetch the list of public suffixes."""

        def validate_result(self, pattern_text: str) -> bool:
            """Whether the domain has a public suffix."""
            return bool(suffixes(pattern_text).fqdn)

    makers: dict[str, Callable[[], Any]] = {
        "EMAIL_ADDRESS": OfflineEmail,
        "PHONE_NUMBER": lambda: known.PhoneRecognizer(supported_regions=phone_regions),
        "CREDIT_CARD": known.CreditCardRecognizer,
        "IBAN_CODE": known.IbanRecognizer,
        "IP_ADDRESS": known.IpRecognizer,
        "US_SSN": known.UsSsnRecognizer,
        "CRYPTO": known.CryptoRecognizer,
        "SECRET": lambda: PatternRecognizer(
            supported_entity="SECRET",
            patterns=[Pattern(name, pattern, score) for name, (pattern, score) in SECRETS.items()],
            global_regex_flags=0,
        ),
    }
    for entity in entities:
        yield makers[entity]()
