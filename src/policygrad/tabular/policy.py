"""Policies on a finite MDP: softmax in a table or in features, or any function of parameters.

The laboratory reads two things from a policy: its probabilities π(a|s) and its scores
∇_θ log π(a|s). With one parameter for each state and action, a score is zero outside the block of
its state. `OwnBlock` stores that block alone, `[S, A, A]`, where `Dense` stores `[S, A, d]`. This
keeps large tables cheap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from policygrad.core.checks import numbers
from policygrad.core.modules import Carried, is_array
from policygrad.maths.distributions import Categorical
from policygrad.tabular.mdp import Edges, FiniteMDP, distributions
from policygrad.tabular.precision import in_float64


class Dense(NamedTuple):
    """Scores stored in full, `z[s, a]` in R^d."""

    z: Float[Array, "S A d"]

    @property
    def squares(self) -> Float[Array, "S A"]:
        """‖z‖²."""
        return jnp.sum(self.z**2, axis=-1)

    def mean(self, weights: Float[Array, "S A"]) -> Float[Array, "S d"]:
        """Σ_a weight × score."""
        return jnp.einsum("sa,sad->sd", weights, self.z)

    def dots(self, edges: Edges, vectors: Float[Array, "S d"]) -> Float[Array, "S A K"]:
        """Score of each edge's state and action · vector of its successor."""
        if edges.successors is None:
            return jnp.einsum("sad,td->sat", self.z, vectors)
        slots = jnp.moveaxis(edges.successors, 2, 0)
        return jnp.stack([jnp.einsum("sad,sad->sa", self.z, vectors[k]) for k in slots], axis=2)


class OwnBlock(NamedTuple):
    """Scores of a softmax with one parameter per state and action, 1[b = a] − π(b|s): zero outside
    the A entries of the state, and all zero where an episode has ended."""

    block: Float[Array, "S A A"]

    @property
    def z(self) -> Float[Array, "S A d"]:
        """The same scores, stored in full."""
        states, actions, _ = self.block.shape
        own = jnp.eye(states)[:, None, :, None]
        return (own * self.block[:, :, None, :]).reshape(states, actions, states * actions)

    @property
    def squares(self) -> Float[Array, "S A"]:
        """‖z‖²."""
        return jnp.sum(self.block**2, axis=-1)

    def mean(self, weights: Float[Array, "S A"]) -> Float[Array, "S d"]:
        """Σ_a weight × score."""
        states = len(weights)
        block = jnp.einsum("sa,sab->sb", weights, self.block)
        return (jnp.eye(states)[:, :, None] * block[:, None, :]).reshape(states, -1)

    def dots(self, edges: Edges, vectors: Float[Array, "S d"]) -> Float[Array, "S A K"]:
        """Score of each edge's state and action · vector of its successor."""
        states, actions, _ = self.block.shape
        blocks = vectors.reshape(states, states, actions)
        if edges.successors is None:
            return jnp.einsum("sab,tsb->sat", self.block, blocks)
        own = jnp.arange(states)[:, None, None]
        return jnp.einsum("sab,sakb->sak", self.block, blocks[edges.successors, own])


Scores = Dense | OwnBlock


class Tabulated(NamedTuple):
    """Probabilities and scores of a policy.

    Attributes:
        probabilities: `[S, A]`.
        scores: z(s, a); zero in absorbing states, where no action matters.
    """

    probabilities: Float[Array, "S A"]
    scores: Scores


class TabularPolicy(Protocol):
    """A policy that can be tabulated on an MDP."""

    def probabilities_on(self, mdp: FiniteMDP) -> Float[Array, "S A"]:
        """`[S, A]`, differentiable in the policy's parameters."""
        ...

    def tabulate(self, mdp: FiniteMDP) -> Tabulated:
        """Probabilities and scores, in float64 JAX arrays."""
        ...


def _parameters(theta: Any) -> Any:
    return theta if isinstance(theta, Tracer) else numbers("theta", theta)


def _carried(features: Any) -> Carried[Any] | None:
    if features is None or isinstance(features, Carried):
        return features
    return Carried(features if isinstance(features, Tracer) else numbers("features", features))


