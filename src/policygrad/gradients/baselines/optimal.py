"""The variance-optimal baseline, by weighted regression from samples.

The controls w_t z_t 1[s_t = s] are uncorrelated, so the variance is a parabola in b,

    Var(b') = Var(b) − 2 E Σ_t w_t (z_t·ĝ)(b'_t − b_t) + E Σ_t w_t² ‖z_t‖² (b'_t − b_t)²,

with ĝ the estimate of the episode with baseline b. The minimum over a class of functions is the
regression of b_t + z_t·ĝ / (w_t ‖z_t‖²) with the weights w_t² ‖z_t‖². Without the cross-time terms
of z_t·ĝ the target is the return itself. So b is first set to the regression of the returns of the
same batch. The b that the batch was weighed with was fitted to another batch: its error would be in
ĝ, and so in the targets, and would grow from batch to batch.
"""

from dataclasses import dataclass, field, replace
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.gradients import scores
from policygrad.gradients.baselines.base import Encode, FitBatch, Regression, State, StateBaseline


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VarianceOptimal(StateBaseline):
    """b = the function of a class that minimises the estimator's variance.

    Attributes:
        regression: the class, and how it is fitted by weighted least squares.
        cross_terms: whether scores of other steps count; needs whole episodes.
    """

    regression: Regression
    cross_terms: bool = field(default=True, metadata={"static": True})

    @property
    def whole_episodes(self) -> bool:
        """With cross terms the targets hold the gradient of the whole episode."""
        return self.cross_terms

    @property
    def takes_columns(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """With cross terms it computes the gradient of each episode."""
        return self.cross_terms

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return self.regression.init(key, observation)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        return self.regression.value(state, observation, time)

    def bind(self, encode: Encode) -> Self:
        return replace(self, regression=self.regression.bind(encode))

    def fit(self, state: State, key: PRNGKeyArray, batch: FitBatch) -> State:
        first_key, fit_key = jax.random.split(key)
        targets, weights = self.regression_targets(state, first_key, batch)
        return self.regression.regress(state, fit_key, batch.trajectories, targets, weights)

    def regression_targets(
        self, state: State, key: PRNGKeyArray, batch: FitBatch
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`[T, B]` each, targets and weights of the regression.

        Args:
            state: the state that the regression starts from.
            key: consumed.
            batch: the batch.
        """
        policy, trajectories, returns, _, discounts = batch
        squares = sum(jax.tree.leaves(scores.score_squares(policy, trajectories)))
        weights = discounts**2 * squares
        if not self.cross_terms:
            return returns, weights
        present = self.regression.regress(state, key, trajectories, returns, weights)
        baseline = self.predict(present, trajectories, returns)
        psi = jnp.where(trajectories.valid, discounts * (returns - baseline), 0.0)
        gradients = scores.episode_gradients(policy, trajectories, psi)
        slopes = discounts * scores.score_products(policy, trajectories, gradients)
        known = weights > 0
        step = jnp.where(known, slopes / jnp.where(known, weights, 1.0), 0.0)
        return baseline + step, weights
