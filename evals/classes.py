"""Measures over classes: F1 of one class and macro-F1, with intervals that hold for few samples too.

The interval is a Bayesian bootstrap (Rubin, Annals of Statistics 1981) over what was expected, and what one model or
both said. A plain bootstrap has no spread where a model is always right, and would show any margin with five samples.
So each class also gets half a pseudo-sample for every way in which right and wrong can fall, as Agresti and Min do for
two paired shares (Statistics in Medicine 24, 2005). The draws have a fixed seed: the same samples, the same interval.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evals.estimate import Estimate
from evals.report import SampleScore

DRAWS = 2000
PSEUDO = 0.5  # samples of each way

SaidLabels = list[str]
Floats = NDArray[np.float64]


def class_names(samples: Sequence[SampleScore]) -> tuple[str, ...]:
    """The classes that at least one sample expects; one that none expects has no F1."""
    return tuple(sorted({sample.expected for sample in samples if sample.expected is not None}))


def f1(measure: str, samples: Sequence[SampleScore], confidence: float) -> Estimate:
    """`macro_f1`, the plain mean of the classes' F1, or `f1:CLASS`, of what one model said."""
    return _estimate(measure, samples, [samples], lambda found: found[0], confidence)


def f1_difference(
    measure: str, first: Sequence[SampleScore], second: Sequence[SampleScore], confidence: float
) -> Estimate:
    """The same of two models on the same samples, first minus second."""
    return _estimate(measure, first, [first, second], lambda found: found[0] - found[1], confidence)


def _estimate(
    measure: str,
    samples: Sequence[SampleScore],
    models: Sequence[Sequence[SampleScore]],
    combined: Callable[[list[Floats]], Floats],
    confidence: float,
) -> Estimate:
    names = class_names(samples)
    wanted = [sample.expected or "" for sample in samples]
    said = [[sample.said or "" for sample in model] for model in models]
    plain = np.ones((1, len(wanted)))
    value = float(combined([_f1(measure, names, plain, wanted, one) for one in said])[0])
    pseudo, ways = _pseudo(names, len(models))
    weights = _draws(len(wanted), len(pseudo))
    whole = [_f1(measure, names, weights, wanted + pseudo, one + way) for one, way in zip(said, ways, strict=True)]
    low, high = np.quantile(combined(whole), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)), len(wanted))


def _pseudo(names: Sequence[str], models: int) -> tuple[list[str], list[SaidLabels]]:
    """For each class a sample for every way in which the models can be right or wrong about it."""
    wanted: list[str] = []
    said: list[SaidLabels] = [[] for _ in range(models)]
    for name in names:
        for way in range(2**models):
            wanted.append(name)
            for model in range(models):
                said[model].append(name if way >> model & 1 else "")
    return wanted, said


def _draws(samples: int, pseudo: int) -> Floats:
    """Weights of the samples and pseudo-samples, DRAWS x (samples + pseudo)."""
    shapes = np.concatenate([np.ones(samples), np.full(pseudo, PSEUDO)])
    return np.random.default_rng(0).gamma(shapes, size=(DRAWS, len(shapes)))


def _f1(measure: str, names: Sequence[str], weights: Floats, wanted: Sequence[str], said: Sequence[str]) -> Floats:
    """One figure a row of weights."""
    chosen = names if measure == "macro_f1" else [measure.removeprefix("f1:")]
    expected, answered = np.array(wanted, dtype=object), np.array(said, dtype=object)
    figures = []
    for name in chosen:
        both = weights @ ((expected == name) & (answered == name)).astype(float)
        either = weights @ ((expected == name).astype(float) + (answered == name))
        figures.append(2 * both / np.maximum(either, 1e-12))
    return np.asarray(np.mean(figures, axis=0))
