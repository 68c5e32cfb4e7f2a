"""EnvPool: environments stepped by a pool of C++ threads, as a Gymnasium vector environment.

What differs from Gymnasium's own: a pool takes its seeds when it is made, so `reset` with a seed
makes a new one; it cannot bring one lane back to a seed, so a run continues with fresh episodes;
and where an episode terminates on the very step of its time limit it reports the limit alone.
"""

import os
import warnings
from typing import Any

import jax
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from policygrad.errors import UserError

HALVES_FROM = 32


class Pool(VectorEnv):
    """B environments of one EnvPool id.

    From 32 environments on they are two pools: one steps while the policy acts for the other.

    Args:
        name: an id of `envpool.list_all_envs()`.
        num_envs: B.
        kwargs: EnvPool's settings of the environment, such as `max_episode_steps`.

    Raises:
        UserError: EnvPool does not take these settings.
    """

    def __init__(self, name: str, num_envs: int, kwargs: dict[str, Any]) -> None:
        self.name, self.num_envs, self._kwargs = name, num_envs, kwargs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        middle = num_envs // 2
        halves = (slice(0, middle), slice(middle, num_envs))
        self.parts = halves if num_envs >= HALVES_FROM else (slice(0, num_envs),)
        self._pools = self._make([0] * num_envs)
        one = self._pools[0]
        self.single_observation_space: spaces.Space = one.observation_space
        self.single_action_space: spaces.Space = one.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        limit = int(one.config.get("max_episode_steps", 0))
        self.time_limit = limit if 0 < limit < 2**31 - 1 else None

    def _make(self, seeds: list[int]) -> list[Any]:
        import envpool  # pyright: ignore[reportMissingImports]

        cores = len(os.sched_getaffinity(0))
        try:
            pools = [
                envpool.make(
                    self.name,
                    env_type="gymnasium",
                    num_envs=len(seeds[part]),
                    num_threads=min(len(seeds[part]), cores),
                    seed=seeds[part],
                    **self._kwargs,
                )
                for part in self.parts
            ]
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            if not self._kwargs:
                raise
            raise UserError(
                f"envpool/{self.name} does not take these arguments: {self._kwargs} ({error})"
            ) from error
        with warnings.catch_warnings():  # it casts its own bounds to the types of its own spaces
            warnings.simplefilter("ignore")
            _ = pools[0].observation_space, pools[0].action_space
        return pools

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            sequence = np.random.SeedSequence(seed)
            seeds = sequence.generate_state(self.num_envs) >> 1  # C++ reads them as signed
            self._pools = self._make([int(s) for s in seeds])
        observations, infos = zip(*[pool.reset() for pool in self._pools], strict=True)
        return jax.tree.map(lambda *x: np.concatenate(x), *observations), infos[0]

    def send(self, part: slice, actions: Any) -> None:
        self._pools[self.parts.index(part)].send(actions)

    def receive(self, part: slice) -> Any:
        return self._pools[self.parts.index(part)].recv()

    def close_extras(self, **kwargs: Any) -> None:
        for pool in self._pools:
            pool.close()
