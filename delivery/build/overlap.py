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
class SuiteQuestion:
    """One question of a suite."""

    suite: str
    sample: str
    text: str


@dataclass(frozen=True)
class Overlapping:
    """A question that a row holds; `share` is 1.0 where the row asks the very same."""

    asked: SuiteQuestion
    row: str  # its id
    share: float


@dataclass(frozen=True)
class Overlap:
    """`found` has at most one row for each question, the first that holds most of it; `matches` has all of them."""

    asked: dict[str, int]  # suite -> questions that were compared
    found: tuple[Overlapping, ...]
    not_compared: tuple[str, ...] = ()  # suites whose questions could not be read
    matches: tuple[Overlapping, ...] = ()

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


class Questions:
    """Questions of suites, ready to be looked for in rows."""

    def __init__(self, asked: Sequence[SuiteQuestion]):
        self.asked = tuple(asked)
        self._same: dict[str, list[int]] = defaultdict(list)
        self._runs: dict[tuple[str, ...], set[int]] = defaultdict(set)
        self._sizes = []
        for number, one in enumerate(asked):
            self._same[bare(one.text)].append(number)
            mine = _runs(one.text)
            self._sizes.append(len(mine))
            for run in mine:
                self._runs[run].add(number)

    def in_row(self, texts: Sequence[str]) -> dict[int, float]:
        """Number of a question -> how much of it stands in a row's texts; 1.0 where one of them asks the very same."""
        hits: Counter[int] = Counter()
        found: dict[int, float] = {}
        for text in texts:
            found |= {number: 1.0 for number in self._same.get(bare(text), ())}
            for run in _runs(text) if self._runs else ():
                hits.update(self._runs.get(run, ()))
        for number, count in hits.items():
            share = min(count / self._sizes[number], 0.99)
            if share >= NEAR_SHARE and number not in found:
                found[number] = share
        return found


def find_overlap(asked: Sequence[SuiteQuestion], rows: Iterable[tuple[str, Sequence[str]]]) -> Overlap:
    """Compares questions with rows, each an id and the texts of its messages. Rows go by one at a time."""
    questions = Questions(asked)
    best: dict[int, Overlapping] = {}
    matches = []
    for row, texts in rows:
        for number, share in sorted(questions.in_row(texts).items()):
            matches.append(Overlapping(asked[number], row, share))
            if number not in best or share > best[number].share:
                best[number] = matches[-1]
    found = tuple(best[number] for number in sorted(best))
    return Overlap(dict(Counter(one.suite for one in asked)), found, matches=tuple(matches))


def refuse_overlap(name: str, overlap: Overlap, listed: str = "") -> None:
    """Raises SlipwayError where rows of a dataset hold questions of the suites that are to judge it.

    `listed`: the file that has every match.
    """
    if overlap.found:
        raise SlipwayError(
            f"dataset {name!r} trains on {len(overlap.found)} of {sum(overlap.asked.values())} questions of the eval "
            "suites: their scores would measure memory",
            where=listed and f"all {len(overlap.matches)} matches: {listed}",
            problems=overlap.problems(),
            cure="take these rows out of the data, or ask other questions; in dataset.yaml `eval_overlap: drop` "
            "rejects them, and `eval_overlap: allow` lets the build go on",
        )


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return {tuple(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1)}
