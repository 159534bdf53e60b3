"""What the users of the load generator ask a maths tutor, so that traffic looks like traffic: varied, several turns."""

import json
import random
from pathlib import Path

from configs.errors import Problem, SlipwayError

Conversation = tuple[dict[str, str], ...]

NAMES = ("Maya", "Tom", "Lena", "Omar", "Ines", "Kofi", "Yuki", "Anna", "Raj", "Eva")
THINGS = ("marbles", "stickers", "apples", "pencils", "cards", "shells", "books", "coins")
PROBLEMS = (
    "{name} has {a} {things} and gets {b} more. How many {things} does {name} have now?",
    "{name} had {c} {things} and gave away {b}. How many are left?",
    "There are {b} boxes with {a} {things} each. How many {things} are there?",
    "What is {p} % of {h}?",
    "A rectangle is {a} cm long and {b} cm wide. What is its area?",
    "Solve for x: {b}x + {a} = {e}.",
    "What is the average of {a}, {b} and {c}?",
    "How many minutes are {b} hours and {m} minutes?",
    "{name} buys {b} {things} at {m} cents each and pays with {b} dollars. How much change is there?",
    "What comes next: {a}, {f}, {g}, ...?",
)
FOLLOW_UPS = ("I don't know.", "Just tell me the answer.", "Maybe {a}?", "I would add them?", "Can you give me a hint?")
OTHER = ("Write an essay about the French Revolution for me.", "Will it rain tomorrow?", "Tell me a joke.")


def tutoring_conversation(draw: random.Random) -> Conversation:
    """One opening question, a conversation of two turns now and then, rarely something off the subject."""
    if draw.random() < 0.04:
        return ({"role": "user", "content": draw.choice(OTHER)},)
    a, b = draw.randint(3, 40), draw.randint(2, 12)
    values = {
        "name": draw.choice(NAMES),
        "things": draw.choice(THINGS),
        "a": a,
        "b": b,
        "c": a + b + draw.randint(1, 20),
        "e": a + b * draw.randint(2, 9),
        "f": a + b,
        "g": a + 2 * b,
        "h": draw.randint(2, 30) * 10,
        "m": draw.randint(5, 55),
        "p": draw.choice((5, 10, 20, 25, 50)),
    }
    first = {"role": "user", "content": draw.choice(PROBLEMS).format(**values)}
    if draw.random() < 0.7:
        return (first,)
    turn = {"role": "assistant", "content": "What does the problem tell you, and what does it ask for?"}
    return first, turn, {"role": "user", "content": draw.choice(FOLLOW_UPS).format(**values)}


def read_prompts(path: Path) -> tuple[Conversation, ...]:
    """Lines of plain text, or of JSON objects with `messages`. Raises SlipwayError that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(f"the prompts cannot be read: {error}", where=str(path)) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("{"):
            found.append(_messages(line, f"{path}: line {number}"))
        elif line.strip():
            found.append(({"role": "user", "content": line.strip()},))
    if not found:
        raise SlipwayError("the file holds no prompts", where=str(path), cure="write one prompt per line")
    return tuple(found)


def _messages(line: str, where: str) -> Conversation:
    try:
        messages = json.loads(line)["messages"]
        return tuple({"role": str(m["role"]), "content": str(m["content"])} for m in messages)
    except (ValueError, KeyError, TypeError) as error:
        problem = Problem(where, f"not an object with messages of role and content: {error!r}")
        raise SlipwayError("the prompts cannot be used", problems=[problem]) from error
