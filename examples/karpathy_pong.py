"""Pong from pixels, as Karpathy trained it in 2016: the plain policy gradient and nothing else.

    python examples/karpathy_pong.py --minutes 60

The setting is that of "Deep Reinforcement Learning: Pong from Pixels": the difference of two
pictures of 80×80 pixels, one hidden layer of 200 units, ten games a batch, RMSProp, no critic. Each
action is credited with the discounted result of the point in which it was taken, so the returns to
go reset at every point. This is the third form of the gradient, on real pixels:

    ĝ = 1/10 Σ_games Σ_t (G_t − mean)/std · ∇ log π(a_t | s_t)

Needs: pip install 'policygrad[atari]'
"""

import argparse
import time
from typing import Any

import ale_py
import gymnasium
import numpy as np
import optax
from gymnasium import spaces
from policygrad.baselines import constant
from policygrad.estimators import reward_to_go
from policygrad.networks import FullyConnected

import policygrad

UP, DOWN = 2, 3  # of the Atari console's actions


class DifferencePong(gymnasium.Env):
    """Pong whose observation is what moved since the picture before, and whose actions are up and
    down. A picture is every second to fourth frame, as in the Pong-v0 of those days."""

    observation_space = spaces.Box(-1, 1, (80 * 80,), np.int8)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        gymnasium.register_envs(ale_py)
        self.game = gymnasium.make(
            "ALE/Pong-v5", frameskip=(2, 5), repeat_action_probability=0.25, obs_type="rgb"
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        picture, info = self.game.reset(seed=seed)
        self.before = self.shapes(picture)
        return np.zeros(80 * 80, np.int8), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        picture, reward, terminated, truncated, info = self.game.step((UP, DOWN)[int(action)])
        now = self.shapes(picture)
        moved, self.before = now - self.before, now
        return moved, float(reward), terminated, truncated, info

    @staticmethod
    def shapes(picture: np.ndarray) -> np.ndarray:
        """1 where a paddle or the ball is, 0 elsewhere: [210, 160, 3] -> [6400]."""
        red = picture[35:195:2, ::2, 0]
        return ((red != 144) & (red != 109) & (red != 0)).astype(np.int8).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/karpathy-pong")
    asked = parser.parse_args()
    ends = time.monotonic() + 60 * asked.minutes

    def stop_in_time(run: Any) -> Any:
        return policygrad.STOP if time.monotonic() > ends else None

    run = policygrad.train(
        DifferencePong,
        out=asked.out,
        seed=asked.seed,
        network=FullyConnected((200,), activation="relu"),
        normalise_observations=False,
        algorithm=policygrad.algorithms.Vanilla(
            optimiser=optax.rmsprop(1e-3, decay=0.99, eps=1e-5)
        ),
        # with a baseline, here a constant, normalising subtracts the batch's mean as well
        estimator=reward_to_go(
            discount=0.99,
            baseline=constant(),
            resets_at_rewards=True,
            normalise_advantages=True,
        ),
        scale_rewards=False,
        num_envs=10,
        batch_episodes=10,
        total_steps=100_000_000,
        on_update=stop_in_time,
    )
    print(f"{run.summary['episodes']} games, mean score {run.summary['return_mean']}")


if __name__ == "__main__":
    main()
