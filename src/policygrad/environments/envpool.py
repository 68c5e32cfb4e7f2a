"""EnvPool: environments stepped by a pool of C++ threads, as a Gymnasium vector environment.

It differs from Gymnasium's own in three ways. A pool takes its seeds when it is made, so `reset`
with a seed makes a new one. It cannot reset one lane with a seed, so a resumed run goes on with
fresh episodes. If an episode terminates on the very step of its time limit, it reports only the
limit.
"""

import importlib
import math
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Array

from policygrad.core.errors import UserError
from policygrad.environments.arguments import not_taken
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.infos import NOT_READ
from policygrad.environments.names import nearest, refuse_what_steps_itself, require_extra
from policygrad.environments.replay import lane_seeds
from policygrad.spaces import observation_space_of, record_dtype

COUNTERS = frozenset(
    ("elapsed_step", "terminated", "reward")
)  # the engine's own, beside those of NOT_READ


def _library() -> Any:
    """EnvPool, imported by its name: a type checker without it would take this module for it."""
    return importlib.import_module("envpool")


def ids() -> list[str]:
    """The ids that EnvPool has."""
    return _library().list_all_envs()


def make_envpool(
    name: str,
    num_envs: int,
    *,
    processes: bool = False,
    kwargs: dict[str, Any] | None = None,
    first_lane: int = 0,
    step_timeout: float | None = None,
) -> GymnasiumLanes:
    """B lanes of one EnvPool id, which cannot be brought back to where they were.

    Args:
        name: without the engine before it.
        num_envs: B.
        processes, step_timeout: refused; a pool has its own threads, which nothing interrupts.
        kwargs: EnvPool's settings of the environment.
        first_lane: the number of the first lane; seeds follow from it.

    Raises:
        UserError: EnvPool is not installed, has no such id or does not take these settings.
    """
    refuse_what_steps_itself(f"envpool/{name}", processes, step_timeout)
    require_extra("envpool", f"envpool/{name}")
    known = ids()
    if name not in known:
        raise UserError(f"unknown environment envpool/{name}{nearest(name, known, 'envpool/')}")
    pool = Pool(name, num_envs, kwargs or {}, first_lane)
    return GymnasiumLanes(pool, pool.time_limit, replays=False)


class Pool(VectorEnv):
    """B environments of one EnvPool id.

    Args:
        name: an id of `envpool.list_all_envs()`.
        num_envs: B.
        kwargs: EnvPool's settings of the environment, such as `max_episode_steps`.
        first_lane: the number of the first lane; seeds follow from it.

    Attributes:
        info_names: of the numbers in an info.
        reads_infos: what `step` returns as info are `environments.infos.Infos`.

    Raises:
        UserError: EnvPool does not take these settings.
    """

    reads_infos = True

    def __init__(
        self, name: str, num_envs: int, kwargs: dict[str, Any], first_lane: int = 0
    ) -> None:
        self.name, self.num_envs, self._kwargs = name, num_envs, kwargs
        self._first_lane = first_lane
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._pool = self._make([0] * num_envs)
        self.single_observation_space: spaces.Space = self._pool.observation_space
        self.single_action_space: spaces.Space = self._pool.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.info_names = self._info_names()
        limit = int(self._pool.config.get("max_episode_steps", 0))
        self.time_limit = limit if 0 < limit < 2**31 - 1 else None

    def _make(self, seeds: list[int]) -> Any:
        threads = min(self.num_envs, len(os.sched_getaffinity(0)))
        try:
            pool = _library().make(
                self.name,
                env_type="gymnasium",
                num_envs=self.num_envs,
                num_threads=threads,
                seed=seeds,
                **self._kwargs,
            )
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            if not self._kwargs:
                raise
            raise UserError(not_taken(f"envpool/{self.name}", self._kwargs, str(error))) from error
        with warnings.catch_warnings():  # EnvPool warns as it casts the bounds of its spaces
            warnings.simplefilter("ignore")
            _ = pool.observation_space, pool.action_space
        return pool

    def _info_names(self) -> tuple[str, ...]:
        """The names of the numbers in an info, one an environment, without the engine's own."""
        found: list[str] = []
        for key, part in self._pool.spec.state_array_spec.items():
            kind, _, name = key.partition(":")
            one = math.prod(abs(n) for n in part.shape) == 1  # -1 stands for players, of which one
            if kind == "info" and one and name.partition(".")[0] not in NOT_READ | COUNTERS:
                found.append(name)
        return tuple(sorted(found))

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            seeds = lane_seeds(seed, self._first_lane, self.num_envs)
            self._pool = self._make([s >> 1 for s in seeds])  # signed in C++
        return self._pool.reset()

    def step(self, actions: Any) -> Any:
        *row, info = self._pool.step(actions)
        numbers = {name: np.asarray(info[name], float) for name in self.info_names}
        return *row, {name: (values, np.isfinite(values)) for name, values in numbers.items()}

    def render(self) -> Any:
        """`[B, height, width, 3]`, bytes: the screens of Atari games made with
        `render_mode="rgb_array"`. MuJoCo's tasks must not be asked: they end the process."""
        return self._pool.render()

    @property
    def compiles(self) -> bool:
        """Whether the pool can be stepped from within a compiled program."""
        return sys.platform == "linux" and jax.default_backend() == "cpu"

    def program(self) -> tuple[Any, Callable]:
        """The running pool in a form that a compiled program can step.

        Returns:
            A handle `[8]`, and (handle, actions as `step` takes them) -> the handle, and what
            `step` returns, with the numbers of the info as `[B, N]`, or None without any. The
            handle is passed from step to step, which orders them; it is valid until the next
            `reset` with a seed.
        """
        with jax.enable_x64(True):  # MuJoCo's numbers have 64 bits in EnvPool
            handle, receive, send, _ = self._pool.xla()
        expected = list(self._pool.spec.action_array_spec.values())[-1].dtype

        kept = observation_space_of(self.single_observation_space).example()

        def step(handle: Array, actions: Array) -> Any:
            with jax.enable_x64(True):
                sent = send(handle, jax.lax.convert_element_type(actions, expected))
                handle, (observations, *rest, info) = receive(sent)
                observations = jax.tree.map(
                    lambda x, like: jax.lax.convert_element_type(x, like.dtype), observations, kept
                )
                rest = [jax.lax.convert_element_type(x, record_dtype(x.dtype)) for x in rest]
                numbers = [
                    jax.lax.convert_element_type(info[name], jnp.float32).reshape(-1)
                    for name in self.info_names
                ]
                infos = jnp.stack(numbers, axis=1) if numbers else None
            return handle, (observations, *rest, infos)

        return jnp.asarray(handle), step

    def close_extras(self, **kwargs: Any) -> None:
        self._pool.close()
