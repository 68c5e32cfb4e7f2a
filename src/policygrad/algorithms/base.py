"""An algorithm: a frozen record that says how a policy improves from a batch.

A record holds its settings with their defaults, ranges and help. It has two pure functions: `start`
returns the state that is passed from update to update, and `improve` returns the improved policy.
Its numbers are traced, so another value of one compiles nothing; counts and words are static. An
algorithm of your own is a frozen dataclass that subclasses `Algorithm`, decorated with
`jax.tree_util.register_dataclass`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.core.settings import NonNegative
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.scores import Bonus, gradient_and_distributions
from policygrad.policies.meeting import Policy

STATIC = {"static": True}
Schedule = Literal["constant", "linear"]


class ValueTargets(NamedTuple):
    """What the values that a policy's own network gives are to be fitted to.

    Attributes:
        returns: `[T, B]`.
        coefficient: `[]`, weight of the squared error.
    """

    returns: Float[Array, "T B"]
    coefficient: Float[Array, ""]


class Batch(NamedTuple):
    """What an algorithm's `improve` reads.

    Attributes:
        trajectories: the batch.
        psi: `[T, B]`, the weight of every score.
        remaining: `[]`, in [0, 1]: if steps shrink, the share of the run that is left; else 1.
        values: of a policy whose network gives a value too (`Valued`); None for any other.
    """

    trajectories: Trajectories
    psi: Float[Array, "T B"]
    remaining: Float[Array, ""]
    values: ValueTargets | None = None


class Improved(NamedTuple):
    """What `improve` returns.

    Attributes:
        policy: the improved policy.
        improver: the algorithm's new state.
        before: distributions of the policy that acted, in the units of `policies.meeting.units`.
        gradient_norm: `[]`, length of the gradient, before it is shortened; logged.
        step_size: `[]`; logged.
        more: further numbers `[]`, logged under their names.
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
        suggests: defaults for settings of other records (the discount, the critic's passes, …),
            used unless the user gives a value: name -> value.
        suggests_for_pictures: the same, where an observation is a picture.
        fits_values: whether `improve` fits the values of a policy whose network gives them.
        sized_by_kl: whether a KL target sets the length of a step; a step size is then not read.
    """

    entropy_coefficient: NonNegative = 0.0
    """Weight of the entropy bonus: what is maximised includes this times the policy's entropy."""
    step_size_schedule: Schedule = field(default="constant", metadata=STATIC)
    """constant, or linear: steps shrink to zero over the run."""

    fits_values: ClassVar[bool] = False
    suggests: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    suggests_for_pictures: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    sized_by_kl: ClassVar[bool] = False

    @abstractmethod
    def start(self, differentiated: PyTree) -> PyTree:
        """The algorithm's state before the first update: a pytree of arrays.

        Args:
            differentiated: the policy's leaves that are differentiated.
        """

    @abstractmethod
    def improve(
        self, key: PRNGKeyArray, policy: Policy, improver: PyTree, batch: Batch
    ) -> Improved:
        """The improved policy. Pure; the key is consumed.

        Args:
            key: for random numbers.
            policy: the policy that acted.
            improver: the state from `start` or from the previous update.
            batch: the batch to improve from.
        """

    def adapt(
        self,
        improver: PyTree,
        kl: Float[Array, ""],
        remaining: Float[Array, ""],
        held: Bool[Array, ""],
    ) -> PyTree:
        """The algorithm's state after the KL of the update is known.

        Args:
            improver: the state that `improve` returned.
            kl: `[]`, nats: mean KL(old ‖ new) over the batch's states.
            remaining: `[]`, as in `Batch`.
            held: `[]`, whether steps must not grow, because a small KL does not say that they are
                short: the policy is nearly certain (`policy_change.nearly_certain`), or no step of
                the batch has a weight.
        """
        del kl, remaining, held
        return improver

    def ascent(self, policy: Policy, batch: Batch) -> tuple[PyTree, PyTree]:
        """The policy gradient, plus those of the entropy bonus and of shared values, if any.

        Returns:
            pytree like the policy, pointing uphill; and the distributions of the policy that acted,
            in the units of `policies.meeting.units`.
        """
        return gradient_and_distributions(
            policy, batch.trajectories, batch.psi, self.bonus(batch.values)
        )

    def bonus(self, values: ValueTargets | None) -> Bonus | None:
        """What is ascended beside the returns, of one step: the entropy, and less the error of the
        value. None for nothing."""
        entropy = self.entropy_coefficient
        if values is None:
            return None if entropy is None else (lambda p: entropy * p.entropy(), ())

        def of_step(p: Any, target: Float[Array, ""]) -> Float[Array, ""]:
            error = -0.5 * values.coefficient * (p.value - target) ** 2
            return error if entropy is None else error + entropy * p.entropy()

        return of_step, (values.returns,)


def traced(algorithm: Algorithm) -> Algorithm:
    """The algorithm with arrays in place of its numbers, so that other numbers compile nothing.

    An entropy coefficient of zero becomes None; the entropy's gradient is then not computed.
    """
    if algorithm.entropy_coefficient == 0:
        algorithm = replace(algorithm, entropy_coefficient=None)  # pyright: ignore
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), algorithm)
