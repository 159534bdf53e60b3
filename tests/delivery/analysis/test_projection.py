"""A bet is divided by the point of the null that is hardest to tell from it, exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from delivery.analysis.projection import expit, logit, project

RATE = st.floats(1e-4, 0.99)
SIZE = st.integers(1, 500)
LIFT = st.sampled_from([0.7, 1.4, 2.3, 3.6, 7.0, -0.7, -2.3, -7.0])
LINE = st.tuples(st.floats(0.3, 3.0), st.floats(0.0, 0.4))


def divergence(p, q):
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


@given(p_s=RATE, lift=LIFT, n_s=SIZE, n_c=SIZE, line=LINE)
def test_no_point_of_the_border_is_nearer(p_s, lift, n_s, n_c, line):
    ratio, increase = line
    p_c = float(expit(logit(np.clip(ratio * p_s + increase, 1e-6, 1 - 1e-6)) + lift))
    q_s, q_c = project(p_s, p_c, n_s, n_c, ratio, increase)

    def distance(x):
        return n_s * divergence(p_s, x) + n_c * divergence(p_c, ratio * x + increase)

    highest = min(1.0, (1 - increase) / ratio)
    found = minimize_scalar(distance, bounds=(1e-12, highest - 1e-12), method="bounded", options={"xatol": 1e-13})
    assert q_c == pytest.approx(ratio * q_s + increase)
    assert 0 < q_s < 1
    assert 0 < q_c < 1
    assert distance(float(q_s)) <= found.fun + 1e-9 * (1 + found.fun)


@given(p_s=RATE, p_c=RATE, n_s=SIZE, n_c=SIZE)
def test_for_equal_rates_the_projection_is_the_pooled_rate(p_s, p_c, n_s, n_c):
    pooled = (n_s * p_s + n_c * p_c) / (n_s + n_c)
    assert np.allclose(project(p_s, p_c, n_s, n_c), pooled)
    assert np.allclose(project(p_s, p_c, n_s, n_c, 1.0, 1e-13), pooled, rtol=1e-6)


@given(p_s=RATE, lift=LIFT, n_s=SIZE, n_c=SIZE, line=LINE, u_s=st.floats(1e-9, 1 - 1e-9), gap=st.floats(0, 1))
def test_the_mean_of_the_ratio_is_at_most_one_on_all_of_the_null(p_s, lift, n_s, n_c, line, u_s, gap):
    ratio, increase = line
    border = ratio * p_s + increase
    if not 1e-6 < border < 1 - 1e-6:
        return
    p_c = float(expit(logit(border) + lift))
    q_s, q_c = project(p_s, p_c, n_s, n_c, ratio, increase)
    edge = ratio * u_s + increase
    if edge > 1 and lift < 0:
        return  # no rate of the candidate is in the null
    edge = min(1.0, edge)
    u_c = edge * gap if lift > 0 else edge + (1 - edge) * gap
    log_mean = n_s * np.log(u_s * p_s / q_s + (1 - u_s) * (1 - p_s) / (1 - q_s))
    log_mean += n_c * np.log(u_c * p_c / q_c + (1 - u_c) * (1 - p_c) / (1 - q_c))
    assert log_mean <= 1e-9


def test_many_projections_at_once_are_the_single_ones():
    rng = np.random.default_rng(1)
    p_s, p_c = rng.uniform(0.01, 0.4, 50), rng.uniform(0.5, 0.9, 50)
    n_s, n_c = rng.integers(1, 100, 50), rng.integers(1, 100, 50)
    together = np.array(project(p_s, p_c, n_s, n_c, 1.2, 0.01))
    single = np.array([project(*row, 1.2, 0.01) for row in zip(p_s, p_c, n_s, n_c, strict=True)])
    assert np.allclose(together.T, single, rtol=1e-12)
