"""One update, whatever the algorithm: weigh, improve, refit.

1. weigh every step of the batch by the estimator, with what was fitted on earlier batches
2. improve the policy, in which algorithms differ
3. refit critic and baseline (E9), then take the batch into the running statistics

An update has two parts. `step` returns the policy that acts next. `refit` fits critic and baseline;
its result is needed only when the next batch is weighed, so it may run while that batch is
collected.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from policygrad.algorithms.base import (
    STATIC,
    Algorithm,
    Batch,
    Improved,
    ValueTargets,
    traced,
)
from policygrad.algorithms.policy_change import compare, nearly_certain
from policygrad.algorithms.reward_scale import RewardScale, with_signs
from policygrad.core.counting import LongCount
from policygrad.core.errors import UserError
from policygrad.core.modules import in_types_of, is_array, narrowed, split
from policygrad.core.trajectories import Trajectories, environment_steps
from policygrad.gradients.baselines.shared import SharedValue
from policygrad.gradients.normalisation import explained_variance
from policygrad.gradients.weights import Estimator, EstimatorState, Weights
from policygrad.policies.meeting import Policy
from policygrad.policies.normaliser import update_statistics


class LearnerState(NamedTuple):
    """Everything that an update passes to the next one.

    Attributes:
        policy: observation -> distribution, with its carried statistics.
        improver: the algorithm's state: optimiser state, step size.
        estimator: what baseline and critic have fitted.
        reward_scale: running scale of the returns.
        updates: `[]`, number of updates that were made.
        steps: number of environment steps that were made for their batches.
    """

    policy: Policy
    improver: PyTree
    estimator: EstimatorState
    reward_scale: RewardScale
    updates: Int[Array, ""]
    steps: LongCount


class RefitRequest(NamedTuple):
    """What the refit of critic and baseline reads.

    Attributes:
        key: consumed.
        policy: the policy that acted.
        trajectories: the batch, its rewards in the scale that the next batch is weighed with.
        returns: `[T, B]`, of `Estimator.weights`, in the same scale.
        improved: the policy after the update, if its network gives the values; else None.
    """

    key: PRNGKeyArray
    policy: Policy
    trajectories: Trajectories
    returns: Float[Array, "T B"]
    improved: Policy | None


class Refitted(NamedTuple):
    """What a refit returns.

    Attributes:
        estimator: the new state of baseline and critic.
        explained_variance: `[]`, of the batch's returns, by the refitted baseline.
        sound: `[]`, whether everything that was fitted is finite.
    """

    estimator: EstimatorState
    explained_variance: Float[Array, ""]
    sound: Bool[Array, ""]


class UpdateInfo(NamedTuple):
    """What an update reports; numbers `[]` each.

    Attributes:
        kl: mean KL(old ‖ new) over the batch's states, nats.
        entropy: mean entropy of the policy that acted, nats.
        gradient_norm: length of the gradient, before it is shortened.
        step_size: the step size of this update.
        explained_variance_before: of the returns, by the baseline before its refit.
        reward_scale: what the batch's rewards were multiplied by.
        more: further numbers that the algorithm logs.
    """

    kl: Float[Array, ""]
    entropy: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]
    explained_variance_before: Float[Array, ""]
    reward_scale: Float[Array, ""]
    more: dict[str, Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Learner:
    """An algorithm, an estimator, and the update that uses them.

    Made by `learner`, which puts arrays in place of numbers.

    Attributes:
        algorithm: how the policy improves.
        estimator: what multiplies each score.
        total_steps: `[]`, environment steps over which a linear schedule shrinks steps to zero;
            infinite if they do not shrink.
        scale_rewards: divide rewards by the running root mean square of their discounted sum so far
            (`RewardScale`).
        clip_rewards: learn from the sign of each reward alone.
    """

    algorithm: Algorithm
    estimator: Estimator
    total_steps: Float[Array, ""]
    scale_rewards: bool = field(metadata=STATIC)
    clip_rewards: bool = field(default=False, metadata=STATIC)

    def init(
        self, key: PRNGKeyArray, policy: Policy, observation: PyTree, columns: int
    ) -> LearnerState:
        """The state before the first update.

        Args:
            key: consumed.
            policy: observation -> distribution.
            observation: one raw observation, for its shapes.
            columns: number of columns of a batch: environments, or episodes.
        """
        differentiated, _ = split(policy)
        return LearnerState(
            policy,
            jax.tree.map(_as_array, self.algorithm.start(differentiated)),
            narrowed(self.estimator.for_lanes(self.estimator.init(key, observation), columns)),
            RewardScale.init(columns),
            jnp.zeros((), jnp.int32),
            LongCount.of(0),
        )

    def update(
        self, state: LearnerState, trajectories: Trajectories, key: PRNGKeyArray
    ) -> tuple[LearnerState, UpdateInfo, Refitted]:
        """One update from one batch. Pure; the key is consumed."""
        state, request, info = self.step(state, trajectories, key)
        refitted = self.refit(state.estimator, request)
        return state._replace(estimator=refitted.estimator), info, refitted

    def step(
        self, state: LearnerState, trajectories: Trajectories, key: PRNGKeyArray
    ) -> tuple[LearnerState, RefitRequest, UpdateInfo]:
        """An update without its refit. Pure; the key is consumed."""
        improve_key, refit_key = jax.random.split(key)
        trajectories = self._seen(trajectories)
        scale, next_scale, weights = self.weigh(state, trajectories)
        improver = state.improver
        rescaled = weights.returns * (next_scale.factor / scale.factor)
        batch = Batch(
            trajectories, weights.psi, self._remaining(state.steps), self._values_to_fit(rescaled)
        )
        improved = self.algorithm.improve(improve_key, state.policy, improver, batch)
        check_improved(self.algorithm, state.policy, improver, improved)
        kl, entropy = compare(improved.before, improved.policy, trajectories)
        info = UpdateInfo(
            kl,
            entropy,
            improved.gradient_norm,
            improved.step_size,
            explained_variance(
                weights.returns, weights.baseline, self.estimator.step_weights(trajectories)
            ),
            scale.factor,
            improved.more,
        )
        request = RefitRequest(
            refit_key,
            state.policy,
            next_scale.scaled(trajectories),
            rescaled,
            improved.policy if self.shares_values else None,
        )
        silent = ~jnp.any(weights.psi != 0)  # the KL is 0 or the bonus's, however long the step
        held = nearly_certain(entropy, improved.before) | silent
        after = LearnerState(
            update_statistics(improved.policy, trajectories.observations, trajectories.valid),
            self.algorithm.adapt(improved.improver, kl, batch.remaining, held),
            state.estimator,
            next_scale,
            state.updates + 1,
            state.steps.plus(environment_steps(trajectories)),
        )
        return in_types_of(state, after), request, narrowed(info)

    def refit(self, estimator: EstimatorState, request: RefitRequest) -> Refitted:
        """Critic and baseline fitted to a batch after its use (E9), and how well they fit. Pure."""
        key, policy, trajectories, returns, improved = request
        read = self.estimator if improved is None else self.estimator.reading(improved)
        fitted, explained = read.fit(estimator, key, policy, trajectories, returns)
        fitted = in_types_of(estimator, fitted)
        return Refitted(fitted, explained, all_finite(fitted))

    def weigh(
        self, state: LearnerState, trajectories: Trajectories
    ) -> tuple[RewardScale, RewardScale, Weights]:
        """A batch's weights. Pure.

        Returns:
            The scale of the batch's rewards, the scale for the next batch, and the weights.
        """
        trajectories = self._seen(trajectories)
        next_scale = state.reward_scale
        if self.scale_rewards:
            next_scale = next_scale.update(trajectories, self.estimator.discount)
        scale = state.reward_scale.known_by(next_scale)
        estimator = self.estimator.reading(state.policy)
        weights = estimator.weights(state.estimator, scale.scaled(trajectories))
        return scale, next_scale, weights

    @property
    def shares_values(self) -> bool:
        """Whether the critic is an output of the policy's network."""
        return isinstance(self.estimator.critic, SharedValue)

    def _values_to_fit(self, returns: Float[Array, "T B"]) -> ValueTargets | None:
        """What the algorithm fits the policy's values to; None if the critic is fitted apart."""
        critic = self.estimator.critic
        if not isinstance(critic, SharedValue):
            return None
        return ValueTargets(returns, jnp.asarray(critic.coefficient))

    def _seen(self, trajectories: Trajectories) -> Trajectories:
        """The batch as it is learned from."""
        return with_signs(trajectories) if self.clip_rewards else trajectories

    def _remaining(self, steps: LongCount) -> Float[Array, ""]:
        if self.algorithm.step_size_schedule == "constant":
            return jnp.float32(1.0)
        return jnp.maximum(0.0, 1 - steps.share_of(self.total_steps))


