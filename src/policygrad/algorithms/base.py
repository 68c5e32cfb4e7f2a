"""What an algorithm is: a frozen record that says how a policy improves from a batch.

A record carries its settings with their defaults, ranges and help, and two pure functions: `start`,
what it carries from update to update, and `improve`. Its numbers are traced, so that another value
of one compiles nothing anew; counts and words are static. One of your own is a frozen dataclass
that subclasses `Algorithm`, decorated with `jax.tree_util.register_dataclass`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.algorithms.policy_change import entropy_gradient
from policygrad.core.settings import NonNegative
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.scores import gradient_and_distributions
from policygrad.policies.meeting import Policy

STATIC = {"static": True}
Schedule = Literal["constant", "linear"]


class Batch(NamedTuple):
    """What an improvement is made from.

    Attributes:
        trajectories: the batch.
        psi: `[T, B]`, the weight of every score.
        remaining: `[]`, in [0, 1]: the share of the run ahead where steps shrink, else 1.
    """

    trajectories: Trajectories
    psi: Float[Array, "T B"]
    remaining: Float[Array, ""]


class Improved(NamedTuple):
    """What an improvement gives.

    Attributes:
        policy: the better policy.
        improver: what the algorithm carries on.
        before: distributions of the policy that acted, in the units of `policies.meeting.units`.
        gradient_norm: `[]`, length of the gradient before anything shortened it; logged.
        step_size: `[]`; logged.
        more: numbers `[]` that are logged under their names too.
    """

    policy: Policy
    improver: PyTree
    before: PyTree
    gradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]
    more: dict[str, Array]


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """A policy gradient algorithm.

    Attributes:
        entropy_coefficient: weight of the policy's entropy in what is maximised.
        step_size_schedule: constant, or linear: steps shrink to zero over the run.
        suggests: defaults of settings that others read (the discount, the critic's passes, …) where
            nobody gave them: name -> value.
        sized_by_kl: the length of a step is set by a KL target, and a step size is not read.
    """

    entropy_coefficient: NonNegative = 0.0
    """Weight of the policy's entropy in what is maximised."""
    step_size_schedule: Schedule = field(default="constant", metadata=STATIC)
    """constant, or linear: steps shrink to zero over the run."""

    suggests: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    sized_by_kl: ClassVar[bool] = False

    @abstractmethod
    def start(self, differentiated: PyTree) -> PyTree:
        """What the improvement carries, before the first one: a pytree of arrays.

        Args:
            differentiated: the policy's leaves that are differentiated.
        """

    @abstractmethod
    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: PyTree, batch: Batch
    ) -> Improved:
        """A better policy. Pure; the key is consumed.

        Args:
            key: for whatever is drawn.
            policy: that acted.
            improver: as `start` or the update before gave it.
            batch: what to improve from.
        """

    def adapt(self, improver: PyTree, kl: Float[Array, ""], remaining: Float[Array, ""]) -> PyTree:
        """What is carried on, once the improvement's KL is known.

        Args:
            improver: as `improve` gave it.
            kl: `[]`, nats: mean KL(old ‖ new) over the batch's states.
            remaining: `[]`, as in `Batch`.
        """
        del kl, remaining
        return improver

    def ascent(self, policy: Policy, batch: Batch) -> tuple[PyTree, PyTree]:
        """The policy gradient, with that of the entropy where it is wanted.

        Returns:
            pytree like the policy, pointing uphill; and the distributions of the policy that acted,
            in the units of `policies.meeting.units`.
        """
        gradient, before = gradient_and_distributions(policy, batch.trajectories, batch.psi)
        if self.entropy_coefficient is not None:
            bonus = entropy_gradient(policy, batch.trajectories)
            gradient = jax.tree.map(lambda g, b: g + self.entropy_coefficient * b, gradient, bonus)
        return gradient, before


def traced(algorithm: Algorithm) -> Algorithm:
    """The algorithm with arrays in place of its numbers, so that others compile nothing anew.

    An entropy coefficient of zero becomes None: what is not wanted is not computed.
    """
    if algorithm.entropy_coefficient == 0:
        algorithm = replace(algorithm, entropy_coefficient=None)  # pyright: ignore
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), algorithm)
