"""Architectures: the kind of network that policy and critic are made of.

An architecture is a frozen, hashable record. A run uses one for both policy and critic. Its JSON is
saved with a policy. An architecture of your own is any frozen dataclass with the two methods of
`Architecture`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.checks import whole
from policygrad.core.errors import RunError
from policygrad.policies.memory import Memory, RecurrentNetwork
from policygrad.policies.networks import MLP, NormalisedMLP, mlp
from policygrad.policies.pictures import Convolutional, Impala, minatar, small
from policygrad.spaces import Space
from policygrad.spaces.pictures import height_and_width

ACTIVATIONS: dict[str, Callable] = {"tanh": jnp.tanh, "relu": jax.nn.relu}

Network = Callable[[PyTree], Float[Array, " outputs"]]


@runtime_checkable
class Architecture(Protocol):
    """How a network is built."""

    def build(
        self, key: PRNGKeyArray, example: PyTree, outputs: int, *, last_scale: float = 1.0
    ) -> Network:
        """A network with fresh weights. It is called on one observation's features, unbatched.

        Args:
            key: consumed.
            example: features of one observation, zeros: floating-point arrays in the shapes of the
                observation space's parts. A Box gives an array of its own shape, a Discrete its
                one-hot vector, a Dict a dict of its entries, without the `action_mask`.
            outputs: how many numbers the network returns.
            last_scale: factor on the weights of the last layer. A policy's network is built with
                0.01, so that it starts nearly uniform for every observation, and so is that of a
                critic that classifies. A value network is built with 1.

        Returns:
            A pytree, features -> `[outputs]`. Its floating-point arrays are what is learned.
        """
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain data: the keyword arguments that make an equal record."""
        ...


@dataclass(frozen=True)
class FullyConnected:
    """Dense layers one after another, on the features read as one vector.

    Attributes:
        hidden: sizes of the layers; none makes the network linear.
        activation: tanh or relu.
        layer_norm: whether each layer is normalised before its activation (Ba et al. 2016).

    Raises:
        ValueError: a size that is not a whole number of at least 1, or another activation.
    """

    hidden: Sequence[int] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"
    layer_norm: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.hidden, str) or np.ndim(self.hidden) != 1:
            raise ValueError(f"hidden must be sizes, such as (64, 64), got hidden={self.hidden!r}")
        for size in self.hidden:
            whole("hidden", size)
        object.__setattr__(self, "hidden", tuple(int(size) for size in self.hidden))
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be {' or '.join(ACTIVATIONS)}, got activation={self.activation!r}"
            )

    def build(
        self, key: PRNGKeyArray, example: PyTree, outputs: int, *, last_scale: float = 1.0
    ) -> MLP | NormalisedMLP:
        inputs = sum(np.size(leaf) for leaf in jax.tree.leaves(example))
        made = mlp(
            key,
            inputs,
            outputs,
            self.hidden,
            activation=ACTIVATIONS[self.activation],
            last_scale=last_scale,
        )
        return NormalisedMLP.of(made) if self.layer_norm else made

    def to_json(self) -> dict[str, Any]:
        other: dict[str, Any] = {} if self.activation == "tanh" else {"activation": self.activation}
        if self.layer_norm:
            other["layer_norm"] = True
        return {"hidden": list(self.hidden), **other}


BUILT_IN: tuple[type, ...] = (FullyConnected, Convolutional, Impala)


def usual(space: Space, hidden: Sequence[int] | None = None) -> FullyConnected | Convolutional:
    """The architecture for observations of a space: for pictures `small`, or `minatar` where they
    are too small for it.

    Args:
        space: of the observations.
        hidden: sizes of the dense layers; None for those of the architecture.
    """
    sides = [min(height_and_width(shape)) for shape in space.pictures]
    fitting = (made for made in (small(), minatar()) if made.least_side <= min(sides))
    made = next(fitting) if sides else FullyConnected()
    return made if hidden is None else replace(made, hidden=hidden)


def chosen(
    network: Architecture | None, hidden: Sequence[int] | None, space: Space
) -> Architecture:
    """The architecture that was passed, or the usual one with layers of the sizes that were passed.

    Args:
        network: an architecture, or None.
        hidden: sizes of its dense layers; None for its own.
        space: of the observations.

    Raises:
        ValueError: both were passed, or something that is not an architecture.
    """
    refuse_both(network, hidden)
    return usual(space, hidden) if network is None else checked(network)


