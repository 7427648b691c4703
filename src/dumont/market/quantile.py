"""Quantiles of the Gamma distribution, for intervals: bisection on the regularised incomplete gamma function. Pure."""

import math
from functools import lru_cache

_TERMS_MAX = 500
_STEPS = 80


def gamma_cdf(x: float, shape: float) -> float:
    """P(X <= x) for X ~ Gamma(shape, 1).

    The series of Abramowitz and Stegun 6.5.29 below shape + 1, and the continued fraction 6.5.31 (by Lentz's method)
    above.
    """
    if x <= 0:
        return 0.0
    scale = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1.0 / shape
        for n in range(1, _TERMS_MAX):
            term *= x / (shape + n)
            total += term
            if term < total * 1e-15:
                break
        return min(1.0, scale * total)
    return 1.0 - scale * _fraction(x, shape)


def _fraction(x: float, shape: float) -> float:
    tiny = 1e-300
    b = x + 1 - shape
    c, d = 1 / tiny, 1 / (b or tiny)
    result = d
    for n in range(1, _TERMS_MAX):
        a = -n * (n - shape)
        b += 2
        d = 1 / ((a * d + b) or tiny)
        c = (b + a / c) or tiny
        step = c * d
        result *= step
        if abs(step - 1) < 1e-14:
            break
    return result


@lru_cache(maxsize=4096)
def gamma_quantile(probability: float, shape: float) -> float:
    """The x with P(X <= x) = probability, for X ~ Gamma(shape, 1); shape > 0, 0 < probability < 1."""
    low, high = 0.0, max(1.0, shape)
    while gamma_cdf(high, shape) < probability:
        high *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if gamma_cdf(middle, shape) < probability else (low, middle)
    return (low + high) / 2
