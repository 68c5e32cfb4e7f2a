"""The critic that is an output of the policy's own network."""

from dataclasses import dataclass, replace
from typing import Any, Self

import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.gradients.baselines.base import State, StateBaseline


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SharedValue(StateBaseline):
    """b(s) = the value that the policy's network gives beside its distribution.

    It fits nothing itself: the algorithm that improves the policy takes the value's error into what
    it descends. Its values are those of the policy that acted.

    Attributes:
        coefficient: weight of the squared error of the value, ½(b(s_t) − G_t)², beside the
            surrogate.
        policy: whose values are read; the learner fills it in.
    """

    coefficient: float | Float[Array, ""] = 0.5
    policy: PyTree = None

    may_bootstrap = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> State:
        del key, observation
        return ()

    def reading(self, policy: Any) -> Self:
        return replace(self, policy=policy)

    def value(self, state: State, observation: PyTree, time: Int[Array, ""]) -> Float[Array, ""]:
        if self.policy is None:
            raise ValueError(
                "SharedValue has no values without a policy: estimator.reading(policy) names it"
            )
        return self.policy(observation).value
