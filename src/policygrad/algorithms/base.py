"""What every algorithm of the family shares: the frame of one update, around its own improvement.

1. weigh every step of the batch by the estimator, with what was fitted on earlier batches
2. improve the policy: what the members differ in
3. refit critic and baseline (E9), then take the batch into the running statistics
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.reward_scale import RewardScale
from policygrad.core.modules import combine, split
from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import flat_rows, sum_in_chunks
from policygrad.gradients.estimators import Estimator, EstimatorState, Weights, explained_variance
from policygrad.gradients.scores import gradient_and_distributions
from policygrad.policies.normaliser import update_statistics

Info = dict[str, Array]
STATIC = {"static": True}


class AlgorithmState(NamedTuple):
    """Everything that an update carries to the next.

    Attributes:
        policy: observation -> distribution, with its carried statistics.
        improver: what the algorithm's own improvement carries: optimiser state, step size.
        estimator: what baseline and critic have fitted.
        reward_scale: running scale of the returns.
        updates: `[]`, how many were made.
        env_steps: `[]`, transitions seen in them.
    """

    policy: Any
    improver: Any
    estimator: EstimatorState
    reward_scale: RewardScale
    updates: Array
    env_steps: Array


class Batch(NamedTuple):
    """What an improvement is made from.

    Attributes:
        trajectories: the batch.
        psi: `[T, B]`, the weight of every score.
        gradient: what they make of the policy that acted, in its structure; points uphill.
        remaining: `[]`, in [0, 1]: the share of the run ahead where steps decay, else 1.
    """

    trajectories: Trajectories
    psi: Float[Array, "T B"]
    gradient: PyTree
    remaining: Float[Array, ""]


class Refit(NamedTuple):
    """What critic and baseline are refitted to, once a batch was used.

    Attributes:
        key: consumed.
        policy: that acted.
        trajectories: the batch, its rewards scaled.
        returns: `[T, B]`, of `Estimator.weights`.
    """

    key: PRNGKeyArray
    policy: Any
    trajectories: Trajectories
    returns: Float[Array, "T B"]


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """A policy gradient algorithm: `init`, and a pure `update`.

    An update is `step`, which gives the policy that acts next, and `refit`, which is not needed
    before the next batch is weighed: whoever collects that batch may do both at once.

    Attributes:
        estimator: what multiplies each score.
        entropy_coefficient: weight of the mean entropy in what is ascended.
        scale_rewards: divide rewards by the running root mean square of the discounted return.
        decay: environment steps over which steps shrink linearly to zero; 0 for none.
    """

    estimator: Estimator
    entropy_coefficient: float = field(default=0.0, metadata=STATIC)
    scale_rewards: bool = field(default=True, metadata=STATIC)
    decay: int = field(default=0, metadata=STATIC)

    @abstractmethod
    def start(self, differentiated: PyTree) -> Any:
        """What the improvement carries, before the first one."""

    @abstractmethod
    def improve(
        self, key: PRNGKeyArray, policy: Any, improver: Any, batch: Batch
    ) -> tuple[Any, Any, Info]:
        """A better policy, what is carried on, and `gradient_norm` and `step_size` to log."""

    def adapt(self, improver: Any, kl: Float[Array, ""], remaining: Float[Array, ""]) -> Any:
        """What is carried on, once KL(old ‖ new) of the improvement is known, and how far the step
        had decayed."""
        del kl, remaining
        return improver

    def init(
        self, key: PRNGKeyArray, policy: Any, observation: PyTree, num_envs: int
    ) -> AlgorithmState:
        """The state before the first update.

        Args:
            key: consumed.
            policy: observation -> distribution.
            observation: one raw observation, for its shapes.
            num_envs: columns of the batches.
        """
        differentiated, _ = split(policy)
        return AlgorithmState(
            policy,
            self.start(differentiated),
            self.estimator.init(key, observation),
            RewardScale.init(num_envs),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: AlgorithmState, trajectories: Trajectories, key: PRNGKeyArray
    ) -> tuple[AlgorithmState, Info]:
        """One update from one batch. Pure; the key is consumed.

        Returns:
            The new state, and what is logged: `kl`, `entropy` (nats, of the policy that acted),
            `gradient_norm` (before clipping), `step_size`, `reward_scale`,
            `explained_variance_before` and `explained_variance_after` the fit.
        """
        state, refit, info = self.step(state, trajectories, key)
        fitted, fit_info = self.refit(state.estimator, refit)
        return state._replace(estimator=fitted), info | fit_info

    def step(
        self, state: AlgorithmState, trajectories: Trajectories, key: PRNGKeyArray
    ) -> tuple[AlgorithmState, Refit, Info]:
        """An update but for its refit. Pure; the key is consumed."""
        improve_key, fit_key = jax.random.split(key)
        scale, scaled, weights = self.weigh(state, trajectories)
        refit = Refit(fit_key, state.policy, scaled, weights.returns)

        remaining = jnp.float32(1.0)
        if self.decay:
            remaining = jnp.maximum(0.0, 1 - state.env_steps / self.decay)
        gradient, before = self.gradient(state.policy, trajectories, weights.psi)
        batch = Batch(trajectories, weights.psi, gradient, remaining)
        policy, improver, info = self.improve(improve_key, state.policy, state.improver, batch)
        kl, entropy = compare(before, policy, trajectories)
        valid = trajectories.valid
        info = {
            "kl": kl,
            "entropy": entropy,
            **info,
            "explained_variance_before": explained_variance(
                weights.returns, weights.baseline, self.estimator.step_weights(trajectories)
            ),
            "reward_scale": scale.factor,
        }
        state = AlgorithmState(
            update_statistics(policy, trajectories.observations, valid),
            self.adapt(improver, kl, remaining),
            state.estimator,
            scale,
            state.updates + 1,
            state.env_steps + jnp.sum(valid),
        )
        return state, refit, info

    def refit(self, estimator: EstimatorState, refit: Refit) -> tuple[EstimatorState, Info]:
        """Critic and baseline fitted to a batch that was used (E9), and how well. Pure."""
        key, policy, trajectories, returns = refit
        fitted, explained = self.estimator.fit(estimator, key, policy, trajectories, returns)
        return fitted, {"explained_variance_after": explained}

    def weigh(
        self, state: AlgorithmState, trajectories: Trajectories
    ) -> tuple[RewardScale, Trajectories, Weights]:
        """The scale of rewards after a batch, the batch scaled by it, and its weights. Pure."""
        scale = state.reward_scale
        if self.scale_rewards:
            scale = scale.update(trajectories, self.estimator.discount)
            rewards = trajectories.rewards * scale.factor
            trajectories = replace(trajectories, rewards=rewards)
        return scale, trajectories, self.estimator.weights(state.estimator, trajectories)

    def gradient(
        self, policy: Any, trajectories: Trajectories, psi: Float[Array, "T B"]
    ) -> tuple[PyTree, PyTree]:
        """The policy gradient, with that of the entropy where it is wanted; and the distributions
        of all rows, `[T·B, ...]`."""
        gradient, distributions = gradient_and_distributions(policy, trajectories, psi)
        if self.entropy_coefficient:
            bonus = entropy_gradient(policy, trajectories)
            gradient = jax.tree.map(lambda g, b: g + self.entropy_coefficient * b, gradient, bonus)
        return gradient, distributions


class StepSize(NamedTuple):
    """An optimiser and the step size that its direction is taken with.

    Attributes:
        optimiser: state of the optax transformation.
        step_size: `[]`, of the next update.
    """

    optimiser: optax.OptState
    step_size: Float[Array, ""]


def moved(policy: Any, step: PyTree) -> Any:
    """The policy after a step of its differentiated leaves."""
    differentiated, rest = split(policy)
    return combine(jax.tree.map(jnp.add, differentiated, step), rest)


def shortened(gradient: PyTree, norm: Float[Array, ""], max_global_norm: float) -> PyTree:
    """The gradient, cut to a length; 0 for no limit."""
    if not max_global_norm:
        return gradient
    factor = jnp.minimum(1.0, max_global_norm / jnp.maximum(norm, 1e-12))
    return jax.tree.map(lambda g: g * factor, gradient)


def adapted(
    step_size: Float[Array, ""], kl: Float[Array, ""], target: float, remaining: Float[Array, ""]
) -> Float[Array, ""]:
    """The step size of the next update: ×1.5 below half the target KL, /1.5 above twice it.

    The KL goes with the square of the step, so that a step that decays has a target that decays
    with the square of what remains: else the one would undo the other.
    """
    if not target:
        return step_size
    target_now = target * remaining**2
    factor = jnp.where(kl > 2 * target_now, 1 / 1.5, jnp.where(kl < target_now / 2, 1.5, 1.0))
    return jnp.clip(step_size * factor, 1e-7, 1.0)


def mean_over_valid(x: Float[Array, "T B"], trajectories: Trajectories) -> Float[Array, ""]:
    """The mean over the rows that are transitions."""
    valid = trajectories.valid
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def mean_over_states(f: Callable[[PyTree], Any], trajectories: Trajectories) -> Any:
    """The mean of f(observation), a pytree of numbers, over the rows that are transitions."""

    def total(rows: PyTree) -> Any:
        observations, valid = rows
        values = jax.vmap(f)(observations)
        return jax.tree.map(lambda x: jnp.sum(x, where=valid), values)

    return _per_step(total, trajectories)


def mean_derivative(
    derive: Callable[[Callable[[PyTree], Float[Array, ""]]], PyTree],
    f: Callable[[PyTree, PyTree], Float[Array, ""]],
    trajectories: Trajectories,
) -> PyTree:
    """A derivative of θ ↦ the mean of f(θ, observation) over the rows that are transitions.

    Args:
        derive: a function of θ -> its derivative somewhere; linear in the function, as a gradient
            and a product with the Hessian are.
        f: (θ, observation) -> a number.
        trajectories: the batch.
    """

    def total(rows: PyTree) -> PyTree:
        observations, valid = rows
        return derive(lambda p: jnp.sum(jax.vmap(partial(f, p))(observations), where=valid))

    return _per_step(total, trajectories)


def _per_step(total: Callable[[Any], Any], trajectories: Trajectories, *more: PyTree) -> Any:
    """A sum over rows of (observation, valid, more), divided by the number of valid ones."""
    rows = *flat_rows((trajectories.observations, trajectories.valid)), *more
    steps = jnp.maximum(jnp.sum(trajectories.valid), 1)
    return jax.tree.map(lambda x: x / steps, sum_in_chunks(total, rows))


def mean_kl(old: Any, new: Any, trajectories: Trajectories) -> Float[Array, ""]:
    """Mean KL(old ‖ new) over the batch's states, nats."""
    return mean_over_states(lambda s: old(s).kl(new(s)), trajectories)


def compare(
    before: PyTree, new: Any, trajectories: Trajectories
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean KL(old ‖ new) and mean entropy of the old policy over the batch's states, nats.

    Args:
        before: the old policy's distributions, pytree of `[T·B, ...]`.
        new: observation -> distribution.
        trajectories: the batch.
    """

    def total(rows: Any) -> tuple[Array, Array]:
        observations, valid, before = rows
        kls = jax.vmap(lambda p, s: p.kl(new(s)))(before, observations)
        entropies = jax.vmap(lambda p: p.entropy())(before)
        return jnp.sum(kls, where=valid), jnp.sum(entropies, where=valid)

    return _per_step(total, trajectories, before)


def entropy_gradient(policy: Any, trajectories: Trajectories) -> PyTree:
    """The gradient of the mean entropy over the batch's states, in the policy's structure."""
    differentiated, rest = split(policy)

    def entropy(differentiated: PyTree, observation: PyTree) -> Float[Array, ""]:
        return combine(differentiated, rest)(observation).entropy()

    return mean_derivative(lambda f: jax.grad(f)(differentiated), entropy, trajectories)
