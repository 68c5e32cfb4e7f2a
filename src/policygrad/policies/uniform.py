"""A policy that acts at random, whatever it observes: what a run's return is compared with."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.policies.space_policy import distribution_over
from policygrad.spaces import ActionSpace, Box, action_mask


class UniformOverBox(eqx.Module):
    """Uniform between bounds; a standard Gaussian for a number that lacks one.

    In the policy's units, in which bounds are −1 and 1. It is what actions are drawn from, and is
    not compared with other distributions.

    Attributes:
        box: static.
    """

    box: Box = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*k"]:
        inside, free = jax.random.split(key)
        shape = self.box.shape
        return jnp.where(
            self.box.bounded,
            jax.random.uniform(inside, shape, minval=-1.0, maxval=1.0),
            jax.random.normal(free, shape),
        )

    def log_prob(self, action: Float[Array, "*k"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(self.box.bounded, -jnp.log(2.0), norm.logpdf(action)))


class UniformPolicy(eqx.Module):
    """Every permitted choice is equally probable, and every number between bounds.

    Attributes:
        action_space: static.

    >>> from gymnasium.spaces import Discrete
    >>> from policygrad.spaces import action_space_of
    >>> policy = UniformPolicy(action_space_of(Discrete(4)))
    >>> [round(float(p), 2) for p in jnp.exp(policy(jnp.zeros(3)).log_probs)]
    [0.25, 0.25, 0.25, 0.25]
    """

    action_space: ActionSpace = eqx.field(static=True)

    def __call__(self, observation: PyTree) -> Any:
        space = self.action_space
        return distribution_over(
            space,
            jnp.zeros(space.parameters),
            jnp.zeros(space.deviations) if space.deviations else None,
            action_mask(observation),
            lambda box, *_: UniformOverBox(box),
        )
