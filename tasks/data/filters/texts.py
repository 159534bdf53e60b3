"""Which texts of a row a filter looks at."""

from collections.abc import Iterator

from delivery.build.rows import Example

SIDES = ("messages", "chosen", "rejected")


def asked(example: Example) -> list[str]:
    """What the user says, a text each turn."""
    return [message["content"] for message in example.messages if message["role"] == "user"]


def answers(example: Example) -> Iterator[tuple[str, str]]:
    """(where, text) of each answer that is learned from; the rejected side of a pair is there to be unlearned."""
    for side in ("messages", "chosen"):
        for index, message in enumerate(getattr(example, side)):
            if message["role"] == "assistant" and message.get("weight") != 0 and message["content"]:
                yield f"{side}.{index} (assistant)", message["content"]
