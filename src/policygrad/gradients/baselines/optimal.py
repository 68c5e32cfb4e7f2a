"""The variance-optimal baseline, by weighted regression from samples.

The controls w_t z_t 1[s_t = s] are uncorrelated, so the variance is a parabola in b,

    Var(b') = Var(b) − 2 E Σ_t w_t (z_t·ĝ)(b'_t − b_t) + E Σ_t w_t² ‖z_t‖² (b'_t − b_t)²,

ĝ being the episode's own estimate with the present b. Its minimum over any class of functions is
the regression of b_t + z_t·ĝ / (w_t ‖z_t‖²) with weights w_t² ‖z_t‖². Without the cross-time terms
of z_t·ĝ what is left of the target is the return itself, whose regression on the same batch is the
present b. The b that the batch was used with is another batch's: its error would be in ĝ, with ĝ in
the targets, and grow from batch to batch.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.gradients import scores
from policygrad.gradients.baselines.base import Pointwise, State


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VarianceOptimal(Pointwise):
    """b = the function of a class that minimises the estimator's variance.

    Attributes:
        regression: the class, and how it is fitted by weighted least squares.
        cross_terms: whether scores of other steps count; needs whole episodes.
    """

    regression: Pointwise
    cross_terms: bool = field(default=True, metadata={"static": True})

    @property
    def needs_whole_episodes(self) -> bool:
        """An episode's own gradient is in the targets where cross terms count."""
        return self.cross_terms

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        return self.regression.init(key, observation)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        return self.regression.value(state, observation, time)

    def fit(
        self,
        state: State,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> State:
        return self.regression.fit(state, key, trajectories, targets, weights)

    def problem(
        self,
        state: State,
        key: PRNGKeyArray,
        policy: Any,
        trajectories: Trajectories,
        returns: Float[Array, "T B"],
        factors: Float[Array, "T B"],
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """Targets and weights of the regression.

        Args:
            state: from which the regression goes on.
            key: consumed.
            policy: that acted.
            trajectories: the batch.
            returns: what b is subtracted from.
            factors: w, 1 or γ^t.
        """
        squares = sum(jax.tree.leaves(scores.score_squares(policy, trajectories)))
        weights = factors**2 * squares
        if not self.cross_terms:
            return returns, weights
        present = self.fit(state, key, trajectories, returns, weights)
        baseline = self.predict(present, trajectories, returns)
        psi = jnp.where(trajectories.valid, factors * (returns - baseline), 0.0)
        gradients = scores.episode_gradients(policy, trajectories, psi)
        slopes = factors * scores.score_products(policy, trajectories, gradients)
        known = weights > 0
        step = jnp.where(known, slopes / jnp.where(known, weights, 1.0), 0.0)
        return baseline + step, weights
