"""Intervals of sums, products and quotients of numbers that have intervals of their own.

MOVER (Zou & Donner 2008): the distance from a number to either end of its interval plays the part
of a standard error on that side. The distances add in squares. So a long tail on one side stays
there.
"""

import math
from typing import Any

import numpy as np

from policygrad.diagnostics.intervals import Measured, unit_of


def total_of(one: Measured, other: Measured) -> Measured:
    """The sum of two positive numbers with independent errors; Zou & Donner's (2008) upper end.

    The lower end is the sum of both lower ends; theirs is too high if one number may be zero.
    """
    value = one.value + other.value
    away = math.hypot(one.high - one.value, other.high - other.value)
    return Measured(value, one.low + other.low, value + away)


def errors_of_both(value: Any, *causes: Any) -> Measured:
    """A number with independent errors. Each error is given by the two values it alone leads to.

    The distances add in squares, below and above (Zou & Donner 2008).
    """
    low = [np.maximum(value - np.minimum(*ends), 0.0) for ends in causes]
    high = [np.maximum(np.maximum(*ends) - value, 0.0) for ends in causes]
    return Measured(value, value - np.hypot(*low), value + np.hypot(*high))


def product_of(one: Measured, other: Measured) -> Measured:
    """The product of two numbers above zero with independent errors, on the logarithmic scale."""

    def away(end: str) -> float:
        return math.hypot(*(math.log(getattr(x, end) / x.value) for x in (one, other)))

    value = one.value * other.value
    return Measured(value, value * math.exp(-away("low")), value * math.exp(away("high")))


def quotient_of(one: Measured, other: Measured, correlation: float = 0.0) -> Measured:
    """x/y by Fieller's (1954) argument: every c at which x − c·y may be zero.

    A quotient is skewed, and the more so the less is known of y; x − c·y is not. At the lower end

        (x − c y)² = e² + c² d² − 2 ρ c e d,    e = x − x₋,   d = y₊ − y if c > 0, else y − y₋,

    and the upper end is minus the lower one of −x/y.

    Args:
        one: x.
        other: y, whose interval lies above zero.
        correlation: ρ of both errors.

    Source: Donner & Zou 2012, with ρ as in Zou & Donner 2008.
    """
    units = [float(unit_of(max(abs(z.low), abs(z.high)))) for z in (one, other)]
    one, other = (z.map(lambda v, u=u: v / u) for z, u in zip((one, other), units, strict=True))
    y = other.value

    def least(x: float, low: float, correlation: float) -> float:
        e = x - low
        d = other.high - y if low > 0 else y - other.low
        p = x * y - correlation * e * d
        root = math.sqrt(max(p**2 - (y**2 - d**2) * (x**2 - e**2), 0.0))
        # two forms of one solution; each is the accurate one for its sign of p
        return (x**2 - e**2) / (p + root) if p > 0 else (p - root) / (y**2 - d**2)

    x = one.value
    low, high = least(x, one.low, correlation), -least(-x, -one.high, -correlation)
    return Measured(x / y, low, high).map(lambda v: v * (units[0] / units[1]))