def learner(
    algorithm: Algorithm,
    estimator: Estimator,
    *,
    total_steps: float = float("inf"),
    scale_rewards: bool = True,
    clip_rewards: bool = False,
) -> Learner:
    """A learner whose numbers are arrays, so that other numbers compile nothing.

    Args:
        algorithm: how the policy improves.
        estimator: what multiplies each score.
        total_steps: environment steps over which a linear schedule shrinks steps to zero.
        scale_rewards: divide rewards by the running root mean square of their discounted sum so far
            (`RewardScale`).
        clip_rewards: learn from the sign of each reward alone.
    """
    return Learner(
        algorithm=traced(algorithm),
        estimator=narrowed(jax.tree.map(jnp.asarray, estimator)),
        total_steps=jnp.asarray(total_steps, jnp.float32),
        scale_rewards=scale_rewards,
        clip_rewards=clip_rewards,
    )


def check_improved(
    algorithm: Algorithm, policy: Policy, improver: PyTree, improved: Improved
) -> None:
    """Raise UserError unless `improve` returned what the next update can go on from."""
    name = f"{type(algorithm).__name__}.improve"
    if not isinstance(improved, Improved):
        raise UserError(f"{name} must return an Improved, got {type(improved).__name__}")
    for what, before, after in (
        ("policy", policy, improved.policy), ("improver", improver, improved.improver),
    ):  # fmt: skip
        if jax.tree.structure(before) != jax.tree.structure(after):
            raise UserError(
                f"{name} returned {what} of another structure: {jax.tree.structure(after)}, and "
                f"got {jax.tree.structure(before)}"
            )
        for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
            if is_array(old) and (jnp.shape(old), old.dtype) != (jnp.shape(new), _dtype(new)):
                raise UserError(
                    f"{name} returned an array of its {what} as {_dtype(new)}{list(jnp.shape(new))}"
                    f", and got {old.dtype}{list(jnp.shape(old))}"
                )
    numbers = {"gradient_norm": improved.gradient_norm, "step_size": improved.step_size}
    for key, number in (numbers | improved.more).items():
        if jnp.shape(number) != ():
            raise UserError(
                f"{name} must return {key} as one number, [], got the shape "
                f"{list(jnp.shape(number))}"
            )


def _as_array(leaf: PyTree) -> PyTree:
    """Python's numbers as arrays: what is not an array is not carried through a program."""
    return narrowed(jnp.array(leaf)) if isinstance(leaf, (bool, int, float)) else leaf


def _dtype(x: PyTree) -> jnp.dtype:
    return jnp.result_type(x)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """`[]`: whether no floating-point array of a pytree holds a NaN or an infinity."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree) if is_array(x)]
    floats = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.all(jnp.isfinite(ravel_pytree(floats)[0]))  # one look at all: less to compile
