"""Confidence bounds behind the checks: how sure may one be of a rate, a quantile or a mean?

Two kinds, on purpose. A *failure* may be declared after any request, so its bounds hold for all sample sizes at once
(looking every second does not turn bad luck into a rollback). A *pass* is declared at the planned minimum of requests
and duration, with the exact bound for one look.
"""

import math

from scipy.special import bdtr, betainccinv, betaincinv, betaln, ndtri


def rate_low_anytime(hits: float, n: int, alpha: float) -> float:
    """A lower bound of a rate that holds for all n at once, with probability 1 - alpha.

    The rates p against which the uniform mixture's likelihood ratio B(1+k, 1+n-k) / (p^k (1-p)^(n-k)) stays below
    1/alpha (Robbins 1970; Ville's inequality).
    """
    if n == 0 or hits <= 0:
        return 0.0
    return _where_ratio_reaches(hits, n, alpha, inside=hits / n, outside=0.0)


def rate_high_anytime(hits: float, n: int, alpha: float) -> float:
    """The upper bound that belongs to `rate_low_anytime`."""
    if n == 0 or hits >= n:
        return 1.0
    return _where_ratio_reaches(hits, n, alpha, inside=hits / n, outside=1.0)


def rate_low(hits: int, n: int, alpha: float) -> float:
    """Exact lower bound of a rate for one look (Clopper, Pearson 1934)."""
    return 0.0 if n == 0 or hits <= 0 else float(betaincinv(hits, n - hits + 1, alpha))


def rate_high(hits: int, n: int, alpha: float) -> float:
    """Exact upper bound of a rate for one look (Clopper, Pearson 1934)."""
    return 1.0 if n == 0 or hits >= n else float(betainccinv(hits + 1, n - hits, alpha))


def quantile_low_rank(n: int, q: float, alpha: float) -> int:
    """The rank (from 1; 0: none) of the sample that is a lower bound of the q-quantile for one look.

    The largest r with P(Binomial(n, q) < r) <= alpha.
    """
    low, high = 0, n + 1
    while high - low > 1:
        rank = (low + high) // 2
        # P(Bin(n, q) <= rank - 1) through the incomplete beta function
        if _binomial_cdf(rank - 1, n, q) <= alpha:
            low = rank
        else:
            high = rank
    return low


def requests_to_pass(limit_rate: float, alpha: float) -> int | None:
    """How many faultless requests `rate_high` needs to get to the limit; None when no number is enough."""
    if limit_rate < 1e-9:
        return None
    return 1 if limit_rate >= 1 else math.ceil(math.log(alpha) / math.log1p(-limit_rate))


def mean_radius(standard_error: float, alpha: float) -> float:
    """One-sided normal bound of a mean for one look, as a distance from the mean."""
    return float(-ndtri(alpha)) * standard_error


def mean_radius_anytime(standard_error: float, n: int, alpha: float, tight_at: int = 50) -> float:
    """The distance that holds for all n at once, asymptotically.

    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory (2024), equation 1.
    """
    if n == 0:
        return math.inf
    rho = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tight_at
    spread = n * rho
    return standard_error * math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))


def _binomial_cdf(k: int, n: int, p: float) -> float:
    return 0.0 if k < 0 else float(bdtr(k, n, p))


def _where_ratio_reaches(hits: float, n: int, alpha: float, *, inside: float, outside: float) -> float:
    misses = n - hits
    mixture = float(betaln(1 + hits, 1 + misses))
    target = -math.log(alpha)
    for _ in range(60):
        p = (inside + outside) / 2
        log_ratio = mixture - _xlogy(hits, p) - _xlogy(misses, 1 - p)
        inside, outside = (p, outside) if log_ratio < target else (inside, p)
    return inside


def _xlogy(x: float, y: float) -> float:
    return 0.0 if x == 0 else x * math.log(max(y, 1e-300))
