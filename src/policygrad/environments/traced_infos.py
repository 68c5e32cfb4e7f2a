"""The numbers in the infos of a JAX-native environment: their names are known before any step."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.core.modules import is_array
from policygrad.environments.infos import Names, numbers_of
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.spaces import action_space_of


def info_names(environment: CompiledEnvironment) -> tuple[str, ...]:
    """The names of the numbers in the info of every step, in order.

    Raises:
        UserError: a step returns other than five values, or six of which the last is a dict.
    """
    return _names(ById(environment))


@lru_cache
def _names(environment: ById[CompiledEnvironment]) -> tuple[str, ...]:
    env = environment.value

    def probe(key: PRNGKeyArray) -> dict[str, Array]:
        action = jax.tree.map(jnp.asarray, action_space_of(env.action_space).example())
        returned = env.step(key, env.reset(key)[0], action)
        if len(returned) == 5:
            return {}
        if len(returned) != 6 or not isinstance(returned[5], Mapping):
            raise UserError(
                f"{type(env).__name__}.step returns {len(returned)} values, expected (state, "
                "observation, reward, terminated, truncated), and behind them the info, a dict, "
                "if there is one"
            )
        return traced_numbers(returned[5])

    names = Names()
    return tuple(
        name for name in sorted(jax.eval_shape(probe, jax.random.key(0))) if names.takes(name)
    )


def step_with_numbers(
    environment: CompiledEnvironment, key: PRNGKeyArray, state: PyTree, action: PyTree
) -> tuple[PyTree, PyTree, Array, Array, Array, Float[Array, " N"] | None]:
    """-> (state, observation, reward, terminated, truncated, the numbers of `info_names`); None in
    place of the numbers if there are none. The key is consumed."""
    row: Any = environment.step(key, state, action)
    names = info_names(environment)
    found = traced_numbers(row[5]) if names else {}
    return (*row[:5], jnp.stack([found[name] for name in names]) if names else None)


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
