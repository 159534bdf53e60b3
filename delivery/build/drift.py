"""Whether users ask for other things than before: two samples of requests, compared by length and by their words.

One request counts for each user, because a user's requests resemble one another and the tests take them for
independent. Both tests get half of the false-alarm rate (Bonferroni), so that a look is wrong at most that often.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.refresh import Drift
from configs.strict import Strict

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_WORD = re.compile(r"\w+")
FEWEST_USERS = 10  # who must use an n-gram for it to count; a word of one user's is shown to nobody
MOST_FEATURES = 5000
AT_ONCE = 100  # permutations in memory
SHOWN = 3
_SEED = 17


class DriftEvidence(Strict):
    """What two samples of requests show. `told` is a clause for people."""

    before: int  # users
    since: int
    length_p: float | None = None  # None: there were too few users
    words_p: float | None = None
    drifted: bool = False
    told: str


class OnePerUser:
    """One request of each user, and of many users a random few: the same ones whatever the order of the log."""

    def __init__(self, at_most: int):
        self._at_most = at_most
        self._kept: dict[str, tuple[bytes, str]] = {}
        self._limit: bytes | None = None

    def add(self, user: str, request_id: str, text: str) -> None:
        """A request; one of nobody known stands for itself."""
        key = f"user {user}" if user else f"request {request_id}"
        if self._limit is not None and _hash(key) > self._limit:
            return
        place = _hash(request_id)
        if key not in self._kept or place < self._kept[key][0]:
            self._kept[key] = (place, text)
        if len(self._kept) > 2 * self._at_most:
            self._kept = dict(self._first())
            self._limit = max(map(_hash, self._kept))

    def texts(self) -> list[str]:
        """At most so many as were asked for."""
        return [text for _, (_, text) in self._first()]

    def _first(self) -> list[tuple[str, tuple[bytes, str]]]:
        return sorted(self._kept.items(), key=lambda one: _hash(one[0]))[: self._at_most]


def drift_of(before: Sequence[str], since: Sequence[str], rules: Drift) -> DriftEvidence:
    """Compares what users asked; each text is another user's.

    Lengths are compared by the test of Kolmogorov and Smirnov. Words and pairs of words are compared by a permutation
    test of how far the two sides' mean vectors lie apart (a linear kernel's two-sample test, Gretton et al. 2012),
    which is exact where no side differs from the other.
    """
    counts = {"before": len(before), "since": len(since)}
    if min(counts.values()) < rules.min_users:
        told = f"too few users asked to look for drift: {len(before)} before the last refresh and {len(since)} since"
        return DriftEvidence(**counts, told=f"{told}, of {rules.min_users} that are needed (refresh.drift.min_users)")
    from scipy.stats import ks_2samp

    lengths = [[len(_WORD.findall(text)) for text in side] for side in (before, since)]
    length = ks_2samp(*lengths)
    level = rules.false_alarm_rate / 2
    words_p, shifts = _words(before, since, level)
    found = [length.pvalue < level, words_p < level]
    clauses = []
    if found[0]:
        halves = " -> ".join(f"{np.median(side):g}" for side in lengths)
        distance = f"Kolmogorov-Smirnov distance {length.statistic:.2f}, p {length.pvalue:.1g}"
        clauses.append(f"questions have other lengths (median {halves} words; {distance})")
    if found[1]:
        clauses.append(f"users use other words ({', '.join(shifts)}; p {words_p:.1g})")
    who = f"of {len(before)} users before the last refresh and {len(since)} since"
    wrong = f"by chance in at most {rules.false_alarm_rate:.1%} of looks"
    told = (
        f"the requests {who} drifted: {' and '.join(clauses)}; {wrong}"
        if clauses
        else f"the requests {who} are not told apart (lengths p {length.pvalue:.2g}, words p {words_p:.2g})"
    )
    return DriftEvidence(**counts, length_p=float(length.pvalue), words_p=words_p, drifted=any(found), told=told)


def _words(before: Sequence[str], since: Sequence[str], level: float) -> tuple[float, list[str]]:
    """The p-value, and the n-grams whose shares of the users differ most."""
    from scipy.stats import permutation_test

    features, names = _features([*before, *since])
    if not names:
        return 1.0, []
    n, split = len(before) + len(since), len(before)
    total = np.asarray(features.sum(axis=0)).ravel()

    def distance(first: Any, second: Any, axis: int) -> Any:
        """Of each row of `first`, which are places of texts: the squared distance of the two sides' means."""
        rows = np.atleast_2d(first)
        inside = np.zeros((len(rows), n))
        np.put_along_axis(inside, rows, 1.0, axis=1)
        summed = (features.T @ inside.T).T
        apart = ((summed / split - (total - summed) / (n - split)) ** 2).sum(axis=1)
        return apart if first.ndim > 1 else apart[0]

    found = permutation_test(
        (np.arange(split), np.arange(split, n)),
        distance,
        vectorized=True,
        n_resamples=math.ceil(10 / level) - 1,
        batch=AT_ONCE,
        alternative="greater",
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue), _shifts(features, names, split)


def _features(texts: Sequence[str]) -> "tuple[csr_array[Any], list[str]]":
    """A row for each text, of unit length: which words and pairs of words it has, the rarer the heavier."""
    from scipy.sparse import csr_array

    said = [_grams(text) for text in texts]
    users = Counter(gram for grams in said for gram in grams)
    common = [gram for gram, count in users.most_common() if FEWEST_USERS <= count < len(texts)][:MOST_FEATURES]
    place = {gram: number for number, gram in enumerate(common)}
    rows, columns, values = [], [], []
    for row, grams in enumerate(said):
        own = sorted(place[gram] for gram in grams if gram in place)
        weights = [math.log(len(texts) / users[common[column]]) for column in own]
        norm = math.sqrt(sum(weight**2 for weight in weights)) or 1.0
        rows += [row] * len(own)
        columns += own
        values += [weight / norm for weight in weights]
    return csr_array((values, (rows, columns)), shape=(len(texts), max(1, len(common)))), common


def _grams(text: str) -> set[str]:
    words = _WORD.findall(text.casefold())
    return {*words, *(" ".join(pair) for pair in pairwise(words))}


def _shifts(features: "csr_array[Any]", names: Sequence[str], split: int) -> list[str]:
    has = features > 0
    shares = [np.asarray(side.sum(axis=0)).ravel() / side.shape[0] for side in (has[:split], has[split:])]
    widest = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:SHOWN]
    return [f"{names[one]!r} {shares[0][one]:.0%} -> {shares[1][one]:.0%} of users" for one in widest]


def _hash(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
