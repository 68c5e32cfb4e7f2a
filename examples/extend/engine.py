"""An engine of one's own: a simulator in NumPy, without Gymnasium's environments.

`Docking` steps B boats at once: each is pushed left or right and is to stop at the dock. An engine
opens an id as a source; `HostSource` makes a source of whatever steps lanes.
"""

import numpy as np
from gymnasium.spaces import Box

import policygrad
from policygrad.environments import LaneStep
from policygrad.rollout import HostSource


class Docking:
    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)
    time_limit = 50

    def __init__(self, num_envs: int, drag: float = 0.05) -> None:
        self.num_envs, self.drag = num_envs, drag

    def start(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.observations = self._fresh(np.ones(self.num_envs, bool), np.zeros((self.num_envs, 2)))
        self.times = np.zeros(self.num_envs, np.int32)

    def _fresh(self, which: np.ndarray, states: np.ndarray) -> np.ndarray:
        drawn = np.stack([self.rng.uniform(-2, 2, len(which)), np.zeros(len(which))], axis=1)
        return np.where(which[:, None], drawn, states).astype(np.float32)

    def step(self, actions: np.ndarray) -> LaneStep:
        place, speed = self.observations.T
        speed = (1 - self.drag) * speed + 0.1 * actions[:, 0]
        place = place + 0.5 * speed
        successors = np.stack([place, speed], axis=1).astype(np.float32)
        rewards = -np.abs(place) - 0.1 * np.abs(speed)
        truncated = self.times + 1 >= self.time_limit
        self.observations = self._fresh(truncated, successors)
        self.times = np.where(truncated, 0, self.times + 1)
        return LaneStep(successors, rewards, np.zeros(self.num_envs, bool), truncated)

    def close(self) -> None:
        pass


class DockingEngine:
    def open(self, env_id, num_envs, *, processes=False, kwargs=None) -> HostSource:
        return HostSource(Docking(num_envs, **(kwargs or {})))


def main(total_steps: int = 60_000) -> float:
    """Train on it; the mean return of the last hundred episodes. Standing still makes about −50."""
    run = policygrad.train("Docking", engine=DockingEngine(), total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())
