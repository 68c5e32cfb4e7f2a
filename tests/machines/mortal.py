"""An environment that ends the process of a worker once."""

import os
import signal
from pathlib import Path

import gymnasium


class Mortal(gymnasium.Wrapper):
    """CartPole, which kills the process that steps it, the first time that `file` is there.

    Args:
        file: removed before.
        spared: a process that is never killed.
    """

    def __init__(self, file: str, spared: int) -> None:
        super().__init__(gymnasium.make("CartPole-v1", max_episode_steps=12))
        self.file, self.spared = Path(file), spared

    def step(self, action):
        if self.spared != os.getpid() and self.file.exists():
            self.file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.env.step(action)
