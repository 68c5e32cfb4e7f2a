"""A distribution beside the value of the state that it was given for."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class Valued(eqx.Module):
    """What a policy returns whose network gives a value too: a distribution, and that value.

    It scores, samples and compares as the distribution alone.

    Attributes:
        actions: the distribution.
        value: `[]`, of the state, in the critic's units.
    """

    actions: Any
    value: Float[Array, ""]

    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        return self.actions.log_prob(action)

    def sample(self, key: PRNGKeyArray) -> PyTree:
        return self.actions.sample(key)

    def mode(self) -> PyTree:
        return self.actions.mode()

    def entropy(self) -> Float[Array, ""]:
        return self.actions.entropy()

    def kl(self, other: "Valued") -> Float[Array, ""]:
        return self.actions.kl(other.actions)


def over_actions(distribution: Any) -> Any:
    """The distribution over actions, without a value beside it."""
    return distribution.actions if isinstance(distribution, Valued) else distribution
