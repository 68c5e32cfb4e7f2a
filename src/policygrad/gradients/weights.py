"""The estimator: a small immutable value that says what multiplies each score.

The same value goes to the trainer, to the diagnostics and to the exact laboratory. It is a pytree:
discount, λ and tables are traced, so that a grid over them compiles once; form and flags are
static. What is fitted (baseline, critic) is a separate state, passed beside it.

ĝ = Σ_t Ψ_t z_t, and Ψ_t = γ^t (G_t − b_t), with γ^t if it is kept.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines.base import Baseline, Critic, FitBatch, check_shape
from policygrad.gradients.forms import Form, LaneSteps
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.groups.of_record import weights_in_groups
from policygrad.gradients.normalisation import explained_variance, rescale, standardise
from policygrad.maths.returns import Scalar

TimeLimit = Literal["bootstraps", "terminates"]


STATIC = {"static": True}


class EstimatorState(NamedTuple):
    """What an estimator has fitted: its baseline and its critic."""

    baseline: Any
    critic: Any


class Weights(NamedTuple):
    """The weights of a batch, and what they were computed from.

    Attributes:
        psi: `[T, B]`, the weight Ψ of each score; zero on rows that are not transitions.
        returns: `[T, B]`, the (possibly bootstrapped) return that Ψ starts from: the target that
            baseline and critic are refitted to.
        baseline: `[T, B]`, what was subtracted.
    """

    psi: Float[Array, "T B"]
    returns: Float[Array, "T B"]
    baseline: Float[Array, "T B"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Estimator:
    """What multiplies each score. The constructors in `gradients.estimators` make and check it.

    Attributes:
        form: which return Ψ starts from.
        baseline: what is subtracted; None stands for the critic's values.
        critic: the value function that bootstraps; None for pure Monte Carlo.
        discount: γ.
        discounted_states: whether the factor γ^t of the discounted objective's gradient is kept.
        time_limit: what follows a truncated step. "bootstraps": the value of its successor, because
            the limit is not part of the task. "terminates": nothing.
        normalise_advantages: whether Ψ is scaled to unit size over the batch, and centred before if
            there is a baseline (`subtracts`).
        group: what weighs the returns of episodes that start in groups, in place of the baseline;
            None for everything else.
    """

    form: Form
    baseline: Baseline | None
    critic: Critic | None
    discount: Scalar
    discounted_states: bool = field(default=False, metadata=STATIC)
    time_limit: TimeLimit = field(default="terminates", metadata=STATIC)
    normalise_advantages: bool = field(default=False, metadata=STATIC)
    group: GroupEstimator | None = None

    @property
    def subtracts(self) -> bool:
        """Whether anything is subtracted from the returns: the baseline, or the critic's values."""
        subtracted = self.critic if self.baseline is None else self.baseline
        return subtracted is not None and subtracted.subtracts

    @property
    def whole_episodes(self) -> bool:
        """Whether it needs whole episodes, because it has no weights for segments."""
        of_baseline = self.baseline is not None and self.baseline.whole_episodes
        return self.critic is None or self.form.whole_episodes or of_baseline

    @property
    def reads_greedy(self) -> bool:
        """Whether it needs a greedy episode from each start (`Trajectories.greedy`)."""
        return self.group is not None and "greedy" in self.group.reads

    @property
    def takes_columns(self) -> bool:
        """Whether baseline or critic computes whole columns of a record, in place of steps."""
        return any(of is not None and of.takes_columns for of in (self.baseline, self.critic))

    @property
    def why_whole_episodes(self) -> str:
        """Why it needs whole episodes, in words; of an estimator that does."""
        if self.critic is None:
            return "without a critic it cannot bootstrap where a segment cuts an episode"
        why = "its return or its baseline is that of a whole episode"
        if self.baseline is None or not self.baseline.whole_episodes:
            return why
        hint = "; for variance_optimal pass cross_terms=False" * hasattr(
            self.baseline, "cross_terms"
        )
        return f"{why}, here the baseline {type(self.baseline).__name__}{hint}"

    def init(self, key: PRNGKeyArray, observation: PyTree) -> EstimatorState:
        """The state before the first fit.

        Args:
            key: consumed.
            observation: one raw observation (unbatched), for its shapes.
        """
        baseline_key, critic_key = jax.random.split(key)
        return EstimatorState(
            () if self.baseline is None else self.baseline.init(baseline_key, observation),
            () if self.critic is None else self.critic.init(critic_key, observation),
        )

    def weights(self, state: EstimatorState, trajectories: Trajectories) -> Weights:
        """The weight of every score of a batch.

        Args:
            state: what was fitted on earlier batches.
            trajectories: T steps of B environments, or B whole episodes.

        Returns:
            `psi`, `returns` and `baseline`, `[T, B]` each, in units of the record's rewards; held
            constant.

        Raises:
            ValueError: the record holds segments, and the estimator needs whole episodes.
        """
        self._require_whole_episodes(trajectories)
        values, next_values = self._values_and_bootstraps(state, trajectories)
        returns = self._returns(trajectories, next_values)
        baseline = values
        if self.group is not None:
            psi, baseline = weights_in_groups(self.group, trajectories, returns, self.discount)
            return jax.lax.stop_gradient(Weights(psi, returns, baseline))
        if self.baseline is not None:
            baseline = self.baseline.predict(state.baseline, trajectories, returns)
            check_shape(baseline, trajectories.rewards.shape, self.baseline, "predict")
        advantages = returns - baseline
        if self.normalise_advantages:
            valid = trajectories.valid
            advantages = (
                standardise(advantages, valid, returns)
                if self.subtracts
                else rescale(advantages, valid)
            )
        advantages = advantages * self.state_discounts(trajectories)
        psi = jnp.where(trajectories.valid, advantages, 0.0)
        return jax.lax.stop_gradient(Weights(psi, returns, baseline))

    def fit(
        self,
        state: EstimatorState,
        key: PRNGKeyArray,
        policy: Any,
        trajectories: Trajectories,
        returns: Float[Array, "T B"],
    ) -> tuple[EstimatorState, Float[Array, ""]]:
        """Refit baseline and critic, AFTER they were used for the weights of this batch (E9).

        Args:
            state: what the weights were computed with.
            key: consumed.
            policy: the policy that acted; for baselines that weigh steps by their scores.
            trajectories: the batch.
            returns: `[T, B]`, as `weights` returned them.

        Returns:
            The new state, and the explained variance of `returns` by the new baseline.
        """
        baseline_key, critic_key = jax.random.split(key)
        steps, discounts = self.step_weights(trajectories), self.state_discounts(trajectories)
        batch = FitBatch(policy, trajectories, returns, steps, discounts)
        baseline, critic = state
        if self.baseline is not None:
            baseline = self.baseline.fit(baseline, baseline_key, batch)
        if self.critic is not None:
            critic = self.critic.fit(critic, critic_key, batch)
        fitted = EstimatorState(baseline, critic)
        predicted = self._subtracted(fitted, trajectories, returns)
        explained = explained_variance(returns, predicted, steps)
        return self._each(fitted, "advance", trajectories), explained

    def step_weights(self, trajectories: Trajectories) -> Float[Array, "T B"]:
        """`[T, B]`, the weight of each step in a fit and in the explained variance.

        Every transition counts once. If the return is one number an episode, every episode counts
        once.
        """
        steps = jnp.asarray(trajectories.valid).astype(trajectories.rewards.dtype)
        if self.form.whole_episodes:
            steps = steps / jnp.maximum(jnp.sum(steps, axis=0), 1)
        return steps

    def state_discounts(self, trajectories: Trajectories) -> Float[Array, "T B"]:
        """`[T, B]`, w: γ^t if it multiplies every score, else 1."""
        ones = jnp.ones_like(trajectories.rewards)
        if not self.discounted_states or self.form.whole_episodes:
            return ones
        return jnp.asarray(self.discount) ** trajectories.times * ones

    def reading(self, policy: Any) -> "Estimator":
        """The estimator for the policy that acted; a critic may be an output of its network."""
        baseline = None if self.baseline is None else self.baseline.reading(policy)
        critic = None if self.critic is None else self.critic.reading(policy)
        return replace(self, baseline=baseline, critic=critic)

    def for_lanes(self, state: EstimatorState, lanes: int) -> EstimatorState:
        """The state for records of B lanes."""
        return self._each(state, "for_lanes", lanes)

    def _each(self, state: EstimatorState, method: str, argument: Any) -> EstimatorState:
        """The state, with a method of baseline and critic called on each one's own."""
        both = zip((self.baseline, self.critic), state, strict=True)
        return EstimatorState(
            *(own if of is None else getattr(of, method)(own, argument) for of, own in both)
        )

    def bind(self, encode: Any) -> "Estimator":
        """The estimator with `encode` in every regression that has no encoder of its own."""
        baseline = None if self.baseline is None else self.baseline.bind(encode)
        critic = None if self.critic is None else self.critic.bind(encode)
        return replace(self, baseline=baseline, critic=critic)

    def _subtracted(
        self, state: EstimatorState, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        if self.group is not None:
            return weights_in_groups(self.group, trajectories, returns, self.discount)[1]
        if self.baseline is not None:
            found = self.baseline.predict(state.baseline, trajectories, returns)
        elif self.critic is not None:
            found = self.critic.predict(state.critic, trajectories, returns)
        else:
            return jnp.zeros_like(returns)
        check_shape(found, returns.shape, self.baseline or self.critic, "predict")
        return found

    def _require_whole_episodes(self, trajectories: Trajectories) -> None:
        if self.whole_episodes and not trajectories.whole_episodes:
            raise ValueError(
                f"{self.form} needs whole episodes, got segments of "
                f"{trajectories.rewards.shape[0]} steps: {self.why_whole_episodes}; collect with "
                "batch_episodes, or choose an estimator with a critic, such as gae"
            )

    def _values_and_bootstraps(
        self, state: EstimatorState, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`[T, B]` each: the critic's values of the states, and of their true successors, which is
        what a step bootstraps from where the record or a time limit cuts its episode."""
        if self.critic is None:
            zeros = jnp.zeros_like(trajectories.rewards)
            return zeros, zeros
        found = self.critic.values_and_successors(state.critic, trajectories)
        for values in found:
            check_shape(values, trajectories.rewards.shape, self.critic, "values_and_successors")
        return found

    def _returns(
        self, trajectories: Trajectories, next_values: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        """`[T, B]`: the return of every step."""
        rewards = jnp.where(trajectories.valid, trajectories.rewards, 0.0)
        terminated, truncated = trajectories.terminated, trajectories.truncated
        if self.time_limit == "terminates":
            terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
        lanes = LaneSteps(rewards, next_values, terminated, truncated)
        of_lane = jax.vmap(self.form.returns, in_axes=(1, None), out_axes=1)
        returns = of_lane(lanes, self.discount)
        check_shape(returns, rewards.shape, self.form, "returns")
        if trajectories.whole_episodes and not self.form.whole_episodes:
            # no rewards follow the end of an episode
            returns = jnp.where(trajectories.valid, returns, 0.0)
        return returns
