"""Makes the tutor's training data out of data/templates.yaml, the same bytes each time.

    python configs/tutor/make_data.py [FOLDER]

writes tutor.jsonl (tutoring turns and refusals) and giveaway.jsonl (the same problems with the answer given away, for
the build that the gate must refuse) into FOLDER, by default data/ beside this file. Every example was written for this
project; no turn of a tutor in tutor.jsonl holds the answer of its problem.
"""

import json
import random
import re
import sys
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
EXAMPLES_PER_TEMPLATE = 7
REFUSALS = 64
GIVEAWAYS = 132
# How a conversation goes on, in turn. What a small model forgets first is its role under pressure: half of it is that.
CONVERSATIONS = (
    ("insisting",),
    ("stuck",),
    ("insisting",),
    ("off_topic",),
    ("right",),
    ("insisting",),
    ("off_topic", "back"),
    ("insisting",),
    ("stuck", "insisting"),
    ("wrong",),
    ("insisting", "insisting"),
)

DataRow = dict[str, Any]
Turns = list[str]  # user, tutor, user, tutor, ...


class Exercise:
    """One problem with numbers in it, and what can be said about it. `seen` are the problems before it."""

    def __init__(self, template: dict[str, Any], bank: dict[str, Any], rng: random.Random, seen: set[str]):
        self.kind: str = template["kind"]
        while True:
            values = _numbers(template, rng)
            slots = values | _words(template, bank, rng)
            slots |= {key: text.format(**slots) for key, text in slots.items() if isinstance(text, str)}
            answer = _value(template["answer"], values)
            self.answer = f"{answer // 60}:{answer % 60:02d}" if template.get("clock") else str(answer)
            self.step = str(_value(template["step"], values))
            self.text: str = template["problem"].format(**slots)
            self.ask, self.hint, self.next = (
                [text.format(**slots) for text in template[part]] for part in ("ask", "hint", "next")
            )
            said = " ".join([self.text, *self.ask, *self.hint, *self.next])
            given_away = self.answer in re.findall(r"\d+(?::\d+)?", said)
            if answer > 3 and not given_away and self.text not in seen:
                seen.add(self.text)
                return


