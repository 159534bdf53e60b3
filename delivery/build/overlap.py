"""Which questions of the eval suites stand in rows that are trained on: such a score says nothing.

A question counts as trained on when a row asks the very same (case, spacing and marks aside), or when at least half of
its runs of eight words stand in one row. GPT-3's report (Brown et al. 2020, appendix C) looks for runs of words, too.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from configs.errors import Problem, SlipwayError
from delivery.build.split import bare

RUN_WORDS = 8
NEAR_SHARE = 0.5
SHOWN = 3  # questions of each suite
SHOWN_CHARS = 100
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Asked:
    """One question of a suite."""

    suite: str
    sample: str
    text: str


@dataclass(frozen=True)
class Overlapping:
    """A question that a row holds; `share` is 1.0 where the row asks the very same."""

    asked: Asked
    row: str  # its id
    share: float


@dataclass(frozen=True)
class Overlap:
    """`found` has at most one row for each question: the first that holds most of it."""

    asked: dict[str, int]  # suite -> questions that were compared
    found: tuple[Overlapping, ...]
    not_compared: tuple[str, ...] = ()  # suites whose questions could not be read

    def by_suite(self) -> dict[str, int]:
        """Suite -> questions that are trained on."""
        return dict(Counter(one.asked.suite for one in self.found))

    def render(self) -> str:
        """For the terminal: one line a suite that overlaps, and a few questions of it."""
        if not self.found and not self.asked and not self.not_compared:
            return "the suites ask held-out rows alone, which are not trained on"
        if not self.found:
            return f"none of {sum(self.asked.values())} eval questions is trained on"
        return "\n".join(str(problem) for problem in self.problems())

    def problems(self) -> list[Problem]:
        """One for each suite."""
        return [
            Problem(f"suite {suite}", f"{rows} of {self.asked[suite]} questions are trained on: {self._shown(suite)}")
            for suite, rows in self.by_suite().items()
        ]

    def _shown(self, suite: str) -> str:
        mine = [one for one in self.found if one.asked.suite == suite]
        texts = [
            f"{one.asked.sample} ({'the same' if one.share == 1 else f'{one.share:.0%} of it'} in row {one.row}): "
            f"{one.asked.text[:SHOWN_CHARS]!r}"
            for one in mine[:SHOWN]
        ]
        return "; ".join(texts) + ("; ..." if len(mine) > SHOWN else "")


def find_overlap(asked: Sequence[Asked], rows: Iterable[tuple[str, Sequence[str]]]) -> Overlap:
    """Compares questions with rows, each an id and the texts of its messages. Rows go by one at a time."""
    same: dict[str, list[int]] = defaultdict(list)
    runs: dict[tuple[str, ...], set[int]] = defaultdict(set)
    sizes = []
    for number, one in enumerate(asked):
        same[bare(one.text)].append(number)
        mine = _runs(one.text)
        sizes.append(len(mine))
        for run in mine:
            runs[run].add(number)
    best: dict[int, tuple[float, str]] = {}
    for row, texts in rows:
        hits: Counter[int] = Counter()
        for text in texts:
            for number in same.get(bare(text), ()):
                best.setdefault(number, (0.0, ""))
                best[number] = max(best[number], (1.0, row), key=lambda pair: pair[0])
            for run in _runs(text) if runs else ():
                hits.update(runs.get(run, ()))
        for number, count in hits.items():
            share = min(count / sizes[number], 0.99)
            if share >= NEAR_SHARE and share > best.get(number, (0.0, ""))[0]:
                best[number] = (share, row)
    found = tuple(Overlapping(asked[number], row, share) for number, (share, row) in sorted(best.items()))
    return Overlap(dict(Counter(one.suite for one in asked)), found)


def refuse_overlap(name: str, overlap: Overlap) -> None:
    """Raises SlipwayError where rows of a dataset hold questions of the suites that are to judge it."""
    if overlap.found:
        raise SlipwayError(
            f"dataset {name!r} trains on {len(overlap.found)} of {sum(overlap.asked.values())} questions of the eval "
            "suites: their scores would measure memory",
            problems=overlap.problems(),
            cure="take these rows out of the data, or ask other questions; `eval_overlap: allow` in dataset.yaml lets "
            "the build go on",
        )


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return {tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1)}
