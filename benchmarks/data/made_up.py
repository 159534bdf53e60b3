"""Rows of a fixed seed: questions of 20 to 80 words with answers, some of them twice, nearly so, or broken."""

import json
import random
from pathlib import Path

WORDS = [first + second for first in "babebibobudadedidodu" for second in ("lak", "mer", "nit", "pos", "run")]


def write_rows(path: Path, rows: int, seed: int = 17) -> None:
    """JSON lines: of 1,000 rows 10 stand twice, 10 have outer space, 10 are near another one, and 1 is no JSON."""
    rng = random.Random(seed)  # noqa: S311 - data, not a secret
    line = asked_before = said_before = ""
    with path.open("w", encoding="utf-8") as out:
        for number in range(rows):
            kind = rng.randrange(1000)
            if kind >= 10 or not line:
                asked = " ".join(rng.choices(WORDS, k=rng.randint(20, 80)))
                said = " ".join(rng.choices(WORDS, k=rng.randint(5, 60)))
                turns = [{"role": "user", "content": f"{number}: {asked}?"}, {"role": "assistant", "content": said}]
                if 10 <= kind < 20:
                    turns[1]["content"] += " \n"
                if 20 <= kind < 30 and asked_before:
                    turns[0]["content"], turns[1]["content"] = f"{asked_before} {rng.choice(WORDS)}", said_before
                else:
                    asked_before, said_before = turns[0]["content"], turns[1]["content"]
                line = json.dumps({"messages": turns, "id": number})
            out.write((line if kind != 999 else line[:-3]) + "\n")
