"""Estimators compared on the same episodes at the same parameters: variance, bias, and their sum.

The same episodes and the same groups serve every estimator, so that what is common cancels: the
bias is measured from the differences of the two estimates episode by episode.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from policygrad import scores
from policygrad.diagnostics.intervals import (
    GROUPS,
    GroupSums,
    Measured,
    concentration,
    to_json,
    total_of,
)
from policygrad.diagnostics.noise import as_rows
from policygrad.diagnostics.streaming import Chunk, Episodes, flatten, stream, weights_of
from policygrad.errors import UserError
from policygrad.estimators import Estimator, EstimatorState, reward_to_go

Candidates = Mapping[str, tuple[Estimator, EstimatorState]]


@dataclass(frozen=True)
class Compared:
    """One estimator among others; variance is that of ONE episode.

    Attributes:
        variance: trΣ.
        variance_ratio: trΣ by that of the reference; paired.
        squared_bias: ‖E ĝ − G‖², G the reference's mean; unbiased, so that it may come out below
            zero.
        bias: its root.
        mean_squared_error: of a batch of N: squared bias (at least 0) + trΣ/N.
        cosine: ⟨E ĝ, G⟩ / (‖G‖ √(‖E ĝ‖² + trΣ/N)), about the mean cosine of a batch of N with G:
            the error that is left where only the direction counts.
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
    def best(self) -> str:
        """The least mean squared error of a batch of N."""
        return min(self.estimators, key=lambda k: self.estimators[k].mean_squared_error.value)

    @property
    def best_direction(self) -> str:
        """The highest cosine of a batch of N with the true gradient."""
        return max(self.estimators, key=lambda k: self.estimators[k].cosine.value)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self) | {"best": self.best, "best_direction": self.best_direction}


def compare_estimators(
    policy: Any,
    candidates: Candidates,
    episodes: Episodes,
    *,
    batch_episodes: int,
    reference: str | None = None,
    groups: int = GROUPS,
) -> Comparison:
    """Variance, bias and mean squared error of estimators, from the same whole episodes.

    MSE(N) = ‖E ĝ − G‖² + trΣ/N.

    Args:
        policy: observation -> distribution, at the parameters that acted.
        candidates: name -> estimator and state, fitted on OTHER episodes than these: fitted on the
            same ones a baseline or critic knows each sample, which shows as bias.
        episodes: as in `gradient_noise`.
        batch_episodes: N.
        reference: the candidate that is taken as unbiased; None adds undiscounted rewards to go
            without baseline, "reference", time limits ending the task.
        groups: K; memory holds K gradients an estimator.

    Returns:
        `Comparison`.

    Raises:
        UserError: an unknown reference; `normalise_advantages`, which scales every estimator
            by a number of its own, so that none could be compared.

    Bias: none in variance and squared bias, where the reference has none.

    Source: mean squared error as variance plus squared bias; E5 for the reference.
    """
    candidates = dict(candidates)
    if reference is None:
        reference = "reference"
        plain = reward_to_go()
        candidates.setdefault(reference, (plain, plain.init(jax.random.key(0), None)))
    _check(candidates, reference)
    at = list(candidates).index(reference)

    def weigh(batch: Any) -> Any:
        return np.stack([weights_of(e, s, batch).psi for e, s in candidates.values()])

    sums = stream(policy, episodes, weigh, _ReducePairs(at), groups=groups)
    return _comparison(sums, tuple(candidates), reference, batch_episodes)


