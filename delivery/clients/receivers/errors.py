"""Why a receiver did not take a message, in words that hold no secret."""

from collections.abc import Iterable

from configs.errors import SlipwayError

HIDDEN = "***"


class ReceiverError(SlipwayError):
    """A receiver did not take a message. `retry_after_s`: what it asks for before the next try."""

    retry_after_s: float = 0.0


def without(text: str, secrets: Iterable[str]) -> str:
    """The text, each secret in it hidden."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text
