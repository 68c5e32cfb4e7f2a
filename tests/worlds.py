"""Tiny environments that the tests train on, each in the forms in which users write them.

All arithmetic of `Chain` is exact in binary, so that NumPy and compiled code agree bit for bit.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnax.environments.environment import Environment, EnvParams
from gymnax.environments.spaces import Box, Discrete

from policygrad.maths.distributions import Categorical

ROOT = Path(__file__).parent.parent
TINY: dict[str, Any] = {
    "num_envs": 4,
    "batch_steps": 32,
    "total_steps": 64,
    "hidden": (8,),
    "critic_epochs": 1,
}
# for runs without a value network of their own, which refuse its settings
PLAIN: dict[str, Any] = {name: value for name, value in TINY.items() if name != "critic_epochs"}
TINY_FLAGS = [
    "--num-envs", "4", "--batch-steps", "32", "--total-steps", "64", "--hidden", "8",
    "--critic-epochs", "1",
]  # fmt: skip


def python(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess:
    """Run this interpreter in a fresh process that finds the package's tests."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment_variables(),
        **kwargs,
    )


def environment_variables() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


# ----- Chain: x' = x/2 ± 1, reward x' + t/4, and an end after so many steps


def chain_step(x: Any, time: Any, action: Any) -> tuple[Any, Any, Any]:
    """(x, time) after the action, and its reward."""
    x = x / 2 + 2 * action - 1
    return x, time + 1, x + time / 4


class Chain(gymnasium.Env):
    """Ends after `length` steps: terminated where `terminates`, else truncated."""

    def __init__(self, length: int = 3, *, terminates: bool = True) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.length, self.terminates = length, terminates

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.time = 0.0, 0
        return self.observe(), {}

    def observe(self) -> np.ndarray:
        return np.array([self.x, self.time], np.float32)

    def step(self, action: Any) -> Any:
        self.x, self.time, reward = chain_step(self.x, self.time, int(action))
        over = self.time >= self.length
        return self.observe(), reward, over and self.terminates, over and not self.terminates, {}


class ChainState(NamedTuple):
    x: Any
    time: Any


class GymnaxChain(Environment):
    """`Chain` as a subclass of gymnax's environment."""

    def __init__(self, length: int = 3, *, terminates: bool = True) -> None:
        super().__init__()
        self.length, self.terminates = length, terminates

    @property
    def default_params(self) -> EnvParams:
        return EnvParams(max_steps_in_episode=1000 if self.terminates else self.length)

    def reset_env(self, key: Any, params: EnvParams) -> Any:
        state = ChainState(jnp.float32(0), jnp.int32(0))
        return self.observe_state(state), state

    def observe_state(self, state: ChainState) -> Any:
        return jnp.stack([state.x, state.time.astype(jnp.float32)])

    def step_env(self, key: Any, state: ChainState, action: Any, params: EnvParams) -> Any:
        x, time, reward = chain_step(state.x, state.time, action)
        state = ChainState(x, time)
        over = (time >= self.length) & self.terminates
        return self.observe_state(state), state, reward, over, {}

    def is_truncated(self, state: ChainState, params: EnvParams) -> Any:
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params: EnvParams) -> Any:
        return Box(-jnp.inf, jnp.inf, (2,), jnp.float32)

    def action_space(self, params: EnvParams) -> Any:
        return Discrete(2)


class StockGymnaxChain(GymnaxChain):
    """The same with gymnax's own rule of truncation, from which the time limit is known."""

    is_truncated = Environment.is_truncated


class DuckChain:
    """`Chain` as an object that has gymnax's `reset` and six-valued `step`, and nothing else."""

    default_params = None

    def __init__(self, length: int = 3, *, terminates: bool = True) -> None:
        self.length, self.terminates = length, terminates
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, key: Any, params: Any) -> Any:
        state = ChainState(jnp.float32(0), jnp.int32(0))
        return jnp.zeros(2), state

    def step(self, key: Any, state: ChainState, action: Any, params: Any) -> Any:
        x, time, reward = chain_step(state.x, state.time, action)
        over = time >= self.length
        successor = jnp.stack([x, time.astype(jnp.float32)])
        first, fresh = self.reset(key, params)
        state = jax.tree.map(lambda a, b: jnp.where(over, a, b), fresh, ChainState(x, time))
        info = {"final_observation": successor}
        ends = over & self.terminates, over & (not self.terminates)
        return jnp.where(over, first, successor), state, reward, *ends, info


# one object of each in all tests, so that their programs are traced and compiled once
DUCK, GYMNAX_CHAIN = DuckChain(), GymnaxChain()


def chain_vector(
    mode: AutoresetMode, num_envs: int = 2, *, copy: bool = True, **kwargs: Any
) -> SyncVectorEnv:
    """Copies of `Chain` whose lengths differ, 3, 4, 3, 4…, under an autoreset mode."""
    factories = [lambda i=i: Chain(3 + i % 2, **kwargs) for i in range(num_envs)]
    return SyncVectorEnv(factories, autoreset_mode=mode, copy=copy)


class MLPPolicy(eqx.Module):
    """A policy of a user's own; the activation of `eqx.nn.MLP` is a leaf that is no array."""

    network: eqx.nn.MLP

    def __init__(self, observations: int, actions: int, seed: int = 0) -> None:
        self.network = eqx.nn.MLP(observations, actions, 8, 1, key=jax.random.key(seed))

    def __call__(self, observation: Any) -> Categorical:
        return Categorical(self.network(observation))


