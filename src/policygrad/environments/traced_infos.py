"""The numbers in the infos of a JAX-native environment: their names are known before any step."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.modules import is_array
from policygrad.environments.infos import Names, numbers_of
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.environments.traced_steps import refuse_other_types, reset_of, step_of
from policygrad.spaces import action_space_of


def info_names(environment: CompiledEnvironment) -> tuple[str, ...]:
    """The names of the numbers in the info of every step, in order. A reset and a step are traced
    for them, once for an environment, so that whatever these return is checked.

    Raises:
        UserError, EnvironmentFailure: as `reset_of` and `step_of`.
    """
    return _names(ById(environment))


@lru_cache
def _names(environment: ById[CompiledEnvironment]) -> tuple[str, ...]:
    env, key = environment.value, jax.random.key(0)

    def probe(key: PRNGKeyArray, state: PyTree) -> tuple[PyTree, dict[str, Array]]:
        action = jax.tree.map(jnp.asarray, action_space_of(env.action_space).example_action())
        step = step_of(env, key, state, action)
        return step.observation, traced_numbers(step.info)

    begun, first = jax.eval_shape(lambda key: reset_of(env, key), key)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), begun)
    later, found = jax.eval_shape(probe, key, state)
    refuse_other_types(env, "observation", first, later)
    names = Names()
    return tuple(name for name in sorted(found) if names.takes(name))


def step_with_numbers(
    environment: CompiledEnvironment, key: PRNGKeyArray, state: PyTree, action: PyTree
) -> tuple[PyTree, PyTree, Array, Array, Array, Float[Array, " N"] | None]:
    """-> (state, observation, reward, terminated, truncated, the numbers of `info_names`); None in
    place of the numbers if there are none. The key is consumed."""
    step = step_of(environment, key, state, action)
    names = info_names(environment)
    found = traced_numbers(step.info) if names else {}
    return (*step[:5], jnp.stack([found[name] for name in names]) if names else None)


def traced_numbers(info: Mapping[Any, Any]) -> dict[str, Float[Array, ""]]:
    """The numbers in the info of one environment, with names as of `numbers_of`."""
    return numbers_of(info, read=_traced_number)


def _traced_number(value: Any) -> Float[Array, ""] | None:
    if isinstance(value, (bool, int, float)):
        return jnp.float32(value)
    if not is_array(value) or jnp.size(value) != 1:
        return None
    if not any(
        jnp.issubdtype(value.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)
    ):
        return None
    return jnp.reshape(jnp.asarray(value, jnp.float32), ())
