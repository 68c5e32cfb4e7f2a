"""What a JAX-native environment returns, read as programs are traced: every structure, shape and
kind of number is checked there, and costs nothing as they run."""

import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from policygrad.core.errors import EnvironmentFailure, PolicygradError, UserError
from policygrad.core.modules import in_types_of, is_array
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.reading import reader
from policygrad.spaces import action_space_of
from policygrad.spaces.reading import NotOfSpace, short
from policygrad.spaces.traced import is_real, read_traced

KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)  # each holds those before it


class TracedStep(NamedTuple):
    """One step of one environment, as it was read.

    Attributes:
        state: in the types of the state before it.
        observation: as a record keeps it.
        reward, terminated, truncated: `[]`.
        info: empty where the step gave none.
    """

    state: PyTree
    observation: PyTree
    reward: Float[Array, ""]
    terminated: Bool[Array, ""]
    truncated: Bool[Array, ""]
    info: Mapping[Any, Any]


def class_of(environment: Any) -> str:
    """The name of the class that a user wrote."""
    while hasattr(environment, "adapts"):
        environment = environment.adapts
    return type(environment).__name__


def check_time_limit(environment: CompiledEnvironment) -> None:
    """Raise UserError unless the time limit is a whole number of steps, or None."""
    limit = environment.time_limit
    if limit is None:
        return
    if isinstance(limit, bool) or not hasattr(limit, "__index__") or int(limit) < 1:
        raise UserError(
            f"the time_limit of {class_of(environment)} is {limit!r}; it must be a whole number of "
            "steps, at least 1, or None"
        )


def reset_of(environment: CompiledEnvironment, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
    """-> (state, observation as a record keeps it). The key is consumed.

    Raises:
        EnvironmentFailure: it raised, or returned something else.
    """
    returned = _called(environment, "reset", key)
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        _refuse(environment, "reset", f"{_count(returned)}, expected (state, observation)")
    state, observation = returned
    _refuse_objects(environment, "reset", state)
    return state, _observation(environment, "reset", observation)


def step_of(
    environment: CompiledEnvironment, key: PRNGKeyArray, state: PyTree, action: PyTree
) -> TracedStep:
    """One step, read. The key is consumed.

    Args:
        environment: takes actions of its space.
        key: of the step.
        state: before it.
        action: as a policy draws it; converted as `ActionSpace.to_environment` does.

    Raises:
        UserError: other than five values, or six of which the last is a dict.
        EnvironmentFailure: it raised, or returned values of other types.
    """
    action = action_space_of(environment.action_space).to_environment(action, jnp)
    returned = _called(environment, "step", key, state, action)
    info = returned[5] if isinstance(returned, (tuple, list)) and len(returned) == 6 else {}
    counted = isinstance(returned, (tuple, list)) and len(returned) in (5, 6)
    if not counted or not isinstance(info, Mapping):
        raise UserError(
            f"{class_of(environment)}.step returns {_count(returned)}, expected (state, "
            "observation, reward, terminated, truncated), and behind them the info, a dict, "
            "if there is one"
        )
    after, observation, reward, terminated, truncated = returned[:5]
    return TracedStep(
        _state(environment, state, after),
        _observation(environment, "step", observation),
        _one(environment, "reward", reward, "one real number").astype(jnp.float32),
        _flag(environment, "terminated", terminated),
        _flag(environment, "truncated", truncated),
        info,
    )


def refuse_other_types(environment: Any, what: str, first: PyTree, later: PyTree) -> None:
    """Raise EnvironmentFailure unless what `reset` returned has the shapes of what `step` returned,
    and can hold its numbers.

    Args:
        environment: named in errors.
        what: state, or observation.
        first, later: of reset and of step, of one structure.
    """
    places = jax.tree_util.tree_leaves_with_path(first)
    for (place, old), new in zip(places, jax.tree.leaves(later), strict=True):
        (shape, dtype), (others, other) = ((jnp.shape(x), jnp.result_type(x)) for x in (old, new))
        if shape != others or not _holds(dtype, other):
            _refuse(
                environment, "step",
                f"{what}{jax.tree_util.keystr(place)} of shape {others} and type {other}, and "
                f"reset one of shape {shape} and type {dtype}; both must be the same",
            )  # fmt: skip


def _called(environment: Any, method: str, *arguments: Any) -> Any:
    try:
        return getattr(environment, method)(*arguments)
    except PolicygradError:
        raise
    except Exception as error:
        raise EnvironmentFailure(
            f"{class_of(environment)}.{method} raised {type(error).__name__}: {error} when it was "
            f"traced\n{''.join(traceback.format_exception(error))}"
        ) from error


def _refuse(environment: Any, method: str, what: str) -> NoReturn:
    raise EnvironmentFailure(f"{class_of(environment)}.{method} returned {what}")


def _count(returned: Any) -> str:
    if isinstance(returned, (tuple, list)):
        return f"{len(returned)} values"
    return f"one value of type {type(returned).__name__}"


def _observation(environment: CompiledEnvironment, method: str, value: Any) -> PyTree:
    try:
        return read_traced(reader(environment.observation_space), value)
    except NotOfSpace as error:
        _refuse(environment, method, str(error))


def _one(environment: Any, name: str, value: Any, expected: str) -> Array:
    """One number that a step returned, `[]`."""
    if not (is_array(value) or isinstance(value, (bool, int, float))):
        _refuse(environment, "step", f"{name} {short(value)}, expected {expected}")
    array = jnp.asarray(value)
    flag_of_floats = name != "reward" and jnp.issubdtype(array.dtype, jnp.floating)
    if array.shape not in ((), (1,)) or not is_real(array) or flag_of_floats:
        of = f"of shape {array.shape} and type {array.dtype}"
        _refuse(environment, "step", f"{name} {of}, expected {expected}")
    return array.reshape(())


def _flag(environment: Any, name: str, value: Any) -> Bool[Array, ""]:
    return _one(environment, name, value, "True or False, of shape ()") != 0


def _state(environment: Any, before: PyTree, after: PyTree) -> PyTree:
    """The state after a step, in the types of the one before it, which must be able to hold it."""
    structures = jax.tree.structure(before), jax.tree.structure(after)
    if structures[0] != structures[1]:
        _refuse(
            environment, "step",
            f"a state of the structure {structures[1]}, and reset one of {structures[0]}; both "
            "must be the same",
        )  # fmt: skip
    _refuse_objects(environment, "step", after)
    refuse_other_types(environment, "state", before, after)
    return in_types_of(before, after)


def _refuse_objects(environment: Any, method: str, state: PyTree) -> None:
    for place, leaf in jax.tree_util.tree_leaves_with_path(state):
        if not (is_array(leaf) or isinstance(leaf, (bool, int, float, complex))):
            at = f"state{jax.tree_util.keystr(place)}"
            _refuse(environment, method, f"{at} {short(leaf)}, expected arrays and numbers alone")


def _holds(dtype: Any, other: Any) -> bool:
    """Whether an array of a type can hold numbers of another kind."""
    rank, others = (
        next((i for i, kind in enumerate(KINDS) if jnp.issubdtype(x, kind)), None)
        for x in (dtype, other)
    )
    return dtype == other if rank is None or others is None else rank >= others