class Remembering(eqx.Module):
    """Acts by the sum of what it saw since the episode began."""

    weight: jax.Array

    def initial_carry(self) -> Any:
        return jnp.zeros(self.weight.shape[1])

    def __call__(self, observation: Any, carry: Any) -> Any:
        carry = carry / 2 + observation
        return Categorical(self.weight @ carry), carry


# ----- chance


class Lottery(gymnasium.Env):
    """An episode of 1 or of 9 steps, drawn at reset with even odds; every reward is 1."""

    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = 9 if self.np_random.random() < 0.5 else 1
        return np.array([self.left], np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class DuckLottery(DuckChain):
    """`Lottery` as a functional object."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Lottery.observation_space

    def reset(self, key: Any, params: Any) -> Any:
        left = jnp.where(jax.random.bernoulli(key), 9.0, 1.0)
        return left[None], left

    def step(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        left, over = state - 1, state - 1 == 0
        first, fresh = self.reset(key, params)
        info = {"final_observation": left[None]}
        return (
            jnp.where(over, first, left[None]),
            jnp.where(over, fresh, left),
            jnp.float32(1),
            over,
            jnp.bool_(False),
            info,
        )


class Drift(gymnasium.Env):
    """A random walk of random length, so that only seeds and actions together say where it is."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = self.np_random.normal()
        return np.array([self.x]), {}

    def step(self, action: Any) -> Any:
        self.x += self.np_random.normal() + int(action)
        chance = self.np_random.random(2) < 0.15
        return np.array([self.x]), self.x, bool(chance[0]), bool(chance[1]), {}


class Forgetful(Drift):
    """Cannot be brought back: what it does next depends on how often it was ever reset."""

    resets = 0

    def reset(self, **kwargs: Any) -> Any:
        Forgetful.resets += 1
        observation, info = super().reset(**kwargs)
        self.x += Forgetful.resets
        return observation + Forgetful.resets, info


# ----- what goes wrong


class Chained(Chain):
    """`Chain(3)` in which one copy, the `lane`-th made, misbehaves at step `at` of its life."""

    made = 0

    def __init__(self, what: str, *, lane: int = 2, at: int = 41, terminates: bool = True) -> None:
        super().__init__(3, terminates=terminates)
        self.lane, Chained.made = Chained.made, Chained.made + 1
        self.bad, self.what, self.at, self.steps = self.lane == lane, what, at, 0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        self.steps += 1
        if self.bad and self.steps == self.at:
            match self.what:
                case "raise":
                    raise ZeroDivisionError("the pole is not there")
                case "nan reward":
                    reward = np.nan
                case "inf reward":
                    reward = np.inf
                case "nan observation":
                    observation[1] = np.nan
                case "inf observation":
                    observation[1] = -np.inf
        return observation, reward, terminated, truncated, info


class Endless(gymnasium.Env):
    """An episode that never ends."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, False, False, {}


class DuckEndless(DuckChain):
    """`Endless` as a functional object."""

    def __init__(self) -> None:
        super().__init__(length=2**30)


# ----- any pair of spaces


class Echo(gymnasium.Env):
    """Observations drawn from a space and rewards that look at the action; episodes of 5 steps."""

    def __init__(
        self, observations: spaces.Space, actions: spaces.Space, *, reward: float | None = None
    ) -> None:
        self.observation_space, self.action_space, self.reward = observations, actions, reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.time = 0
        return self.observe(), {}

    def observe(self) -> Any:
        observation = self.observation_space.sample()
        if isinstance(observation, dict) and "action_mask" in observation:
            observation["action_mask"][0] = 1  # never without a valid action
        return observation

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.time += 1
        reward = float(np.sum(action)) if self.reward is None else self.reward
        return self.observe(), reward, self.time == 5, False, {}


class Masked(gymnasium.Env):
    """Three actions of which a mask permits some; taking another one is an error."""

    action_space = spaces.Discrete(3)
    observation_space = spaces.Dict(
        {"x": spaces.Box(-1, 1, (2,), np.float32), "action_mask": spaces.MultiBinary(3)}
    )

    def __init__(self, masks: Any = ((1, 0, 1), (0, 1, 0), (1, 1, 1), (0, 0, 1))) -> None:
        self.masks = [np.array(m, np.int8) for m in masks]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def observe(self) -> Any:
        self.mask = self.masks[self.time % len(self.masks)]
        return {"x": np.full(2, self.time / 8, np.float32), "action_mask": self.mask}

    def step(self, action: Any) -> Any:
        if self.mask.any():
            assert self.mask[action], f"action {action} under mask {self.mask}"
        self.time += 1
        return self.observe(), float(action == 2), self.time == 6, False, {}


gymnasium.register("Chained-v0", "tests.worlds:Chained")
gymnasium.register("Chain-v0", "tests.worlds:Chain")
gymnasium.register("Endless-v0", "tests.worlds:Endless")
gymnasium.register("Forgetful-v0", "tests.worlds:Forgetful")
gymnasium.register("Masked-v0", "tests.worlds:Masked")
gymnasium.register("Untold-v0", "tests.worlds:Untold")


class Untold(Chain):
    """An action space that no policy acts in."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Text(3)