class SoftmaxPolicy(eqx.Module):
    """π(a|s) ∝ exp(θᵀφ(s,a)); without features, one parameter per state and action.

    It is also a module, observation (the state's index) -> `Categorical`, so that it can be
    trained: θ is differentiated, and the features are carried.

    Args:
        theta: `[d]`; without features `[S, A]`, or flat `[S·A]` if only the laboratory reads it.
        features: `[S, A, d]`, φ. They are kept as `Carried`, which says that they are not
            differentiated.

    Raises:
        ValueError: shapes disagree, or a value is not finite.

    >>> SoftmaxPolicy([[0, 0], [1, 2]])(0).log_probs.shape
    (2,)
    """

    theta: Any = eqx.field(converter=_parameters)
    features: Carried[Any] | None = eqx.field(converter=_carried, default=None)

    def __check_init__(self) -> None:
        if self.features is None:
            return
        ours, theirs = np.shape(self.theta), np.shape(self.features.value)
        if len(theirs) != 3 or ours != theirs[-1:]:
            raise ValueError(f"theta [d] and features [S, A, d] disagree: {ours} and {theirs}")

    @classmethod
    def of(cls, theta: Any, features: Any = None) -> "SoftmaxPolicy":
        """The same as the constructor."""
        return cls(theta, features)

    def logits(self, states: int, actions: int) -> Float[Array, "S A"]:
        """`[S, A]`, differentiable in θ."""
        if self.features is not None:
            features = jnp.asarray(self.features.value)
            if features.shape[:2] != (states, actions):
                raise ValueError(
                    f"features are for {features.shape[:2]} states and actions, "
                    f"the MDP has {(states, actions)}"
                )
            return features @ jnp.asarray(self.theta)
        if np.size(self.theta) != states * actions:
            raise ValueError(
                f"theta has {np.size(self.theta)} entries, and {states} states × {actions} actions "
                f"need {states * actions}"
            )
        return jnp.reshape(jnp.asarray(self.theta), (states, actions))

    def __call__(self, observation: Int[Array, ""]) -> Categorical:
        if self.features is not None:
            return Categorical(jnp.asarray(self.features.value)[observation] @ self.theta)
        if jnp.ndim(self.theta) != 2:
            raise ValueError(f"theta must be [S, A] to act, got shape {jnp.shape(self.theta)}")
        return Categorical(jnp.asarray(self.theta)[observation])

    def probabilities_on(self, mdp: FiniteMDP) -> Float[Array, "S A"]:
        return jax.nn.softmax(self.logits(mdp.states, mdp.actions), axis=-1)

    @in_float64
    def tabulate(self, mdp: FiniteMDP) -> Tabulated:
        probabilities = self.probabilities_on(mdp)
        alive = jnp.asarray(mdp.edges.alive)[:, None, None]
        if self.features is None:
            block = jnp.eye(mdp.actions) - probabilities[:, None, :]
            return Tabulated(probabilities, OwnBlock(alive * block))
        features = jnp.asarray(self.features.value)
        mean = jnp.einsum("sa,sad->sd", probabilities, features)
        return Tabulated(probabilities, Dense(alive * (features - mean[:, None])))


def _floating(theta: PyTree) -> PyTree:
    def convert(leaf: Any) -> Any:
        kept = is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf if kept else numbers("theta", leaf)

    return jax.tree.map(convert, theta)


class FunctionPolicy(eqx.Module):
    """Any differentiable function θ → π[S, A]. Automatic differentiation computes its scores.

    Where an action has the probability 0, its derivative must be 0 too. Otherwise `tabulate` raises
    a ValueError.

    Args:
        theta: pytree of floating-point arrays, θ.
        function: θ -> `[S, A]`, each row a distribution.
    """

    theta: PyTree = eqx.field(converter=_floating)
    function: Callable[[PyTree], Float[Array, "S A"]] = eqx.field(static=True)

    def probabilities_on(self, mdp: FiniteMDP) -> Float[Array, "S A"]:
        return jnp.asarray(self.function(self.theta))

    @in_float64
    def tabulate(self, mdp: FiniteMDP) -> Tabulated:
        theta, unravel = ravel_pytree(jax.tree.map(jnp.asarray, self.theta))
        probabilities = jnp.asarray(self.function(self.theta))
        _check_policy(np.asarray(probabilities), mdp)
        gradient = jax.jacrev if np.size(probabilities) < theta.size else jax.jacfwd
        jacobian = gradient(lambda flat: self.function(unravel(flat)))(theta)
        possible = probabilities > 0
        _check_support(np.asarray(~possible), np.asarray(jacobian), mdp)
        divisor = jnp.where(possible, probabilities, 1.0)[..., None]
        z = jnp.asarray(jnp.where(possible[..., None], jacobian / divisor, 0.0))
        return Tabulated(probabilities, Dense(jnp.asarray(mdp.edges.alive)[:, None, None] * z))

    def __call__(self, observation: Int[Array, ""]) -> Categorical:
        return Categorical(jnp.log(self.function(self.theta)[observation]))


@dataclass(frozen=True)
class FixedPolicy:
    """A table of probabilities without parameters: what policy iteration returns."""

    probabilities: Float[np.ndarray, "S A"]

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "probabilities", distributions("probabilities", self.probabilities)
        )

    def probabilities_on(self, mdp: FiniteMDP) -> Float[Array, "S A"]:
        return jnp.asarray(self.probabilities)

    @in_float64
    def tabulate(self, mdp: FiniteMDP) -> Tabulated:
        _check_policy(np.asarray(self.probabilities), mdp)
        return Tabulated(
            jnp.asarray(self.probabilities), Dense(jnp.zeros((mdp.states, mdp.actions, 0)))
        )


def _check_support(
    impossible: Bool[np.ndarray, "S A"], jacobian: Float[np.ndarray, "S A d"], mdp: FiniteMDP
) -> None:
    """Raise ValueError where ∇π ≠ π ∇log π: an action has the probability 0, and its derivative is
    not 0."""
    living = ~mdp.absorbing[:, None]
    lost = np.argwhere(impossible & living & np.any(jacobian != 0, axis=-1))
    if len(lost):
        s, a = lost[0]
        raise ValueError(
            f"π(a={a}|s={s}) is 0 and its derivative by θ is not, so which actions can be taken "
            "depends on θ, and no score stands for that derivative; move theta to where every "
            "such action has a probability"
        )


def _check_policy(probabilities: np.ndarray, mdp: FiniteMDP) -> None:
    shape = mdp.states, mdp.actions
    if probabilities.shape != shape:
        raise ValueError(f"the policy has shape {probabilities.shape}, the MDP needs {shape}")
    sums = probabilities.sum(axis=1)
    wrong = ~(np.abs(sums - 1) < 1e-9) | np.any(probabilities < 0, axis=1)
    if wrong.any():
        s = int(np.argmax(wrong))
        raise ValueError(f"π(·|s={s}) is no distribution: {probabilities[s]}")