def refuse_both(network: Any, hidden: Any) -> None:
    """Raise ValueError if sizes were passed beside an architecture, which holds its own."""
    if network is not None and hidden is not None:
        raise ValueError(
            f"hidden={hidden} sizes the layers of the default network, got network={network} too; "
            "give one"
        )


def checked(network: Any) -> Architecture:
    """An architecture; ValueError if it is none."""
    if isinstance(network, type) or not isinstance(network, Architecture):
        raise ValueError(
            "network must be an architecture, such as FullyConnected(hidden=(64, 64)) or a frozen "
            f"dataclass of your own with build and to_json, got {network!r}"
        )
    for what, check in (
        ("be hashable (a frozen dataclass is)", hash),
        ("give plain data by to_json()", lambda x: json.dumps(x.to_json())),
    ):
        try:
            check(network)
        except TypeError as error:
            raise ValueError(f"the architecture {network!r} must {what}: {error}") from error
    return network


def build(
    architecture: Architecture,
    key: PRNGKeyArray,
    encode: Callable[[PyTree], PyTree],
    observation: PyTree,
    outputs: int,
    *,
    last_scale: float = 1.0,
) -> Network:
    """A network for the encoded observations, which are like this one. Consumes the key.

    Raises:
        ValueError: the network does not return `[outputs]`.
    """
    shapes = jax.eval_shape(encode, observation)
    example = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    network = architecture.build(key, example, outputs, last_scale=last_scale)
    returned = jax.eval_shape(lambda features: network(features), example)
    if jax.tree.map(np.shape, returned) != (outputs,):
        raise ValueError(
            f"the network of {architecture} must return one array of shape [{outputs}], got "
            f"{returned} for features of the shapes {jax.tree.map(np.shape, example)}"
        )
    if not jnp.issubdtype(returned.dtype, jnp.floating):
        raise ValueError(
            f"the network of {architecture} must return floating-point numbers, got "
            f"{returned.dtype}, which has no gradient"
        )
    return network


def build_recurrent(
    architecture: Architecture,
    memory: Memory,
    key: PRNGKeyArray,
    encode: Callable[[PyTree], PyTree],
    observation: PyTree,
    outputs: int,
    *,
    last_scale: float = 1.0,
) -> RecurrentNetwork:
    """A network with memory; the architecture makes its encoder. Else as `build`."""
    encoder_key, memory_key = jax.random.split(key)
    encoder = build(architecture, encoder_key, encode, observation, memory.size)
    return RecurrentNetwork.of(memory_key, encoder, memory, outputs, last_scale=last_scale)


def describe(architecture: Architecture) -> dict[str, Any]:
    """What is saved of an architecture: the name of its class, and its JSON."""
    return {"class": _name(type(architecture)), "settings": architecture.to_json()}


def restore(description: dict[str, Any], own: Any, source: Any) -> Architecture:
    """The architecture that `describe` described. No class is ever imported by its saved name.

    Args:
        description: as it was saved.
        own: a user's own class, or any function of the saved keyword arguments, or the architecture
            itself; None for those of this library.
        source: named in errors.

    Raises:
        RunError: the class is not this library's and none was passed, or another one was.
    """
    name, settings = description["class"], description["settings"]
    built_in = {_name(kind): kind for kind in BUILT_IN}.get(name)
    if own is None:
        if built_in is None:
            raise RunError(
                f"{source} holds a network of the architecture {name}, which is not this "
                f"library's: pass network={name.rpartition('.')[2]}, its class, or an instance, to "
                "policygrad.load"
            )
        own = built_in
    if built_in is not None and built_in not in (own, type(own)):
        raise RunError(f"{source} holds a network of this library's {name}, got network={own!r}")
    if isinstance(own, Architecture) and not isinstance(own, type):
        if json.loads(json.dumps(own.to_json())) != settings:
            raise RunError(f"{source} holds a network of {name} with {settings}, got {own!r}")
        return own
    try:
        return own(**{k: _hashable(v) for k, v in settings.items()})
    except (TypeError, ValueError) as error:
        raise RunError(
            f"{source} holds a network of {name} with {settings}, from which {own!r} makes no "
            f"architecture: {error}"
        ) from error


def _name(kind: type) -> str:
    return kind.__qualname__ if kind in BUILT_IN else f"{kind.__module__}.{kind.__qualname__}"


def _hashable(value: Any) -> Any:
    """JSON's lists as tuples, so that a frozen record that holds them can be hashed."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
