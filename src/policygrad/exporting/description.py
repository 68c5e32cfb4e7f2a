"""What a policy computes, as plain data and arrays: every format of an export is made from it."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.errors import UserError
from policygrad.exporting.numpy_policy import mapped
from policygrad.policies import MLP, Agent, NetworkPolicy, ObservationNormaliser
from policygrad.spaces import (
    ACTION_MASK,
    Box,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Nested,
    ObservationEncoder,
    Space,
    observation_space_of,
)
from policygrad.spaces.pictures import is_reordered

Tree = dict[str, Any]
Arrays = dict[str, np.ndarray]

ACTIVATIONS = {jnp.tanh: "tanh", jax.nn.relu: "relu"}
ELSEWHERE = (
    "export knows the policies that network_policy makes of fully connected layers. Translate this "
    "one in Python by jax2onnx, or by jax.export for a machine with JAX"
)


class Description(NamedTuple):
    """A policy without JAX.

    Attributes:
        data: `observation` and `action` are trees: a Dict or Tuple has `parts`. A part of an
            observation has kind measurements, which are whole numbers between two or any, or
            choices. A part of an action has kind categorical,
            bernoulli or gaussian; it names the range of the network's `outputs` that it reads, and
            the range of the `mask`, where all masks stand one after the other.
            `layers` is the number of layers, `activation` stands between them.
        arrays: `mean`, `scale` and `limit`, `[f]`, normalise the features; `weight_i` `[out, in]`
            and `bias_i` are the layers; `NAME/log_std`, and the middle, half range and bounds of
            the actions, `[*shape]`, belong to the Gaussian part NAME.
    """

    data: Tree
    arrays: Arrays


def describe(agent: Agent) -> Description:
    """The description of an agent's policy.

    Raises:
        UserError: the policy is not one that this library made of fully connected layers.
    """
    policy, space = agent.policy, observation_space_of(agent.observation_space)
    _check(policy, space)
    observation = _observation(space, "observation")
    acted_in = policy.action_space
    outputs, mask = np.arange(acted_in.parameters), _mask_columns(observation)
    action, of_action = _action(acted_in, outputs, policy.log_std, mask, policy.squash, "action")
    data = {
        "observation": observation,
        "action": action,
        "layers": len(policy.network.weights),
        "activation": ACTIVATIONS[policy.network.activation],
    }
    arrays = _normalisation(policy.normaliser, space) | _layers(policy.network) | of_action
    return Description(data, arrays)


def _check(policy: Any, space: Space) -> None:
    if type(policy) is not NetworkPolicy:
        kind = f"{type(policy).__module__}.{type(policy).__qualname__}"
        raise UserError(f"cannot export a policy of the class {kind}: {ELSEWHERE}")
    network, normaliser = policy.network, policy.normaliser
    if not isinstance(network, MLP) or network.activation not in ACTIVATIONS:
        raise UserError(f"cannot export a network of {policy.architecture}: {ELSEWHERE}")
    encoder = ObservationEncoder(space)
    if type(normaliser) is not ObservationNormaliser or normaliser.encode != encoder:
        raise UserError(f"cannot export a policy with an encoder of its own: {ELSEWHERE}")


# ----- observations


def _observation(space: Space, name: str, *, is_mask: bool = False, feature: bool = True) -> Tree:
    """The tree of an observation space; of a mask it is said whether it is a feature too."""
    if isinstance(space, Nested):
        read = [key for key, _ in space.read]
        found = [
            _observation(
                part,
                _below(name, key),
                is_mask=is_mask or key == ACTION_MASK,
                feature=feature and key in read,
            )
            for key, part in space.entries
        ]
        return {"kind": type(space).__name__, "parts": space.like(found)}
    part: Tree = {"name": name, "is_feature": feature, "is_mask": is_mask}
    match space:
        case Discrete() | MultiDiscrete():
            return {"kind": "choices", **part, **_choices(space)}
        case Box() | MultiBinary():
            if isinstance(space, Box) and space.picture is not None and is_reordered(space.shape):
                raise UserError(
                    f"cannot export {name}, several pictures whose channels stand last: {ELSEWHERE}"
                )
            return {"kind": "measurements", **part, **_array(space), "whole": _whole(space)}
    raise TypeError(f"no description of {space}")


def _whole(space: Box | MultiBinary) -> list[int] | None:
    """The least and the greatest of the whole numbers that `Agent` takes; None for fractions."""
    if isinstance(space, MultiBinary) or space.recorded_dtype.kind == "b":
        return [0, 1]
    if space.recorded_dtype.kind not in "iu":
        return None
    limits = np.iinfo(space.recorded_dtype)
    return [int(limits.min), int(limits.max)]


def _mask_columns(observation: Tree) -> Any:
    """Masks of actions as an observation holds them, with the numbers of their columns as flags."""
    end = 0

    def columns(part: Tree) -> np.ndarray | None:
        nonlocal end
        if not part["is_mask"]:
            return None
        end += math.prod(part["shape"])
        return np.arange(end - math.prod(part["shape"]), end)

    return _mask_in(mapped(columns, observation))


def _mask_in(observation: Any) -> Any:
    """What stands under the name of a mask, at any depth; None if nothing does."""
    if isinstance(observation, dict) and ACTION_MASK in observation:
        return observation[ACTION_MASK]
    inner = observation.values() if isinstance(observation, dict) else observation
    if not isinstance(observation, (dict, tuple)):
        return None
    return next((mask for x in inner if (mask := _mask_in(x)) is not None), None)


def _choices(space: Discrete | MultiDiscrete) -> Tree:
    """Shape, type, and for each choice how many values it has and which is the first."""
    if isinstance(space, Discrete):
        return {"shape": [], "dtype": space.dtype, "sizes": [space.n], "starts": [space.start]}
    sizes, starts = (np.array(x).ravel().tolist() for x in (space.nvec, space.start))
    return {
        "shape": list(space.sizes.shape), "dtype": space.dtype, "sizes": sizes, "starts": starts
    }  # fmt: skip


def _array(space: Box | MultiBinary) -> Tree:
    dtype = space.dtype if isinstance(space, Box) else "int8"
    return {"shape": list(space.shape), "dtype": dtype}


def _below(name: str, key: Any) -> str:
    """The name of an entry, escaped as in RFC 6901, so that no two names are alike."""
    return f"{name}/{str(key).replace('~', '~0').replace('/', '~1')}"


# ----- between them


def _normalisation(normaliser: ObservationNormaliser, space: Space) -> Arrays:
    """Mean, scale and limit of every feature; 0, 1 and infinity where it passes unchanged.

    A feature that never changed has a scale from 1e−15 to 1e−4, by the size of its mean. A
    picture's are those that map its darkest and its brightest number to 0 and 1.
    """
    features, structure = jax.tree.flatten(jax.eval_shape(normaliser.encode, space.example()))
    _, mean, variance = normaliser.statistics.value
    means, variances = structure.flatten_up_to(mean), structure.flatten_up_to(variance)
    columns = [np.zeros((3, 0))]
    for x, mean, variance, flag, (zero, one) in zip(
        features, means, variances, normaliser.normalised, _units(space), strict=True
    ):
        size = math.prod(x.shape)
        passing = np.repeat([[zero], [one - zero], [np.inf]], size, axis=1)
        if mean is not None:
            spread, limit = normaliser.spreads(mean, variance), np.full(size, normaliser.clip)
            normalised = np.stack([np.ravel(mean), np.ravel(spread), limit])
            passing = np.where(np.broadcast_to(flag, size), normalised, passing)
        columns.append(passing)
    rows = np.concatenate(columns, axis=1).astype(np.float32)
    return dict(zip(("mean", "scale", "limit"), rows, strict=True))


def _units(space: Space) -> Iterator[tuple[float, float]]:
    """For each array of features, the numbers that are read as 0 and as 1."""
    if isinstance(space, Nested):
        for _, part in space.read:
            yield from _units(part)
    else:
        yield space.unit if isinstance(space, Box) else (0.0, 1.0)


def _layers(network: MLP) -> Arrays:
    arrays: dict[str, Any] = {f"weight_{i}": x for i, x in enumerate(network.weights)}
    arrays |= {f"bias_{i}": x for i, x in enumerate(network.biases)}
    return {name: np.asarray(x, np.float32) for name, x in arrays.items()}


# ----- actions


def _action(
    space: Space, outputs: np.ndarray, log_std: Any, mask: Any, squash: bool, name: str
) -> tuple[Tree, Arrays]:
    """The tree of an action space, and the arrays of its parts.

    Args:
        space: acted in.
        outputs: `[n]`, the numbers of the network's outputs that are the space's own.
        log_std: `[k]`, its own; None without a Box.
        mask: the numbers of the columns of its mask, in the structure of the mask; None without.
        squash: whether Gaussians are squashed by tanh.
        name: of the space.
    """
    if isinstance(space, Nested):
        trees, arrays = [], {}
        for key, share in space.shares(outputs, log_std, mask):
            tree, own = _action(*share, squash, _below(name, key))
            trees.append(tree)
            arrays |= own
        return {"kind": type(space).__name__, "parts": space.like(trees)}, arrays
    part: Tree = {"name": name, "outputs": _range(outputs), "mask": _range(mask)}
    match space:
        case Discrete() | MultiDiscrete():
            return {"kind": "categorical", **part, **_choices(space)}, {}
        case MultiBinary():
            return {"kind": "bernoulli", **part, **_array(space)}, {}
        case Box():
            arrays = {f"{name}/{key}": x for key, x in _gaussian(space, log_std).items()}
            return {"kind": "gaussian", **part, "squash": squash, **_array(space)}, arrays
    raise TypeError(f"no description of {space}")


def _range(columns: np.ndarray | None) -> list[int] | None:
    """First and end of consecutive numbers."""
    return None if columns is None else [int(columns[0]), int(columns[-1]) + 1]


def _gaussian(space: Box, log_std: Any) -> Arrays:
    """The spread, `[*shape]`, and what brings an action into the environment, in 64 bits."""
    middle, half = space.scale
    low, high = (x.astype(np.float64) for x in space.limits)
    log_std = np.asarray(log_std, np.float32).reshape(space.shape)
    return {"log_std": log_std, "middle": middle, "half": half, "low": low, "high": high}
