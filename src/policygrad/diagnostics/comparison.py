"""Estimators compared on the same episodes at the same parameters: variance, bias, and their sum.

Every estimator is measured on the same episodes in the same groups, so that noise that is common
to two estimators cancels. The bias is measured from their differences, episode by episode.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.along import share_along
from policygrad.diagnostics.combining import product_of, quotient_of, total_of
from policygrad.diagnostics.intervals import (
    GROUPS,
    GroupSums,
    Means,
    Measured,
    concentration,
    covariances_apart,
    unit_of,
)
from policygrad.diagnostics.sketch_error import EXACT, SketchError
from policygrad.diagnostics.streaming import (
    ROWS,
    Episodes,
    Rows,
    flatten,
    stream,
    weights_of,
)
from policygrad.gradients import scores
from policygrad.gradients.estimators import reward_to_go
from policygrad.gradients.weights import Estimator, EstimatorState

Candidates = Mapping[str, tuple[Estimator, EstimatorState]]


@dataclass(frozen=True)
class Compared:
    """One estimator among others; variance is that of ONE episode.

    Attributes:
        variance: trΣ.
        variance_ratio: trΣ divided by that of the reference, from the same episodes.
        squared_bias: ‖E ĝ − G‖², with G the reference's mean. The estimate is unbiased, so it may
            be below zero.
        bias: the root of `squared_bias`.
        mean_squared_error: of a batch of N: squared bias (at least 0) + trΣ/N.
        cosine: ⟨E ĝ, G⟩ / (‖G‖ √(‖E ĝ‖² + trΣ/N)), approximately the mean cosine of a batch of N
            with G: how well the direction is estimated. If ‖G‖ or ‖E ĝ‖ may be zero, the value is
            NaN and its interval is from −1 to 1.
    """

    variance: Measured
    variance_ratio: Measured
    squared_bias: Measured
    bias: Measured
    mean_squared_error: Measured
    cosine: Measured


@dataclass(frozen=True)
class Comparison:
    """Estimators on the same episodes.

    Attributes:
        episodes: how many were measured.
        batch_episodes: N, the batch that `mean_squared_error` and `cosine` are for.
        reference: name of the estimator that bias is measured against.
        estimators: name -> `Compared`, the reference among them.
    """

    episodes: int
    batch_episodes: int
    reference: str
    estimators: Mapping[str, Compared]

    @property
    def least_error(self) -> str:
        """The least mean squared error of a batch of N. It is no recommendation: the error counts
        the gradient's length, and the optimiser sizes the step (`recommending`)."""
        return min(self.estimators, key=lambda k: self.estimators[k].mean_squared_error.value)

    @property
    def best_direction(self) -> str:
        """The highest cosine of a batch of N with the true gradient."""
        cosines = {k: x.cosine.value for k, x in self.estimators.items()}
        return max(cosines, key=lambda k: -2.0 if math.isnan(cosines[k]) else cosines[k])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self) | {
            "least_error": self.least_error,
            "best_direction": self.best_direction,
        }


def compare_estimators(
    policy: Any,
    candidates: Candidates,
    episodes: Episodes,
    *,
    batch_episodes: int,
    reference: str | None = None,
    groups: int = GROUPS,
    rows: int = ROWS,
) -> Comparison:
    """Variance, bias and mean squared error of estimators, from the same whole episodes.

    MSE(N) = ‖E ĝ − G‖² + trΣ/N.

    Args:
        policy: observation -> distribution, at the parameters that acted.
        candidates: name -> estimator and state, fitted on OTHER episodes than these. A baseline or
            critic that was fitted to these episodes depends on each sample, which biases it.
        episodes: as in `gradient_noise`.
        batch_episodes: N.
        reference: name of the candidate that counts as unbiased. None adds one, "reference":
            undiscounted rewards to go without a baseline, whose time limits end the task. The bias
            of returns that reset at rewards then holds the change of their objective; to leave it
            out, name a reference that resets too.
        groups: K; memory holds K gradients an estimator.
        rows: as in `gradient_noise`.

    Returns:
        `Comparison`.

    Raises:
        UserError: an unknown reference; `normalise_advantages`, which scales every estimator
            by a different number, so that they could not be compared.

    Bias: none in variance and squared bias, where the reference has none.

    Source: mean squared error as variance plus squared bias; E5 for the reference.
    """
    check_batch(batch_episodes)
    candidates = dict(candidates)
    if reference is None:
        reference = "reference"
        plain = reward_to_go()
        candidates.setdefault(reference, (plain, plain.init(jax.random.key(0), None)))
    summed = comparison_rows(candidates, reference)
    sums = stream(policy, episodes, summed, groups=groups, rows=rows)
    return comparison_of_sums(sums, tuple(candidates), reference, batch_episodes)


