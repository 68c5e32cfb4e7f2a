"""What a sketch adds to intervals; the one place where a sketch's error is accounted for.

Sketched gradients are measured as though they were the gradients, which gives intervals for the
quantities of S ĝ. Those of ĝ differ. With A = SᵀS and E = A − 1, inner products change by xᵀE y. A
count-sketch of the width w has E[E] = 0, and for every symmetric M

    Var tr(M E) = 2/w (‖M‖² − Σ M_ii²) ≤ 2/w ‖M‖²      (Frobenius norm).

So a quantity θ whose relative change is tr(M E) to first order has a relative variance of at most
2/w ‖M‖². With g = G/‖G‖, c = tr(Σ²)/(trΣ)² and f = gᵀΣg/trΣ:

    quantity            M                           ‖M‖²
    ‖G‖²                ggᵀ                         1
    trΣ                 Σ/trΣ                       c
    ‖G‖²/trΣ            ggᵀ − Σ/trΣ                 1 + c − 2f
    trΣ/trΣ'            Σ/trΣ − Σ'/trΣ'             c + c' − 2 tr(ΣΣ')/(trΣ trΣ')
    sin²(G, G')         to first order in sin²      2 cos²
    cos(G, G')          (absolute change)           (1 − cos²)²/2
    mean cosine Q       vvᵀ − E[(û·v)ûûᵀ]           Q² (1 − Q)² (1 + c), if û is v plus noise

The last is exact if all û have the same angle with their mean v; c is that of the noise.

A quantity θ is positive; θ(S)/θ is taken for a χ² number divided by its degrees of freedom, 2
divided by the relative variance, which is exact for ‖G‖² and Gaussian S. Both errors, of the
episodes and of the sketch, are independent. Their distances on the logarithmic scale add in squares
(Zou & Donner 2008).

Source: Charikar, Chen & Farach-Colton 2002 for the sketch; Weinberger et al. 2009 for the variance.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import chdtri, ndtri

from policygrad.diagnostics.intervals import Measured

T = float(ndtri(0.975))
_LEAST = 1e-9  # a relative variance below which there is nothing to add


@dataclass(frozen=True)
class SketchError:
    """The error of a sketch of some width.

    Attributes:
        width: w, numbers of a sketched gradient; infinite for gradients as they are.
    """

    width: float

    def concentration(self, found: float) -> float:
        """c of the gradients, from that of the sketched ones, which is larger by (1 + c)/w."""
        return max((found - 1 / self.width) / (1 + 1 / self.width), 0.0)

    def squared_norm(self, found: Measured) -> Measured:
        """‖G‖², or any squared length of a mean."""
        return self._scaled(found, 1.0)

    def variance(self, found: Measured, alike: float) -> Measured:
        """trΣ; `alike` is c of the sketched gradients, here and below."""
        return self._scaled(found, self.concentration(alike))

    def ratio(self, found: Measured, alike: float, along: float) -> Measured:
        """‖G‖²/trΣ; `along` is f."""
        squares = 1 + self.concentration(alike) - 2 * along
        return self._scaled(found, max(squares, (1 - along) ** 2))

    def variance_ratio(self, found: Measured, squares: float) -> Measured:
        """trΣ/trΣ', from c + c' − 2 tr(ΣΣ')/(trΣ trΣ') of the sketched gradients."""
        return self._scaled(found, max(squares, 0.0))

    def squared_sine(self, found: Measured) -> Measured:
        """sin² of the angle between two means."""
        return self._scaled(found, 2 * max(1 - max(found.value, 0.0), 0.0))

    def cosine(self, found: Measured) -> Measured:
        """The cosine between two means."""
        away = T * max(1 - found.value**2, 0.0) / math.sqrt(self.width)
        return _added(found, away, -1.0)

    def mean_cosine(self, found: Measured, alike: float) -> Measured:
        """The mean cosine of two estimates, from 0 to 1; `alike` is c of the unit vectors."""
        squares = (1 - min(max(found.value, 0.0), 1.0)) ** 2 * (1 + self.concentration(alike))
        return self._scaled(found, squares).map(lambda x: min(x, 1.0))

    def share_along(self, found: Measured, alike: float) -> Measured:
        """f, the share of trΣ along G.

        The sketched gradients have f + (1 − f)/w: part of the noise across G is no longer so. With
        q = ‖Σg‖²/(trΣ)², f² ≤ q ≤ f √c, and p = Σg/trΣ,

            M = 2 sym(p gᵀ) − f ggᵀ − f Σ/trΣ,    ‖M‖² = 2q (1 − 2f) − f² + c f² + 2f³,

        and what is of second order in E has a variance of 2c/w².
        """
        if math.isinf(self.width):
            return found
        c, w = self.concentration(alike), self.width
        less = 1 / w
        shifted = found.map(lambda x: (x - less) / (1 - less))
        f = min(max(shifted.value, 0.0), 1.0)
        q = f**2 if f > 0.5 else max(f * math.sqrt(c), f**2)
        squares = max(2 * q * (1 - 2 * f) - f**2 + c * f**2 + 2 * f**3, 0.0)
        away = T * math.sqrt(2 / w * squares + 2 * c / w**2)
        return _added(shifted, away, 0.0).map(lambda x: min(max(x, 0.0), 1.0))

    def _scaled(self, found: Measured, squares: float) -> Measured:
        """The interval of a positive number with a relative variance of 2/w · `squares` more."""
        relative = 2 / self.width * squares
        if relative < _LEAST:
            return found
        degrees = 2 / relative
        # the sketched number is the true one times χ²/degrees, of which these are quantiles
        least, most = (float(chdtri(degrees, p)) / degrees for p in (0.975, 0.025))
        value, low, high = found.value, found.low, found.high
        if not value > 0:
            return replace(found, high=high / least)
        down = math.hypot(math.log(value / low), math.log(most)) if low > 0 else math.inf
        up = math.hypot(math.log(high / value), math.log(least)) if math.isfinite(high) else high
        return Measured(value, value * math.exp(-down), value * _exp(up))


EXACT = SketchError(math.inf)
"""No sketch: nothing is added to any interval."""


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _added(found: Measured, away: Any, least: float) -> Measured:
    """The interval with a symmetric error more; it stays within `least` and 1."""
    low = found.value - np.hypot(found.value - found.low, away)
    high = found.value + np.hypot(found.high - found.value, away)
    return Measured(found.value, max(float(low), least), min(float(high), 1.0))
