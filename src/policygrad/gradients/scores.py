"""Scores and the gradients built from them: the log-derivative trick, per trajectory and per batch.

A policy is any pytree that maps one observation to a `Distribution`; its floating-point arrays
outside `Carried` are differentiated. Gradients have the policy's structure, with None in place of
everything else, and point uphill.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from policygrad.core.modules import combine, split
from policygrad.core.padding import a_step, with_steps_alone
from policygrad.core.trajectories import (
    Trajectories,
    episodes_in,
    gradient_denominator,
    mean_of_units,
    require_whole_episodes,
)
from policygrad.devices.chunks import sum_and_map_in_chunks, sum_in_chunks
from policygrad.policies import meeting

__all__ = [
    "column_moments", "episode_gradients", "gradient_and_distributions", "log_probs_of",
    "policy_gradient", "reward_indexed_gradient", "score_function_gradient", "score_products",
    "score_squares", "trajectory_score", "unit_gradients",
]  # fmt: skip

Policy = Callable[..., Any]
ROWS_OF_A_COLUMN = 64  # at once, where a column is mostly padding
# (distribution, one step of each of the rows) -> a number; and the rows, pytrees of [T, B, ...]
Bonus = tuple[Callable[..., Float[Array, ""]], tuple[PyTree, ...]]


def score_function_gradient(
    log_prob: Callable[[PyTree, PyTree], Float[Array, ""]],
    params: PyTree,
    samples: PyTree,
    values: Float[Array, " N"],
) -> PyTree:
    """The log-derivative trick, for any distribution and any function.

    ∇_θ E[f(x)] = E[f(x) ∇_θ log p_θ(x)], estimated as the mean over N samples.  [E1]

    Args:
        log_prob: `(params, x) -> []`, log p_θ(x) in nats, differentiable in `params`.
        params: pytree of floating-point arrays, θ.
        samples: pytree with leading axis N; drawn from p_θ at these parameters.
        values: `[N]`, f(x) of each sample; held constant.

    Returns:
        pytree like `params`: the mean over samples. Differentiable in `params` through the scores.

    Bias: none, when p_θ's support does not depend on θ and ∇_θ p_θ f is dominated near θ (so not
    for Uniform(0, θ)).

    Source: the post, the log-derivative trick; E1.

    >>> log_prob = lambda mean, x: -0.5 * (x - mean) ** 2
    >>> x = jnp.array([0.0, 2.0])
    >>> float(score_function_gradient(log_prob, jnp.array(1.0), x, values=x))
    1.0
    """
    values = jax.lax.stop_gradient(jnp.asarray(values))

    def surrogate(params: PyTree) -> Float[Array, ""]:
        return jnp.mean(values * jax.vmap(log_prob, (None, 0))(params, samples))

    return jax.grad(surrogate)(params)


def log_probs_of(policy: Policy, trajectories: Trajectories) -> Float[Array, "T B"]:
    """`[T, B]`: log π(a_t|s_t) of the recorded actions, zero on rows that are not transitions."""
    found, valid = meeting.distributions(policy, trajectories), jnp.asarray(trajectories.valid)
    step = a_step(valid, trajectories.actions)
    actions = with_steps_alone(valid, trajectories.actions, step)
    log_probs = jax.vmap(jax.vmap(lambda p, a: p.log_prob(a)))(found, actions)
    return jax.lax.select(valid, log_probs, jnp.zeros_like(log_probs))


def policy_gradient(
    policy: Policy, trajectories: Trajectories, weights: Float[Array, "T B"]
) -> PyTree:
    """The policy gradient of a batch, with any weight on each score.

    ĝ = (1/N) Σ_n Σ_t Ψ_t z_t, z_t = ∇_θ log π_θ(a_t|s_t).  [E3, E5, E6: the weights decide]

    Args:
        policy: observation -> distribution, at the parameters that acted.
        trajectories: T steps of B environments, or B whole episodes.
        weights: `[T, B]`, Ψ; held constant.

    Returns:
        pytree like the policy: the ascent direction. N is the number of episodes if the record
        holds whole ones, else the number of valid steps (≈ ∇J / E[length]).

    Bias: that of the weights; see the estimator that made them.

    Source: the post, the three forms and the baseline; E3, E5, E6.
    """
    return gradient_and_distributions(policy, trajectories, weights)[0]


def gradient_and_distributions(
    policy: Policy,
    trajectories: Trajectories,
    weights: Float[Array, "T B"],
    bonus: Bonus | None = None,
) -> tuple[PyTree, PyTree]:
    """`policy_gradient`, and the policy's distributions, which it computes on the way.

    Args:
        policy, trajectories, weights: as there.
        bonus: what else is ascended: a function (distribution, one step of each of its rows) -> a
            number, and those rows, pytrees of `[T, B, ...]`. It is summed over the valid steps, and
            divided by the same number as the scores.

    Returns:
        The gradient, and a pytree like one distribution, of the units of `meeting.units`:
        `[T·B, ...]` for a policy without memory.

    Bias: that of the weights.
    """
    total, distributions = _weighted_scores(policy, trajectories, weights, bonus)
    gradient = jax.tree.map(lambda g: g / gradient_denominator(trajectories), total)
    return gradient, distributions


def _weighted_scores(
    policy: Policy,
    trajectories: Trajectories,
    weights: Float[Array, "T B"],
    bonus: Bonus | None = None,
    size: int | None = None,
) -> tuple[PyTree, PyTree]:
    """Σ Ψ z over a record, and the distributions of its units, `size` of which are a chunk."""
    differentiated, rest = split(policy)
    valid = jnp.asarray(trajectories.valid)
    weights = jax.lax.stop_gradient(jnp.where(valid, weights, 0.0))
    more, more_rows = bonus or (None, ())
    rows = meeting.units(policy, trajectories, trajectories.actions, weights, *more_rows)
    filled = meeting.without_padding(rows)
    log_prob = meeting.over_steps(policy, lambda p, a: p.log_prob(a))

    def gradient(rows: PyTree) -> tuple[PyTree, PyTree]:
        seen, actions, weights, *of_bonus = filled(rows)

        def surrogate(differentiated: PyTree) -> tuple[Float[Array, ""], PyTree]:
            distributions = meeting.distributions_of(combine(differentiated, rest), seen)
            log_probs = log_prob(distributions, actions)
            log_probs = jax.lax.select(seen.valid, log_probs, jnp.zeros_like(log_probs))
            total = jnp.sum(weights * log_probs)
            if more is not None:
                found: Array = meeting.over_steps(policy, more)(distributions, *of_bonus)
                total = total + jnp.sum(jnp.where(seen.valid, found, 0.0))
            return total, distributions

        return jax.grad(surrogate, has_aux=True)(differentiated)

    size = size or meeting.unit_size(policy, trajectories)
    order = meeting.unit_order(policy, trajectories)
    total, distributions = sum_and_map_in_chunks(gradient, rows, size, order)
    some = jnp.any(valid)  # an empty column has no step to copy
    return jax.tree.map(lambda g: jnp.where(some, g, 0.0), total), distributions


def column_moments(
    policy: Policy, trajectories: Trajectories, weights: Float[Array, "T B"]
) -> tuple[PyTree, Float[Array, ""]]:
    """The batch's gradient, and the mean squared length of the gradient of one column.

    ĝ_n = (B/M) Σ_t Ψ_t z_t of column n, where `policy_gradient` divides by M: ĝ = (1/B) Σ_n ĝ_n,
    and (1/B) Σ_n ‖ĝ_n‖².  [E3, E5, E6]

    Episodes that start in groups are taken group by group, since those of one group depend on each
    other: B is then the number of groups, and ĝ_n the gradient of group n.

    Columns are taken a few at a time, so that memory does not grow with their number.

    Args:
        policy, trajectories, weights: as `policy_gradient` takes them.

    Returns:
        pytree like the policy, and `[]`.

    Bias: that of the weights.

    Source: the post, E3–E6, for one trajectory.
    """
    size = trajectories.group_size
    count = episodes_in(trajectories) // size
    scale = count / gradient_denominator(trajectories)
    at_once = max(1, meeting.lanes_of_a_chunk(trajectories) // size)
    # columns side by side are computed to their last row, and one alone to its last step
    alone = trajectories.mostly_padding and at_once == 1
    both = replace(trajectories, mostly_padding=alone), weights

    def unit_first(x: Array) -> Array:
        x = jnp.moveaxis(jnp.asarray(x), 1, 0)
        return x.reshape(len(x) // size, size, *x.shape[1:])

    columns = jax.tree.map(unit_first, both)

    def one(column: PyTree) -> PyTree:
        record, weights = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), column)
        rows = ROWS_OF_A_COLUMN if alone else None
        total = _weighted_scores(policy, record, weights, size=rows)[0]
        return jax.tree.map(lambda g: g * scale, total)

    def sums(columns: PyTree) -> PyTree:
        if alone:
            gradient = one(jax.tree.map(lambda x: x[0], columns))
            return gradient, sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))
        gradients = jax.vmap(one)(columns)
        squares = sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients))
        return jax.tree.map(lambda g: jnp.sum(g, axis=0), gradients), squares

    total = sum_in_chunks(sums, columns, at_once)
    return jax.tree.map(lambda x: x / count, total)


def episode_gradients(
    policy: Policy, trajectories: Trajectories, weights: Float[Array, "T N"]
) -> PyTree:
    """The policy gradient of every episode separately.

    ĝ_n = Σ_t Ψ_t z_t of episode n; their mean is `policy_gradient`.  [E3, E5, E6]

    Args:
        policy: observation -> distribution, at the parameters that acted.
        trajectories: N whole episodes.
        weights: `[T, N]`, Ψ; held constant.

    Returns:
        pytree like the policy with a leading axis N.

    Raises:
        ValueError: the record holds segments, whose columns are not independent episodes.

    Bias: that of the weights.

    Source: the post, E3–E6, for one trajectory.
    """
    require_whole_episodes(trajectories, "episode_gradients")
    trajectories = replace(trajectories, mostly_padding=False)  # columns are taken side by side

    def one(trajectories: Trajectories, weights: Float[Array, " T"]) -> PyTree:
        column = jax.tree.map(lambda x: x[:, None], trajectories)
        return policy_gradient(policy, column, weights[:, None])

    if trajectories.rewards.shape[1] == 1:  # without vmap, whose axis would cost transposes
        return jax.tree.map(lambda g: g[None], policy_gradient(policy, trajectories, weights))
    return jax.vmap(one, in_axes=1)(trajectories, weights)


def unit_gradients(
    policy: Policy, trajectories: Trajectories, weights: Float[Array, "T N"]
) -> PyTree:
    """The policy gradient of the episodes that start together, which are independent of all others.

    ĝ_g = (1/k) Σ_i Σ_t Ψ_t z_t of the k episodes of group g; without groups, `episode_gradients`.

    Args:
        policy, trajectories, weights: as `episode_gradients` takes them.

    Returns:
        pytree like the policy with a leading axis N/k.

    Bias: that of the weights.
    """
    each = episode_gradients(policy, trajectories, weights)
    return mean_of_units(each, trajectories.group_size)


def score_squares(policy: Policy, trajectories: Trajectories) -> PyTree:
    """The squared length of every score, leaf by leaf.

    ‖z_t‖², z_t = ∇_θ log π_θ(a_t|s_t): the variance that a unit of squared error in a baseline
    adds.  [E8]

    Args:
        policy: observation -> distribution.
        trajectories: T steps of B environments, or B whole episodes.

    Returns:
        pytree like the policy of `[T, B]`: each leaf's share; zero on rows that are not
        transitions. One gradient a step, a few hundred at a time and reduced at once.

    Bias: none.

    Source: the post, E8.
    """
    differentiated, rest = split(policy)
    log_prob = meeting.over_steps(policy, lambda p, a: p.log_prob(a))

    def one(unit: PyTree) -> PyTree:
        seen, actions = jax.tree.map(lambda x: x[None], unit)

        def log_probs(differentiated: PyTree) -> Array:
            found = meeting.distributions_of(combine(differentiated, rest), seen)
            return log_prob(found, actions)[0]

        def squared(z: Array) -> Array:
            steps = seen.valid[0]
            return jnp.where(steps, jnp.sum(z**2, axis=tuple(range(steps.ndim, z.ndim))), 0.0)

        return jax.tree.map(squared, jax.jacrev(log_probs)(differentiated))

    return meeting.map_units(policy, one, trajectories, trajectories.actions)


def score_products(policy: Policy, trajectories: Trajectories, vectors: PyTree) -> Array:
    """The product of every score with one vector for each episode.

    z_t · v_n, as the derivative of log π(a_t|s_t) along v_n: one forward pass, no gradient.

    Args:
        policy: observation -> distribution.
        trajectories: N whole episodes.
        vectors: pytree like the gradient with a leading axis N.

    Returns:
        `[T, N]`; zero on rows that are not transitions.

    Bias: none.
    """
    require_whole_episodes(trajectories, "score_products")
    trajectories = replace(trajectories, mostly_padding=False)
    differentiated, rest = split(policy)

    def one(trajectories: Trajectories, vector: PyTree) -> Float[Array, " T"]:
        column = jax.tree.map(lambda x: x[:, None], trajectories)

        def log_probs(differentiated: PyTree) -> Float[Array, " T"]:
            return log_probs_of(combine(differentiated, rest), column)[:, 0]

        return jax.jvp(log_probs, (differentiated,), (vector,))[1]

    return jax.vmap(one, in_axes=(1, 0), out_axes=1)(trajectories, vectors)


def trajectory_score(policy: Policy, trajectories: Trajectories) -> PyTree:
    """The gradient of every trajectory's log-probability.

    ∇_θ log p_θ(τ) = Σ_t ∇_θ log π_θ(a_t|s_t): neither the initial distribution nor the dynamics
    depend on θ, so they drop out.  [E2]

    Args:
        policy: observation -> distribution.
        trajectories: N whole episodes.

    Returns:
        pytree like the policy with a leading axis N: one score an episode. Its mean over episodes
        drawn from the policy tends to zero.

    Raises:
        ValueError: the record holds segments, of which none is a whole trajectory.

    Bias: none.

    Source: the post, the gradient of a trajectory's log-probability; E2.
    """
    return episode_gradients(policy, trajectories, jnp.ones_like(trajectories.rewards))


def reward_indexed_gradient(
    policy: Policy, trajectories: Trajectories, rewards: Float[Array, "T N"]
) -> PyTree:
    """The second form: each reward times the scores of the actions before it.

    ĝ = (1/N) Σ_n Σ_{t'} r_{t'} Σ_{t≤t'} z_t.  [E4]

    It is computed as written, by cumulative scores, so that tests can compare it with the
    reward-to-go form. Training uses the equal weights of `estimators.reward_indexed`.

    Args:
        policy: observation -> distribution, at the parameters that acted.
        trajectories: N whole episodes.
        rewards: `[T, N]`; discounted by γ^{t'} each for the gradient of the discounted objective.

    Returns:
        pytree like the policy: the ascent direction.

    Raises:
        ValueError: the record holds segments.

    Bias: none.

    Source: the post, form (ii); the literature's G(PO)MDP (Baxter & Bartlett 2001); E4.
    """
    require_whole_episodes(trajectories, "reward_indexed_gradient")
    episodes = gradient_denominator(trajectories)
    trajectories = replace(trajectories, mostly_padding=False)  # all rows, which can be derived
    differentiated, rest = split(policy)
    rewards = jnp.where(trajectories.valid, rewards, 0.0)

    def surrogate(differentiated: PyTree) -> Float[Array, ""]:
        log_probs = log_probs_of(combine(differentiated, rest), trajectories)
        up_to_reward = jnp.cumsum(log_probs, axis=0)
        return jnp.sum(rewards * up_to_reward) / episodes

    return jax.grad(surrogate)(differentiated)