def compare_gradients(
    gradients: Mapping[str, Any], *, reference: str, batch_episodes: int, groups: int = GROUPS
) -> Comparison:
    """The same from per-episode gradients `[N, d]` that someone else computed, by estimator.

    >>> rng = np.random.default_rng(0)
    >>> exact, noise = rng.normal(1.0, 1.0, (400, 2)), rng.normal(0.0, 3.0, (400, 2))
    >>> rows = {"exact": exact, "noisy": exact + noise, "shrunk": 0.5 * exact}
    >>> compare_gradients(rows, reference="exact", batch_episodes=4).best
    'exact'
    """
    _check_reference(gradients, reference)
    named = {k: np.asarray(v).reshape(len(v), -1) for k, v in gradients.items()}
    flat, parts = as_rows(named)
    g = np.stack([flat[:, p.start : p.stop] for p in parts], axis=1)  # [N, E, d]
    base = g[:, list(named).index(reference)]
    k = min(groups, len(g))
    member = 1.0 * (np.arange(len(g)) % k == np.arange(k)[:, None])
    rows = {"gradient": g, "square": (g**2).sum(-1), "product": np.einsum("ned,nd->ne", g, base)}
    sums = {name: np.tensordot(member, x, 1) for name, x in rows.items()}
    grouped = GroupSums(member.sum(axis=1), sums).folded()
    return _comparison(grouped, tuple(named), reference, batch_episodes)


def _check(candidates: Mapping[str, tuple[Estimator, Any]], reference: str) -> None:
    _check_reference(candidates, reference)
    for name, (estimator, _) in candidates.items():
        if estimator.normalise_advantages:
            raise UserError(
                f"{name!r} normalises its advantages, which multiplies it by a number that differs "
                "between estimators; compare with normalise_advantages=False"
            )


def _check_reference(candidates: Mapping[str, Any], reference: str) -> None:
    if reference not in candidates:
        raise UserError(f"reference must be one of {', '.join(candidates)}, got {reference!r}")


@dataclass(frozen=True)
class _ReducePairs:
    """Sums over groups, by estimator: ĝ, ‖ĝ‖², and ĝ · ĝ of the reference."""

    reference: int

    def __call__(self, policy: Any, chunk: Chunk) -> dict[str, Array]:
        member = chunk.groups

        def gradients(psi: Array) -> Array:
            return flatten(scores.episode_gradients(policy, chunk.trajectories, psi))

        base = gradients(chunk.extra[self.reference])

        def one(psi: Array) -> tuple[Array, Array, Array]:
            g = gradients(psi)
            return member @ g, member @ jnp.sum(g**2, axis=1), member @ jnp.sum(g * base, axis=1)

        found = jax.lax.map(one, chunk.extra)
        names = "gradient", "square", "product"
        return {k: jnp.moveaxis(x, 0, 1) for k, x in zip(names, found, strict=True)}


def _comparison(
    sums: GroupSums, names: tuple[str, ...], reference: str, batch_episodes: int
) -> Comparison:
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
    second = np.maximum(norm2 + variance / batch_episodes, 0.0)
    own = sums.sums["gradient"]

    def one(e: int) -> Compared:
        apart = own[:, e] - own[:, at]
        alike = concentration(apart @ apart.T, sums.counts, apart.shape[1])
        squared_bias = m.squared_norm(bias2[:, e], spread[0, e] / n[0, 0], alike)
        own_variance = m.interval(variance[:, e], "positive")
        floor = own_variance.map(lambda x: x / batch_episodes)
        at_least_0 = replace(squared_bias, value=max(squared_bias.value, 0.0))
        # signed squares: a quotient without roots of what may be below zero
        squared = m.quotient(along[:, e] * np.abs(along[:, e]), norm2[:, at] * second[:, e])
        return Compared(
            variance=own_variance,
            variance_ratio=m.interval(ratio[:, e], "positive"),
            squared_bias=squared_bias,
            bias=squared_bias.map(lambda x: float(np.sqrt(max(x, 0.0)))),
            mean_squared_error=total_of(at_least_0, floor),
            cosine=squared.map(_cosine),
        )

    found = {name: one(e) for e, name in enumerate(names)}
    return Comparison(sums.episodes, batch_episodes, reference, found)


def _cosine(signed_square: float) -> float:
    return float(np.sign(signed_square) * np.sqrt(min(abs(signed_square), 1.0)))
