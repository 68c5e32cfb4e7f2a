"""What a batch could gain by spreading its episodes over the start states in another way.

A start state s has the probability p_s, and the gradient of an episode from there the variance
σ_s² (a trace). The mean of N episodes, each started at random, has the variance

    trΣ/N = (Σ_s p_s σ_s² + Σ_s p_s ‖G_s − G‖²)/N.

With n_s episodes from s the estimate Σ_s p_s ḡ_s is as unbiased. n_s ∝ p_s gives Σ_s p_s σ_s²/N,
and n_s ∝ p_s σ_s the least that there is (Neyman 1934): (Σ_s p_s σ_s)²/N.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.given import as_rows
from policygrad.diagnostics.intervals import (
    GROUPS,
    LEAST_EPISODES_A_GROUP,
    LEAST_GROUPS,
    Means,
    Measured,
)
from policygrad.diagnostics.streaming import Rows, flatten, sums_of_batch, weights_of
from policygrad.gradients import scores
from policygrad.gradients.weights import Estimator, EstimatorState

LEAST = 8  # episodes of a start state, whose standard deviation nothing else tells
BYTES = 2**31  # of all gradients
_NOT_TOLD = (
    "the start states of {} episodes cannot be told apart: fewer than two have "
    f"{LEAST} episodes or more"
)
SHOWN = 8  # numbers of an observation that is shown


@dataclass(frozen=True)
class Allocation:
    """The variance of ONE episode's gradient, by how episodes are spread over start states.

    Attributes:
        episodes: how many were measured.
        starts: how many start states are told apart. Those with fewer than eight episodes count as
            one.
        at_random: trΣ, each start drawn from the task.
        in_proportion: Σ p σ², as many episodes of each start as its probability says.
        least: (Σ p σ)², more episodes where the gradient is noisier.
        gain: at random / least: so many episodes at random are worth one that is allocated.
        shares: start state -> its share of a batch with the least variance.
        probabilities: start state -> its share of the episodes that were measured.
    """

    episodes: int
    starts: int
    at_random: Measured
    in_proportion: Measured
    least: Measured
    gain: Measured
    shares: Mapping[Any, float]
    probabilities: Mapping[Any, float]


def allocate_gradients(
    gradients: Any, starts: Sequence[Hashable], *, group_size: int = 1, groups: int = GROUPS
) -> Allocation:
    """What allocating episodes to start states, or prompts, or groups of any kind would gain.

    Args:
        gradients: as in `noise_of_gradients`: one row an episode.
        starts: `[N]`, the start state of each episode, or what else tells its group.
        group_size: how many episodes in a row started from one reset. They depend on each other,
            so that the jackknife leaves them out together.
        groups: K of the jackknife, at most.

    Returns:
        `Allocation`, each variance with its 95 % interval.

    Raises:
        UserError: as `noise_of_gradients`; start states that cannot be told apart: fewer than two
            that have eight episodes each; or fewer than two groups of `group_size`.

    Bias: that of the jackknife, O(1/n²), in `least`, where a standard deviation is estimated from n
    episodes of a start.

    Source: Neyman 1934; intervals by the jackknife (`intervals.standard_error`).

    >>> rng = np.random.default_rng(0)
    >>> starts = np.repeat(["calm", "wild"], 500)
    >>> rows = rng.normal(size=(1000, 2)) * np.where(starts == "calm", 1.0, 9.0)[:, None]
    >>> found = allocate_gradients(rows, starts)
    >>> round(found.shares["wild"], 1), found.gain.covers((1 + 81) / 2 / 5**2)
    (0.9, True)
    """
    flat, _ = as_rows(gradients if isinstance(gradients, Mapping) else {"parameters": gradients})
    labels, of = told_apart(starts, len(flat))
    if len(labels) < 2:
        raise UserError(_NOT_TOLD.format(len(flat)))
    units, rest = divmod(len(flat), group_size)
    if rest or units < 2:
        raise UserError(f"{len(flat)} episodes are not two or more whole groups of {group_size}")
    k = min(groups, max(units // LEAST_EPISODES_A_GROUP, min(LEAST_GROUPS, units // 2), 2))
    means, values = _variances(flat, of, len(labels), group_size, k)
    least = values["least"] + _bias(values["least"])
    weights = values["weights"]
    of_starts = np.bincount(of) / len(of)
    return Allocation(
        episodes=len(flat),
        starts=len(labels),
        at_random=means.interval(values["at random"], "positive"),
        in_proportion=means.interval(values["in proportion"], "positive"),
        least=means.interval(least, "positive"),
        gain=means.interval(values["at random"] / np.maximum(least, 1e-300), "positive"),
        shares=dict(zip(labels, (weights / weights.sum()).tolist(), strict=True)),
        probabilities=dict(zip(labels, of_starts.tolist(), strict=True)),
    )


def _variances(
    flat: Float[np.ndarray, "N d"], of: Int[np.ndarray, " N"], starts: int, size: int, k: int
) -> tuple[Means, dict[str, Any]]:
    """The three variances, of all episodes and of those outside each of k groups."""
    # at random: groups with equal shares of each start would hide that the shares are measured
    group = np.random.default_rng(0).permutation(len(of) // size) % k
    cell = np.repeat(group, size) * starts + of
    counts = np.bincount(cell, minlength=k * starts).reshape(k, starts).astype(float)
    total = np.zeros((k * starts, flat.shape[1]))
    np.add.at(total, cell, flat)
    square = np.bincount(cell, (flat**2).sum(axis=1), k * starts).reshape(k, starts)
    together = (flat.reshape(-1, size, flat.shape[1]).sum(axis=1) ** 2).sum(axis=1)

    def left(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x.sum(0, keepdims=True), x.sum(0) - x])

    n, g, q = left(counts), left(total.reshape(k, starts, -1)), left(square)  # [R, S, …]
    own = (q - (g**2).sum(-1) / np.maximum(n, 1)) / np.maximum(n - 1, 1)  # σ_s²
    everyone, own_pairs = n.sum(1), left(np.bincount(group, together, k))
    # ‖G‖² from pairs of episodes that did not start together
    apart = everyone * (everyone - size)
    norm2 = ((g.sum(1) ** 2).sum(-1) - own_pairs) / np.maximum(apart, 1)
    p, sigma = n / everyone[:, None], np.sqrt(np.maximum(own, 0.0))
    return Means(everyone, {}), {
        "at random": q.sum(1) / everyone - norm2,
        "in proportion": (p * own).sum(1),
        "least": (p * sigma).sum(1) ** 2,
        "weights": (p * sigma)[0],
    }


def _bias(values: Float[np.ndarray, " R"]) -> float:
    """What to add to a quantity for its bias: (K − 1)(θ − mean of θ_(k))."""
    return float((len(values) - 2) * (values[0] - values[1:].mean()))


def told_apart(
    starts: Sequence[Hashable], episodes: int
) -> tuple[list[Any], Int[np.ndarray, " N"]]:
    """The start states that are told apart, and the number of that of each episode.

    Those with few episodes count as one, "others"; if these are still few, as part of the rarest.
    """
    if len(starts) != episodes:
        raise UserError(f"starts must name one for each of {episodes} episodes, got {len(starts)}")
    found: dict[Any, list[int]] = {}
    for i, start in enumerate(starts):
        key = start.item() if isinstance(start, np.generic) else start
        found.setdefault(key, []).append(i)
    told = {k: v for k, v in found.items() if len(v) >= LEAST}
    others = [i for v in found.values() if len(v) < LEAST for i in v]
    if len(others) >= LEAST:
        told["others"] = others
    elif others and told:
        min(told.values(), key=len).extend(others)
    of = np.zeros(episodes, np.int64)
    for number, members in enumerate(told.values()):
        of[members] = number
    return list(told), of


def starts_of(episodes: Trajectories) -> list[str]:
    """What tells the start state of each episode: its first observation, as text; a checksum of it
    where that would be long."""
    leaves = [np.asarray(x)[0] for x in jax.tree.leaves(episodes.observations)]

    def text(i: int) -> str:
        if sum(x[i].size for x in leaves) <= SHOWN:
            return ", ".join(str(x[i].tolist()) for x in leaves)
        return hashlib.sha256(b"".join(x[i].tobytes() for x in leaves)).hexdigest()[:12]

    return [text(i) for i in range(episodes.rewards.shape[1])]


def allocate_episodes(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Trajectories,
    *,
    starts: Sequence[Hashable] | None = None,
) -> Allocation:
    """`allocate_gradients` for the episodes of a policy; memory holds one gradient an episode.

    Args:
        policy, estimator, state: as in `gradient_noise`.
        episodes: one batch of whole episodes.
        starts: as in `allocate_gradients`; None takes episodes with equal first observations.

    Raises:
        UserError: as `allocate_gradients`; or gradients that take more than 2 GiB.
    """
    starts = starts_of(episodes) if starts is None else starts
    if len(told_apart(starts, episodes.rewards.shape[1])[0]) < 2:
        raise UserError(_NOT_TOLD.format(len(starts)))
    n = episodes.rewards.shape[1]
    size = 8 * n * sum(np.size(x) for x in jax.tree.leaves(policy) if np.ndim(x))
    if size > BYTES:
        raise UserError(f"the gradients of {n} episodes take {size / 2**30:.1f} GiB; give fewer")

    # weighed as they started; then every episode has a row
    psi = weights_of(estimator, state, episodes).psi
    each = Rows(lambda _: psi, _one_gradient)
    sums = sums_of_batch(policy, replace(episodes, group_size=1), each, groups=n)
    return allocate_gradients(sums.sums["gradient"], starts, group_size=episodes.group_size)


def _one_gradient(policy: Any, episodes: Trajectories, weights: Array) -> dict[str, Array]:
    return {"gradient": jnp.asarray(flatten(scores.episode_gradients(policy, episodes, weights)))}
