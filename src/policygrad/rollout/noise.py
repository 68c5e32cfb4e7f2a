"""Noise on observations: the policy sees them, and the environment goes on without it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from jaxtyping import PRNGKeyArray, PyTree

from policygrad.core.errors import UserError
from policygrad.environments.lanes import Lanes
from policygrad.environments.protocol import CompiledEnvironment, Step
from policygrad.rollout.compiled import CompiledSource
from policygrad.rollout.host_source import HostSource
from policygrad.rollout.source import Source


def with_noise(source: Source, deviation: Any) -> Source:
    """The source, with independent Gaussian noise on every observation.

    Args:
        source: of lanes or of a compiled environment.
        deviation: standard deviation, in the units of the observation: a number, or an array of the
            observation's shape.

    Raises:
        UserError: observations without real numbers, or a deviation that does not fit.
    """
    scale = deviations(source.observation_space, deviation)
    if source.pure is not None:
        return CompiledSource(NoisyEnvironment(source.pure, scale), source.num_envs)
    lanes = getattr(source, "lanes", None)
    if lanes is None:
        raise UserError(f"{type(source).__name__} takes no noise on its observations")
    return HostSource(NoisyLanes(lanes, scale))


def deviations(space: spaces.Space, deviation: Any) -> PyTree:
    """One standard deviation for each part of an observation; 0 for a part without real numbers.

    Raises:
        UserError: no part has real numbers, or a deviation does not fit.
    """
    try:
        scale = np.asarray(deviation, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"observation_noise must be numbers, got {deviation!r}") from error
    if not (np.all(np.isfinite(scale)) and np.all(scale >= 0)):
        raise UserError(f"observation_noise must be at least 0 and finite, got {deviation}")
    found: list[spaces.Box] = []

    def of(part: spaces.Space, masks: bool = False) -> Any:
        if isinstance(part, spaces.Dict):
            return {k: of(v, masks or k == "action_mask") for k, v in part.spaces.items()}
        if isinstance(part, spaces.Tuple):
            return tuple(of(v, masks) for v in part.spaces)
        if masks or not isinstance(part, spaces.Box) or part.dtype.kind != "f":
            return np.float32(0)
        found.append(part)
        return scale

    tree = of(space)
    if not found:
        raise UserError(f"observation_noise is added to real numbers, and {space} has none")
    for box in found:
        if scale.shape and scale.shape != box.shape:
            raise UserError(
                f"observation_noise must be a number or have the shape {list(box.shape)} of an "
                f"observation, got {list(scale.shape)}"
            )
    return tree


class NoisyLanes:
    """Lanes whose observations carry noise; all else is theirs.

    Args:
        lanes: what steps.
        scale: pytree like an observation, standard deviations.
    """

    def __init__(self, lanes: Lanes, scale: PyTree) -> None:
        self.num_envs, self.time_limit = lanes.num_envs, lanes.time_limit
        self.observation_space, self.action_space = lanes.observation_space, lanes.action_space
        self._lanes, self._scale = lanes, scale
        self._random = np.random.default_rng(0)

    def start(self, seed: int) -> None:
        """Begin fresh episodes; the noise follows from the seed too."""
        self._random = np.random.default_rng([seed, 1])
        self._lanes.start(seed)

    def step(self, actions: Any) -> Any:
        """One step of every lane; its successors carry no noise."""
        return self._lanes.step(actions)

    @property
    def observations(self) -> Any:
        """What the policy sees next. Each reading draws noise anew."""

        def noisy(scale: Any, values: Any) -> Any:
            values = np.asarray(values)
            if not np.any(scale):
                return values
            noise = self._random.standard_normal(values.shape, np.float32)
            return (values + scale * noise).astype(values.dtype)

        return jax.tree.map(noisy, self._scale, self._lanes.observations)

    @property
    def times(self) -> Any:
        """`[B]`, the steps that the running episodes already had."""
        return self._lanes.times

    def close(self) -> None:
        """Release the environments."""
        self._lanes.close()


class NoisyEnvironment:
    """A compiled environment whose observations carry noise.

    Args:
        environment: pure, unbatched.
        scale: pytree like an observation, standard deviations.
    """

    def __init__(self, environment: CompiledEnvironment, scale: PyTree) -> None:
        self.observation_space = environment.observation_space
        self.action_space = environment.action_space
        self.time_limit = environment.time_limit
        self._environment, self._scale, self.adapts = environment, scale, environment

    def reset(self, key: PRNGKeyArray) -> tuple[PyTree, PyTree]:
        """-> (state, observation). The key is consumed."""
        state, observation = self._environment.reset(key)
        return state, self._noisy(key, observation)

    def step(self, key: PRNGKeyArray, state: PyTree, action: PyTree) -> Step:
        """As the environment's own. The key is consumed."""
        state, observation, *rest = self._environment.step(key, state, action)
        found: Any = state, self._noisy(key, observation), *rest
        return found

    def _noisy(self, key: PRNGKeyArray, observation: PyTree) -> PyTree:
        scales, structure = jax.tree.flatten(self._scale)
        keys = jax.random.split(jax.random.fold_in(key, 0x4015E), len(scales))

        def noisy(scale: Any, key: PRNGKeyArray, values: Any) -> Any:
            values = jnp.asarray(values)
            if not np.any(scale):
                return values
            if not jnp.issubdtype(values.dtype, jnp.floating):
                values = values.astype(jnp.float32)
            return values + scale * jax.random.normal(key, values.shape, values.dtype)

        return jax.tree.map(noisy, self._scale, structure.unflatten(list(keys)), observation)
