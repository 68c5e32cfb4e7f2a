"""Where the variance comes from: Var = D + C − B, and the post's two approximations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core.plain import to_json
from policygrad.core.trajectories import Trajectories, mean_of_units
from policygrad.diagnostics.intervals import (
    GROUPS,
    GroupSums,
    Means,
    Measured,
    concentration,
    squares_of_sums,
)
from policygrad.diagnostics.moments import variance_and_norm
from policygrad.diagnostics.noise import products_of
from policygrad.diagnostics.streaming import (
    Episodes,
    Part,
    Rows,
    by_part,
    flatten,
    parts_of,
    stream,
    weights_of,
)
from policygrad.gradients import scores
from policygrad.gradients.weights import Estimator, EstimatorState


@dataclass(frozen=True)
class Decomposition:
    """The parts of the variance of ONE episode's gradient; g_t = Ψ_t z_t.

    The estimates obey Var = D + C − B exactly.

    Attributes:
        variance: trΣ.
        diagonal: D = Σ_t E‖g_t‖², the post's approximation (i).
        cross: C = 2 Σ_{t<k} E[g_t·g_k]; may be negative.
        squared_mean: B = ‖E ĝ‖². The estimate is unbiased, so it may be below zero.
        factored: F = Σ_t E‖z_t‖² E Ψ_t², the post's approximation (ii).
        diagonal_ratio, cross_ratio, factored_ratio: D/Var, C/Var and F/Var.
    """

    variance: Measured
    diagonal: Measured
    cross: Measured
    squared_mean: Measured
    factored: Measured
    diagonal_ratio: Measured
    cross_ratio: Measured
    factored_ratio: Measured


@dataclass(frozen=True)
class DecomposedVariance:
    """The decomposition of N episodes' gradients.

    Attributes:
        episodes: N.
        total: over all parameters.
        parts: by parameter group. All of Var, D, C, B and F are sums over the groups.
        by_step: E‖g_t‖² of every time step, `[T]`; D is their sum.
        alive: `[T]`, share of the episodes that reach the step.
    """

    episodes: int
    total: Decomposition
    parts: Mapping[str, Decomposition]
    by_step: Measured
    alive: Float[np.ndarray, " T"]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)


def decompose_variance(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    groups: int = GROUPS,
) -> DecomposedVariance:
    """Var ĝ = D + C − B of an estimator, from whole episodes.

    D = Σ_t E‖g_t‖², C = 2 Σ_{t<k} E[g_t·g_k], B = ‖E ĝ‖², F = Σ_t E‖z_t‖² E Ψ_t².  [E8]

    Args:
        policy, estimator, state, episodes, groups: as in `gradient_noise`. The length of every
            step's score is computed, so it takes a few times as long.

    Returns:
        `DecomposedVariance`; intervals over episodes, or over groups that start together.

    Raises:
        UserError: segments, or fewer than two episodes.

    Bias: none in Var, D, C, B and F (steps after the end of an episode count 0); O(1/N) in ratios.

    Source: the post, E8.
    """

    sums = stream(policy, episodes, decomposition_rows(estimator, state), groups=groups)
    return decomposition_of_sums(sums, parts_of(policy))


def decomposition_rows(estimator: Estimator, state: EstimatorState) -> Rows:
    """What `decomposition_of_sums` needs to be summed."""

    def weigh(batch: Any) -> Any:
        return weights_of(estimator, state, batch).psi

    return Rows(weigh, reduce_steps, by_unit=True)


def reduce_steps(policy: Any, episodes: Trajectories, psi: Array) -> dict[str, Array]:
    """ĝ and ‖ĝ‖² of every episode; ‖g_t‖², ‖z_t‖² and Ψ_t² of every time step.

    Of episodes that start in groups the means over each group; and of these means ‖ĝ‖², and
    ‖z_t‖² Ψ_t².
    """
    tree, size = scores.episode_gradients(policy, episodes, psi), episodes.group_size
    leaves = scores.score_squares(policy, episodes)
    z = jnp.stack(jax.tree.leaves(leaves), axis=-1)  # [T, m, P]
    by_time = {"diagonal": psi[..., None] ** 2 * z, "score": z, "weight": psi**2}
    by_time["alive"] = 1.0 * episodes.valid
    rows = {
        "gradient": flatten(tree),
        "square": by_part(tree),
        **{k: jnp.moveaxis(x, 1, 0) for k, x in by_time.items()},
    }
    if size == 1:
        return rows
    rows = mean_of_units(rows, size)
    rows["square of mean"] = by_part(mean_of_units(tree, size))
    rows["product of means"] = rows["score"] * rows["weight"][..., None]
    return rows


def decomposition_of_sums(sums: GroupSums, parts: tuple[Part, ...]) -> DecomposedVariance:
    """The result, from group sums of the rows of `reduce_steps`."""
    sums = sums.folded()
    # the gradients are left out: their products suffice
    means = GroupSums(sums.counts, {k: v for k, v in sums.sums.items() if k != "gradient"}).means()
    products = products_of(sums.sums["gradient"], parts)
    second = means["square"]
    steps = means["diagonal"]
    # of what is independent: of single episodes, or of the means of groups
    own = means.of.get("square of mean", second)
    n = means.n[:, None]
    # unbiased: the products of two factors of one episode, which sum to D, or of one group are
    # subtracted
    product = np.einsum("rtp,rt->rp", means["score"], means["weight"])
    together = means.of.get("product of means", steps).sum(axis=1)
    factored = (n * product - together) / np.maximum(n - 1, 1)

    def of(which: slice, d: int) -> Decomposition:
        of_groups = products[which].sum(axis=0)
        squared = squares_of_sums(of_groups) / means.n**2
        alike = concentration(of_groups, sums.counts, d)
        rows = second, own, steps.sum(axis=1), factored
        return _one(means, alike, squared, *(x[:, which].sum(axis=1) for x in rows))

    return DecomposedVariance(
        episodes=sums.episodes,
        total=of(slice(None), parts[-1].stop),
        parts={p.name: of(slice(i, i + 1), p.stop - p.start) for i, p in enumerate(parts)},
        by_step=means.interval(steps.sum(axis=2), "positive"),
        alive=means["alive"][0],
    )


def _one(
    means: Means,
    alike: float,
    squared: np.ndarray,
    second: np.ndarray,
    own: np.ndarray,
    diagonal: np.ndarray,
    factored: np.ndarray,
) -> Decomposition:
    of_own, norm2 = variance_and_norm(squared, own, means.n)
    variance = of_own + (second - own)  # that of means, and that of episodes around them
    cross = second - diagonal
    with np.errstate(all="ignore"):
        shares = [x / variance for x in (diagonal, cross, factored)]
    return Decomposition(
        variance=means.interval(variance, "positive"),
        diagonal=means.interval(diagonal, "positive"),
        cross=means.interval(cross),
        squared_mean=means.squared_norm(norm2, of_own[0] / means.n[0], alike),
        factored=means.interval(factored, "positive"),
        diagonal_ratio=means.interval(shares[0], "positive"),
        cross_ratio=means.interval(shares[1]),
        factored_ratio=means.interval(shares[2], "positive"),
    )
