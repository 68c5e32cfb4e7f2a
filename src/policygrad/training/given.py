"""What was passed to a run as a value, in place of a name."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import optax

from policygrad.algorithms import Algorithm
from policygrad.gradients.weights import Estimator
from policygrad.policies import Agent


@dataclass(frozen=True)
class Given:
    """Values that were passed in place of names; None if none was.

    Attributes:
        policy: observation -> distribution.
        algorithm: a record.
        estimator: an `Estimator`.
        optimiser: an optax transformation.
        network: an architecture, of policy and critic.
    """

    policy: Any = None
    algorithm: Algorithm | None = None
    estimator: Estimator | None = None
    optimiser: optax.GradientTransformation | None = None
    network: Any = None

    @property
    def plain_policy(self) -> Any:
        """The policy, of an agent too."""
        return self.policy.policy if isinstance(self.policy, Agent) else self.policy

    @property
    def names(self) -> list[str]:
        """Which values were passed."""
        return [f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None]
