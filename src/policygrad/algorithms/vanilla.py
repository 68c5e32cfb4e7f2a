"""The vanilla policy gradient: one gradient step a batch, critic and baseline refitted after it.

1. weigh every step of the batch by the estimator, with what was fitted on earlier batches
2. ĝ = Σ Ψ_t z_t, one optimiser step uphill
3. adapt the step size to hold KL(old ‖ new) near its target
4. refit critic and baseline (E9), then take the batch into the running statistics
"""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.estimators import Estimator, EstimatorState, explained_variance
from policygrad.networks import update_statistics
from policygrad.policies import distributions_of
from policygrad.rewards import RewardScale
from policygrad.scores import policy_gradient
from policygrad.types import Trajectories, combine, split

Info = dict[str, Array]


class VanillaState(NamedTuple):
    """Everything that an update carries to the next.

    Attributes:
        policy: observation -> distribution, with its carried statistics.
        optimiser: state of the optax transformation.
        step_size: `[]`, of the next update.
        estimator: what baseline and critic have fitted.
        reward_scale: running scale of the returns.
        updates: `[]`, how many were made.
        env_steps: `[]`, transitions seen in them.
    """

    policy: Any
    optimiser: optax.OptState
    step_size: Float[Array, ""]
    estimator: EstimatorState
    reward_scale: RewardScale
    updates: Array
    env_steps: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Vanilla:
    """Vanilla policy gradient.

    Attributes:
        estimator: what multiplies each score.
        optimiser: direction-giving optax transformation of the (descent) gradient, without a step
            size of its own, such as `optax.scale_by_adam()`; static.
        step_size: initial step size.
        target_kl: nats; the step size is divided by 1.5 after an update whose KL exceeds twice the
            target, and multiplied by 1.5 after one below half of it. 0 leaves it as it is.
        decay: environment steps over which the step size falls linearly to zero; 0 for none.
        entropy_coefficient: weight of the mean entropy in what is ascended.
        max_global_norm: the gradient is shortened to this length; 0 for no limit.
        scale_rewards: divide rewards by the running root mean square of the discounted return.
    """

    estimator: Estimator
    optimiser: optax.GradientTransformation = field(metadata={"static": True})
    step_size: float | Float[Array, ""] = 1e-3
    target_kl: float = field(default=0.005, metadata={"static": True})
    decay: int = field(default=0, metadata={"static": True})
    entropy_coefficient: float = field(default=0.0, metadata={"static": True})
    max_global_norm: float = field(default=0.0, metadata={"static": True})
    scale_rewards: bool = field(default=True, metadata={"static": True})

    def init(
        self, key: PRNGKeyArray, policy: Any, observation: PyTree, num_envs: int
    ) -> VanillaState:
        """The state before the first update.

        Args:
            key: consumed.
            policy: observation -> distribution.
            observation: one raw observation, for its shapes.
            num_envs: columns of the batches.
        """
        differentiated, _ = split(policy)
        return VanillaState(
            policy,
            jax.jit(self.optimiser.init)(differentiated),
            jnp.asarray(self.step_size, jnp.float32),
            self.estimator.init(key, observation),
            RewardScale.init(num_envs),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def update(
        self, state: VanillaState, trajectories: Trajectories, key: PRNGKeyArray
    ) -> tuple[VanillaState, Info]:
        """One update from one batch. Pure; the key is consumed.

        Returns:
            The new state, and what is logged: `kl`, `entropy` (nats, of the policy that acted),
            `gradient_norm` (before clipping), `step_size`, `explained_variance_before` and
            `explained_variance_after` the fit.
        """
        scale, scaled = self._scaled(state.reward_scale, trajectories)
        weights = self.estimator.weights(state.estimator, scaled)

        gradient = policy_gradient(state.policy, trajectories, weights.psi)
        if self.entropy_coefficient:
            bonus = entropy_gradient(state.policy, trajectories)
            gradient = jax.tree.map(lambda g, b: g + self.entropy_coefficient * b, gradient, bonus)
        norm = optax.tree.norm(gradient)
        if self.max_global_norm:
            factor = jnp.minimum(1.0, self.max_global_norm / jnp.maximum(norm, 1e-12))
            gradient = jax.tree.map(lambda g: g * factor, gradient)

        step_size = state.step_size
        if self.decay:
            step_size = step_size * jnp.maximum(0.0, 1 - state.env_steps / self.decay)
        policy, optimiser = self._step(state, gradient, step_size)
        kl, entropy = compare(state.policy, policy, trajectories)

        fitted, fit_info = self.estimator.fit(
            state.estimator, key, state.policy, scaled, weights.returns
        )
        valid = trajectories.valid
        info = {
            "kl": kl,
            "entropy": entropy,
            "gradient_norm": norm,
            "step_size": step_size,
            "explained_variance_before": explained_variance(
                weights.returns, weights.baseline, valid.astype(jnp.float32)
            ),
            "explained_variance_after": fit_info["explained_variance"],
            "reward_scale": scale.factor,
        }
        return VanillaState(
            update_statistics(policy, trajectories.observations, valid),
            optimiser,
            adapted(state.step_size, kl, self.target_kl),
            fitted,
            scale,
            state.updates + 1,
            state.env_steps + jnp.sum(valid),
        ), info

    def _scaled(
        self, scale: RewardScale, trajectories: Trajectories
    ) -> tuple[RewardScale, Trajectories]:
        if not self.scale_rewards:
            return scale, trajectories
        scale = scale.update(trajectories, self.estimator.discount)
        return scale, replace(trajectories, rewards=trajectories.rewards * scale.factor)

    def _step(
        self, state: VanillaState, gradient: PyTree, step_size: Float[Array, ""]
    ) -> tuple[Any, optax.OptState]:
        differentiated, rest = split(state.policy)
        descent = jax.tree.map(jnp.negative, gradient)
        updates, optimiser = self.optimiser.update(descent, state.optimiser, differentiated)
        updates = jax.tree.map(lambda u: -step_size * u, updates)
        return combine(optax.apply_updates(differentiated, updates), rest), optimiser


def adapted(step_size: Float[Array, ""], kl: Float[Array, ""], target: float) -> Float[Array, ""]:
    """The step size of the next update: ×1.5 below half the target KL, /1.5 above twice it."""
    if not target:
        return step_size
    factor = jnp.where(kl > 2 * target, 1 / 1.5, jnp.where(kl < target / 2, 1.5, 1.0))
    return jnp.clip(step_size * factor, 1e-7, 1.0)


def mean_over_valid(x: Float[Array, "T B"], trajectories: Trajectories) -> Float[Array, ""]:
    """The mean over the rows that are transitions."""
    valid = trajectories.valid
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def compare(
    old: Any, new: Any, trajectories: Trajectories
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean KL(old ‖ new) and mean entropy of the old policy over the batch's states, nats."""
    before = distributions_of(old, trajectories.observations)
    after = distributions_of(new, trajectories.observations)
    kl = jax.vmap(jax.vmap(lambda p, q: p.kl(q)))(before, after)
    entropy = jax.vmap(jax.vmap(lambda p: p.entropy()))(before)
    return mean_over_valid(kl, trajectories), mean_over_valid(entropy, trajectories)


def entropy_gradient(policy: Any, trajectories: Trajectories) -> PyTree:
    """The gradient of the mean entropy over the batch's states, in the policy's structure."""
    differentiated, rest = split(policy)

    def mean_entropy(differentiated: PyTree) -> Float[Array, ""]:
        distributions = distributions_of(combine(differentiated, rest), trajectories.observations)
        entropies = jax.vmap(jax.vmap(lambda p: p.entropy()))(distributions)
        return mean_over_valid(entropies, trajectories)

    return jax.grad(mean_entropy)(differentiated)
