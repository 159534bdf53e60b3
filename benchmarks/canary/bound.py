"""The least mean number of candidate requests that any test of this kind can do with."""

import math

import numpy as np

from delivery.analysis.projection import NEAREST, project
from delivery.analysis.wealth import Array


def requests(p_s: float, p_c: float, alpha: float, *, share: float, ratio: float = 1.0, increase: float = 0.0) -> float:
    """ln(1/alpha) / min over the null of [(n_s/n_c) KL(p_s, q_s) + KL(p_c, q_c)].

    Wald's bound: a test that errs with at most alpha under the null and always stops under the alternative.
    """
    stable_per_candidate = (1 - share) / share
    p_c = min(p_c, 1 - NEAREST)
    q_s, q_c = project(p_s, p_c, stable_per_candidate, 1.0, ratio, increase)
    information = stable_per_candidate * _divergence(p_s, q_s) + _divergence(p_c, q_c)
    return -math.log(alpha) / float(information)


def _divergence(p: float, q: Array) -> Array:
    divergence: Array = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return divergence