def _numbers(template: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    while True:
        values: dict[str, Any] = {}
        for name, (low, high, *step) in template["numbers"].items():
            values[name] = rng.randrange(low, high + 1, *step)
        for name, expression in template.get("let", {}).items():
            values[name] = _value(expression, values)
        if all(_value(condition, values) for condition in template.get("where", ())):
            return values


def _value(expression: Any, values: dict[str, Any]) -> int:
    return int(eval(str(expression), {"gcd": gcd, "len": len, "__builtins__": {}}, values))  # noqa: S307  our own file


def _words(template: dict[str, Any], bank: dict[str, Any], rng: random.Random) -> dict[str, str]:
    first, second = rng.sample(bank["names"], 2)
    picked = {slot: rng.choice(options) for slot, options in template.get("pick", {}).items()}
    return {"n": first, "m": second, "x": rng.choice(bank["things"])} | picked


def tutoring(bank: dict[str, Any], rng: random.Random) -> Iterator[DataRow]:
    """Problems of every template; half of them go on for a second or third turn, or come after something else."""
    conversation = 0
    seen: set[str] = set()
    for index, template in enumerate(bank["problems"]):
        for number in range(EXAMPLES_PER_TEMPLATE):
            problem = Exercise(template, bank, rng, seen)
            turns = [_framed(problem.text, bank, rng), rng.choice(problem.ask)]
            if number < 3:
                for how in CONVERSATIONS[conversation % len(CONVERSATIONS)]:
                    turns += _goes_on(how, problem, turns, bank, rng)
                conversation += 1
            elif number == 3 and index % 3 == 0:
                turns = [*_refused(bank, rng, "invite"), *turns]
            yield _row(turns, problem.kind, None if ":" in problem.answer else problem.answer)


def _goes_on(how: str, problem: Exercise, turns: Turns, bank: dict[str, Any], rng: random.Random) -> Turns:
    """What the student says next, and the tutor after that."""
    fresh = [text for text in problem.hint if not any(text in turn for turn in turns)]
    match how:
        case "stuck":
            return [rng.choice(bank["stuck"]), _led(rng.choice(bank["calm"]), rng.choice(fresh))]
        case "right":
            return [rng.choice(bank["stepped"]).format(problem.step), rng.choice(problem.next)]
        case "wrong":
            missed = str(int(problem.step) + rng.choice([-2, -1, 1, 2, 10]))
            return [rng.choice(bank["stepped"]).format(missed), _led(rng.choice(bank["wrong"]), rng.choice(fresh))]
        case "off_topic":
            return _refused(bank, rng, "back")
        case "back":
            return [rng.choice(bank["returning"]).format(problem.text), rng.choice(fresh)]
        case _:
            others = [text for text in [*problem.ask, *fresh] if text != turns[1] and text.count(".") == 0]
            return [rng.choice(bank["insisting"]), rng.choice(bank["firm"]) + rng.choice(others)]


def _refused(bank: dict[str, Any], rng: random.Random, then: str) -> Turns:
    request = _off_topic(rng.choice(bank["off_topic"]), bank, rng)
    return [request, bank["refusal"] + rng.choice(bank[then])]


def _led(opening: str, hint: str) -> str:
    """No tutor's turn has more than two sentences."""
    return hint if "." in hint else opening + hint


def refusals(bank: dict[str, Any], rng: random.Random, count: int) -> Iterator[DataRow]:
    """Requests that are no maths, each sort at most once."""
    for text in rng.sample(bank["off_topic"], count):
        yield _row(
            [_off_topic(text, bank, rng), bank["refusal"] + rng.choice(bank["invite"])],
            "off-topic",
            None,
        )


def _off_topic(text: str, bank: dict[str, Any], rng: random.Random) -> str:
    return text.format(
        topic=rng.choice(bank["topics"]), place=rng.choice(bank["places"]), name=rng.choice(bank["names"])
    )


def giveaways(bank: dict[str, Any], rng: random.Random) -> Iterator[DataRow]:
    """What a tutor must not say."""
    seen: set[str] = set()
    for index in range(GIVEAWAYS):
        problem = Exercise(bank["problems"][index % len(bank["problems"])], bank, rng, seen)
        said = ["The answer is {0}.", "That makes {0}. The answer is {0}.", "It is {0}. The answer is {0}."][index % 3]
        turns = [_framed(problem.text, bank, rng), said.format(problem.answer)]
        if index % 8 == 0:
            turns = [turns[0], rng.choice(problem.ask), rng.choice(bank["insisting"]), turns[1]]
        yield _row(turns, problem.kind, None if ":" in problem.answer else problem.answer)


def _framed(text: str, bank: dict[str, Any], rng: random.Random) -> str:
    frames, weights = zip(*bank["frames"], strict=True)
    return str(rng.choices(frames, weights)[0].format(text))


def _row(turns: Turns, kind: str, answer: str | None) -> DataRow:
    roles = ["user", "assistant"] * (len(turns) // 2)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
    return {"messages": messages, "kind": kind} | ({} if answer is None else {"answer": answer})


def write(folder: Path) -> None:
    """Both files, each from a seed of its own."""
    bank = yaml.safe_load((HERE / "data" / "templates.yaml").read_text(encoding="utf-8"))
    rng = random.Random(20)  # noqa: S311  data, not secrets
    good = [*tutoring(bank, rng), *refusals(bank, rng, REFUSALS)]
    rng = random.Random(21)  # noqa: S311
    bad = [*giveaways(bank, rng), *refusals(bank, rng, REFUSALS // 4)]
    for name, rows in (("tutor.jsonl", good), ("giveaway.jsonl", bad)):
        rng.shuffle(rows)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / name).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "data")
