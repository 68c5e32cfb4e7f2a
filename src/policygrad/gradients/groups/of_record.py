"""The weights of a record of whole episodes that start in groups."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from policygrad.core.trajectories import Trajectories, in_groups
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.groups.record import Groups
from policygrad.maths.returns import Scalar, discounted_return


def weights_in_groups(
    estimator: GroupEstimator,
    trajectories: Trajectories,
    returns: Float[Array, "T B"],
    discount: Scalar,
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """The weight of every score, which is that of its episode, and what was subtracted.

    Args:
        estimator: which weighs each episode.
        trajectories: whole episodes that start in groups.
        returns: `[T, B]`, of whole episodes: the same at every step.
        discount: γ of the returns, for those of greedy episodes.

    Returns:
        `[T, B]` each, in units of reward unless the estimator divides; the weights are zero on rows
        that are not transitions.

    Raises:
        ValueError: too few episodes a group or groups a batch for the estimator; greedy episodes
            that it reads and that the record lacks.
    """
    size, valid = trajectories.group_size, jnp.asarray(trajectories.valid)
    lengths = jnp.sum(valid, axis=0).astype(returns.dtype)
    greedy = trajectories.greedy
    if greedy is not None:
        of_groups = jnp.asarray(greedy.rewards)[:, ::size]
        greedy = jax.vmap(discounted_return, (1, None))(of_groups, discount)
    elif "greedy" in estimator.reads:
        raise ValueError(
            "this estimator reads a greedy episode of each group, and the record holds none; "
            "collect with with_greedy=True"
        )
    groups = Groups(in_groups(returns[0], size), in_groups(lengths, size), greedy)
    weights = jnp.ravel(estimator.weights(groups))
    baseline = jnp.broadcast_to(estimator.baseline.of(groups), groups.returns.shape)
    psi = jnp.where(valid, weights, 0.0)
    return psi, jnp.broadcast_to(jnp.ravel(baseline), psi.shape)
