"""The interface of a distribution."""

from typing import Any, Protocol

from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class Distribution(Protocol):
    """What a policy returns for one observation."""

    def log_prob(self, action: PyTree) -> Float[Array, ""]:
        """log π(action), nats."""
        ...

    def sample(self, key: PRNGKeyArray) -> PyTree:
        """One action. The key is consumed."""
        ...

    def mode(self) -> PyTree:
        """The most probable action."""
        ...

    def entropy(self) -> Float[Array, ""]:
        """−E log π, nats."""
        ...

    def kl(self, other: Any) -> Float[Array, ""]:
        """KL(self ‖ other) = E_self[log self − log other], nats."""
        ...