def comparison_rows(candidates: Candidates, reference: str) -> Rows:
    """What `comparison_of_sums` needs to be summed; arguments as in `compare_estimators`."""
    check_candidates(candidates, reference)

    def weigh(batch: Any) -> Any:
        return np.stack([weights_of(e, s, batch).psi for e, s in candidates.values()])

    return Rows(weigh, _ReducePairs(list(candidates).index(reference)), by_unit=True)


def check_batch(episodes: int) -> None:
    """Raise UserError unless the number of episodes in a batch is a whole one, at least 1."""
    if isinstance(episodes, bool) or not isinstance(episodes, (int, np.integer)) or episodes < 1:
        raise UserError(f"batch_episodes must be a whole number, at least 1, got {episodes!r}")


def check_candidates(candidates: Mapping[str, tuple[Estimator, Any]], reference: str) -> None:
    """Raise UserError unless the reference is among them, and none normalises its advantages."""
    check_reference(candidates, reference)
    for name, (estimator, _) in candidates.items():
        if estimator.normalise_advantages:
            raise UserError(
                f"{name!r} normalises its advantages, which multiplies it by a number that differs "
                "between estimators; compare with normalise_advantages=False"
            )


def check_reference(candidates: Mapping[str, Any], reference: str) -> None:
    """Raise UserError unless they are named, and the reference is one of them."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise UserError(f"give estimators by name, got {type(candidates).__name__} {candidates!r}")
    if reference not in candidates:
        raise UserError(f"reference must be one of {', '.join(candidates)}, got {reference!r}")


@dataclass(frozen=True)
class _ReducePairs:
    """For every unit and estimator: ĝ, ‖ĝ‖², and ĝ · ĝ of the reference."""

    reference: int

    def __call__(self, policy: Any, episodes: Trajectories, weights: Array) -> dict[str, Array]:
        def gradients(psi: Array) -> Array:
            return flatten(scores.unit_gradients(policy, episodes, psi))

        g = jnp.moveaxis(jax.lax.map(gradients, weights), 0, 1)  # [m, E, d]
        return rows_of_pairs(g, self.reference, jnp)


def rows_of_pairs(gradients: Any, reference: int, xp: Any) -> dict[str, Any]:
    """What is summed for a comparison, from gradients `[m, E, d]` of NumPy or JAX (`xp`)."""
    product = xp.einsum("med,md->me", gradients, gradients[:, reference])
    return {"gradient": gradients, "square": (gradients**2).sum(2), "product": product}


def comparison_of_sums(
    sums: GroupSums,
    names: tuple[str, ...],
    reference: str,
    batch_episodes: int,
    sketch: SketchError = EXACT,
) -> Comparison:
    """The result, from group sums of the rows of `rows_of_pairs`; names are in its order.

    Args:
        sums: over groups of episodes.
        names: of the estimators.
        reference: one of them.
        batch_episodes: N.
        sketch: what a sketch adds to the intervals, if the gradients are sketched.
    """
    sums = sums.folded()
    at = names.index(reference)
    m = sums.means()
    n, g = m.n[:, None], m["gradient"]  # [R, E, d]
    products = np.einsum("red,rd->re", g, g[:, at])
    squares = np.einsum("red,red->re", g, g)
    less = n / np.maximum(n - 1, 1)
    variance = np.maximum(m["square"] - squares, 0.0) * less
    covariance = (m["product"] - products) * less
    norm2, along = squares - variance / n, products - covariance / n
    # of the differences ĝ − ĝ_ref, episode by episode
    spread = np.maximum(variance - 2 * covariance + variance[:, [at]], 0.0)
    apart = np.maximum(squares - 2 * products + squares[:, [at]], 0.0)
    bias2 = apart - spread / n
    with np.errstate(all="ignore"):
        ratio = variance / variance[:, [at]]
    own, units = sums.sums["gradient"], batch_episodes / sums.size

    def one(e: int) -> Compared:
        apart = own[:, e] - own[:, at]
        alike = concentration(apart @ apart.T, sums.counts, apart.shape[1])
        squared_bias = sketch.squared_norm(
            m.squared_norm(bias2[:, e], spread[0, e] / n[0, 0], alike)
        )
        of_own = concentration(own[:, e] @ own[:, e].T, sums.counts, own.shape[2])
        own_variance = sketch.variance(m.interval(variance[:, e], "positive"), of_own)
        floor = own_variance.map(lambda x: x / units)
        at_least_0 = replace(squared_bias, value=max(squared_bias.value, 0.0))
        return Compared(
            variance=own_variance.map(lambda x: x * sums.size),
            variance_ratio=sketch.variance_ratio(
                m.interval(ratio[:, e], "positive"),
                covariances_apart(own[:, e], own[:, at], sums.counts),
            ),
            squared_bias=squared_bias,
            bias=squared_bias.map(lambda x: float(np.sqrt(max(x, 0.0)))),
            mean_squared_error=total_of(at_least_0, floor),
            cosine=_cosine(
                m,
                own[:, [e, at]],
                norm2[:, [e, at]],
                along[:, e],
                variance[:, [e, at]],
                covariance[:, e],
                units,
                sketch,
            ),
        )

    found = {name: one(e) for e, name in enumerate(names)}
    return Comparison(sums.episodes, batch_episodes, reference, found)


def _cosine(
    m: Means,
    own: Float[np.ndarray, "K 2 d"],
    norm2: Float[np.ndarray, "R 2"],
    along: Float[np.ndarray, " R"],
    variance: Float[np.ndarray, "R 2"],
    covariance: Float[np.ndarray, " R"],
    batch: float,
    sketch: SketchError,
) -> Measured:
    """The cosine of E ĝ with G, multiplied by √(ρ/(ρ + 1/N)), ρ = ‖E ĝ‖²/trΣ.

    The first factor is what the bias costs, the second what the noise costs. Below 45° the angle is
    computed from sin², a squared norm of E ĝ − β G with β = ⟨E ĝ, G⟩/‖G‖², because a cosine cannot
    exceed 1. Above 45° the cosine itself is used, because sin² says little about a cosine near 0.
    It is the quotient of ⟨E ĝ, G⟩ and ‖E ĝ‖ ‖G‖, whose lengths have the intervals of norms. With
    one parameter there is no angle. If G or E ĝ may be zero, nothing is known.
    """
    n, d = m.n, own.shape[2]

    def alike(x: np.ndarray) -> float:
        return concentration(x @ x.T, n[0] - n[1:], d)

    with np.errstate(all="ignore"):
        beta = along / norm2[:, 1]
        sine = (norm2[:, 0] - along * beta) / norm2[:, 0]
        ratio = norm2[:, 0] / variance[:, 0]
    squared = [m.squared_norm(norm2[:, i], variance[0, i] / n[0], alike(own[:, i])) for i in (0, 1)]
    if not all(x.value > 0 and x.low > 0 for x in squared):
        return Measured(float("nan"), -1.0, 1.0)
    shrunk = Measured(1.0, 1.0, 1.0)
    if variance[0, 0] > 0:
        of_own = alike(own[:, 0])
        along_own = share_along(n[0] - n[1:], own[:, 0] @ own[:, 0].T, d)
        snr2 = m.squared_norm(ratio, 1 / n[0], of_own, divisor=variance[:, 0])
        shrunk = sketch.ratio(snr2, of_own, sketch.share_along(along_own, of_own).value).map(
            lambda x: float(np.sqrt(max(x, 0.0) / (max(x, 0.0) + 1 / batch)))
        )
    b = float(beta[0])
    if d == 1:
        return _signed(shrunk, b)
    if sine[0] > 0.5:
        lengths = product_of(*(x.map(math.sqrt) for x in squared))
        of_rows = np.prod(np.sqrt(np.maximum(norm2[1:], 0.0)), axis=1)
        together = _correlation(along[1:], of_rows)
        cosine = quotient_of(m.interval(along), lengths, together)
        turned = sketch.cosine(cosine.map(lambda x: float(np.clip(x, -1.0, 1.0))))
        ends = [x * y for x in (turned.low, turned.high) for y in (shrunk.low, shrunk.high)]
        return Measured(turned.value * shrunk.value, min(ends), max(ends))
    across = variance[0, 0] - 2 * b * covariance[0] + b**2 * variance[0, 1]
    noise = max(across, 0.0) / n[0] / norm2[0, 0]
    of_rest = alike(own[:, 0] - b * own[:, 1])
    turned = sketch.squared_sine(m.squared_norm(sine, noise, of_rest, divisor=norm2[:, 0]))
    straight = Measured(*(_cosine_of(float(x)) for x in (turned.value, turned.high, turned.low)))
    found = _product(straight, shrunk)
    if turned.high >= 1:
        found = replace(found, low=-shrunk.high)
    return _signed(found, b)


def _correlation(one: Float[np.ndarray, " K"], other: Float[np.ndarray, " K"]) -> float:
    """Of two quantities, from their values without each group; 0 if one of them never changes."""
    a, b = (x - x.mean() for x in (one, other))
    a, b = (x / unit_of(np.abs(x).max()) for x in (a, b))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(a @ b / scale, -1.0, 1.0)) if scale > 0 else 0.0


def _signed(x: Measured, by: float) -> Measured:
    """x, or −x if the other number is negative."""
    return x if by >= 0 else Measured(-x.value, -x.high, -x.low)


def _cosine_of(squared_sine: float) -> float:
    return float(np.sqrt(np.clip(1 - squared_sine, 0.0, 1.0)))


def _product(one: Measured, other: Measured) -> Measured:
    """The product of two numbers in [0, 1] with independent errors; Zou & Donner's lower end."""

    value = one.value * other.value
    if value <= 0 or min(one.low, other.low) <= 0:
        return Measured(value, 0.0, one.high * other.high)
    away = math.hypot(*(math.log(x.low / x.value) for x in (one, other)))
    return Measured(value, value * math.exp(-away), one.high * other.high)
