"""CartPole, all copies in one NumPy call, each of which can be reset by itself.

Gymnasium's own vector class resets its copies with one random generator between them. Where a copy
is can then only be said by everything that all copies did since the start: a log without bound.
Here every copy has a seed for every episode, as other environments have, and the log of a run
holds the episodes that are running.
"""

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode


class CartPoleCopies(CartPoleVectorEnv):
    """B copies of CartPole with Gymnasium's dynamics, never reset by themselves.

    A copy begins an episode where Gymnasium's single environment begins one with the same seed.
    """

    metadata = CartPoleVectorEnv.metadata | {"autoreset_mode": AutoresetMode.DISABLED}

    def step(self, action: Any) -> Any:
        self.prev_done[:] = False  # else Gymnasium resets these copies within the step
        return super().step(action)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        """Reset the copies of `options["reset_mask"]`, or all; seed: one for each copy, or one."""
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        if mask is None:
            super().reset(seed=seed if np.ndim(seed) == 0 else None, options=options)
        state: Any = self.state
        if np.ndim(seed):
            lanes = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
            starts = [np.random.default_rng(seed[i]).uniform(self.low, self.high, 4) for i in lanes]
            state[:, lanes] = np.transpose(starts)
            self.steps[lanes] = 0
        return state.T.astype(np.float32), {}
