"""CartPole: one NumPy call steps all copies, and each copy can be reset alone.

In Gymnasium's own vector class all copies share one random generator. The state of a copy then
depends on everything that all copies did since the start, and a log of that grows without bound.
Here every copy has a seed for every episode, as in other environments, and the log of a run holds
only the episodes that are running.
"""

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode


class CartPoleCopies(CartPoleVectorEnv):
    """B copies of CartPole with Gymnasium's dynamics, which never reset themselves.

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
