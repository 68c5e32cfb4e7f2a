"""A run's estimator with what it had fitted at the newest checkpoint, to weigh fresh episodes."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.algorithms.reward_scale import with_signs
from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories, with_rewards
from policygrad.diagnostics.groups import episodes_weighed_together, less_the_other_groups
from policygrad.diagnostics.rules.values import IN_USE, LAMBDA_FLAG, WITH, WITHOUT
from policygrad.diagnostics.streaming import weights_of
from policygrad.doctor.subject import Subject
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.forms import LambdaReturn, NStep, ResetAtRewards, resetting
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.policies import Agent
from policygrad.rollout.source import Source
from policygrad.spaces import ObservationEncoder, space_of
from policygrad.training.building import build_estimator
from policygrad.training.checkpoint import restore_fitted

LAMBDAS = (0.5, 0.9, 0.95, 1.0)
STEPS = (1, 5, 20)  # n of n-step estimators

Candidates = dict[str, tuple[Estimator, EstimatorState]]


def reference_among(candidates: Candidates) -> str:
    """The candidate that every bias is measured against.

    Rewards to go are unbiased with a baseline and without; the one with less noise measures every
    bias more exactly.
    """
    return WITH if WITH in candidates else WITHOUT


@dataclass(frozen=True)
class FittedEstimator:
    """An estimator and its state.

    Attributes:
        estimator: as it was in training.
        state: what its baseline and its critic had fitted.
        scale: what rewards are multiplied by.
        clips: whether it looks at the signs of rewards.
    """

    estimator: Estimator
    state: EstimatorState
    scale: float
    clips: bool = False

    @classmethod
    def of(cls, subject: Subject, agent: Agent, source: Source) -> "FittedEstimator":
        """The estimator of a run, with the state of its newest checkpoint.

        Raises:
            RunError: no checkpoint, or one of an estimator of another structure.
        """
        config = subject.resolved.config
        estimator = build_estimator(subject.resolved, subject.given(agent), source.time_limit)
        observations = space_of(source.observation_space)
        estimator = jax.tree.map(jnp.asarray, estimator.bind(ObservationEncoder(observations)))
        like = estimator.init(jax.random.key(0), observations.example())
        like = estimator.for_lanes(like, config.columns)
        state, reward_scale = restore_fitted(like, config, subject.directory)
        scale = float(reward_scale.factor) if config.scale_rewards else 1.0
        estimator = estimator.reading(agent.policy)
        return cls(estimator, state, scale, bool(config.clip_rewards))

    def scaled(self, record: Trajectories) -> Trajectories:
        """The record with rewards as the estimator sees them."""
        if self.clips:
            record = with_signs(record)
        return with_rewards(record, lambda x: np.asarray(x * self.scale, np.float32))

    def predicted_returns(self, record: Trajectories) -> tuple[np.ndarray, np.ndarray] | None:
        """`[T, N]` each: returns to go, and what is subtracted from them; None for nothing.

        The returns are sums of rewards; the critic's value is used only after a truncation. Returns
        that λ mixes with the critic's values would be explained by the critic too well.
        """
        baseline, state = self.subtracted
        if baseline is None:
            return None
        both = EstimatorState(state, self.state.critic)
        weights = weights_of(self.rewards_to_go(baseline), both, self.scaled(record))
        return np.asarray(weights.returns), np.asarray(weights.baseline)

    @property
    def subtracted(self) -> tuple[Baseline | None, Any]:
        """The baseline that is subtracted from returns, and its fitted state; None for nothing."""
        if not self.estimator.subtracts:
            return None, ()
        if self.estimator.baseline is None:
            return self.estimator.critic, self.state.critic
        return self.estimator.baseline, self.state.baseline

    @property
    def plain(self) -> Estimator:
        """The estimator without normalised advantages, which would hide differences."""
        return replace(self.estimator, normalise_advantages=False)

    def split_in_groups(self, size: int) -> tuple[Estimator, EstimatorState, int]:
        """What the noise between and within groups is measured of, and how many episodes it weighs
        together: the estimator where groups of this size can tell, else returns less the mean of
        the other groups."""
        try:
            return self.plain, self.state, episodes_weighed_together(self.plain, size)
        except UserError:
            other = less_the_other_groups(discount=self.estimator.discount)
            return other, EstimatorState((), ()), 1

    @property
    def resets(self) -> bool:
        """Whether its returns end at every reward. Those of what it is compared with then do too,
        so that every bias is measured against the objective that the run follows."""
        return isinstance(self.estimator.form, ResetAtRewards)

    def rewards_to_go(self, baseline: Baseline) -> Estimator:
        """Rewards to go less a baseline, at the run's γ and without γ^t.

        Bias: the discount's; after truncations that bootstrap, the critic's error.
        """
        own = self.estimator.critic
        return estimators.reward_to_go(
            discount=self.estimator.discount,
            baseline=baseline,
            critic=own,
            time_limit="terminates" if own is None else self.estimator.time_limit,
            resets_at_rewards=self.resets,
        )

    def candidates(self, *, wide: bool) -> Candidates:
        """The estimator in use and others, with the same discount and the same fitted state.

        Rewards to go with its baseline and without, and λ-returns with its critic, less its
        baseline. Others are named by the flags that select them.

        Args:
            wide: whether to add n-step, total returns (unless the estimator in use resets at
                rewards) and γ^t kept, which no rule reads.
        """
        critic, fitted = self.estimator.critic, self.state.critic
        none = EstimatorState((), fitted)
        found = {IN_USE: (self.plain, self.state)}
        found[WITHOUT] = self.rewards_to_go(baselines.none()), none
        baseline, state = self.subtracted
        if baseline is not None:
            found[WITH] = self.rewards_to_go(baseline), EstimatorState(state, fitted)
        if critic is not None:
            for x in LAMBDAS:
                form = resetting(LambdaReturn(jnp.float32(x)), self.resets)
                found[f"{LAMBDA_FLAG} {x:g}"] = replace(self.plain, form=form), self.state
        return found | (self._further() if wide else {})

    def _further(self) -> Candidates:
        found: Candidates = {}
        if self.estimator.critic is not None:
            for n in STEPS:
                steps = replace(self.plain, form=resetting(NStep(n), self.resets))
                found[f"--estimator n-step --n {n}"] = steps, self.state
        if not self.resets:  # a total return does not
            total = estimators.total_return(discount=self.estimator.discount)
            found["--estimator total-return"] = total, EstimatorState((), ())
        if not self.plain.discounted_states and not self.plain.form.whole_episodes:
            kept = replace(self.plain, discounted_states=True)
            found["in use, --discounted-states"] = kept, self.state
        return found
