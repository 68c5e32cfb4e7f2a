"""An environment whose third step hangs while an environment variable says so."""

import os
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

HANGS = "SLEEPY_HANGS"  # holds "step", "reset" or nothing


class Sleepy(gymnasium.Env):
    """Five steps of reward 1 each."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space = spaces.Box(-10, 10, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.time, self.render_mode = 0, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if os.environ.get(HANGS) == "reset":
            time.sleep(3600)
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        if os.environ.get(HANGS) == "step" and self.time == 3:
            time.sleep(3600)
        return np.full(3, self.time / 5, np.float32), 1.0, self.time == 5, False, {}

    def render(self) -> Any:
        return np.zeros((16, 16, 3), np.uint8)


gymnasium.register("Sleepy-v0", entry_point=Sleepy)
