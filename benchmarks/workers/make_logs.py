"""Training runs of Stable-Baselines3, and of a small PPO that logs as CleanRL's does.

    python make_logs.py SPEC …

SPEC is JSON: folder, library ("sb3-ppo", "sb3-a2c" or "cleanrl"), env, steps, seed, settings by the
library's names, and fault ("zero reward", …; empty for none). What is left in the folder is what
the library writes by itself. A run that dies of its fault leaves what it had written.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

SB3_SETTINGS = {  # what a usual script would pass beside the defaults
    "sb3-ppo": {"n_steps": 512},
    "sb3-a2c": {},
}
CLEANRL_SETTINGS = {  # CleanRL's own defaults for tasks of either kind
    "discrete": {
        "learning_rate": 2.5e-4, "num_envs": 4, "num_steps": 128, "anneal_lr": True, "gamma": 0.99,
        "gae_lambda": 0.95, "num_minibatches": 4, "update_epochs": 4, "norm_adv": True,
        "clip_coef": 0.2, "ent_coef": 0.01, "vf_coef": 0.5, "max_grad_norm": 0.5,
    },
    "continuous": {
        "learning_rate": 3e-4, "num_envs": 1, "num_steps": 2048, "anneal_lr": True, "gamma": 0.99,
        "gae_lambda": 0.95, "num_minibatches": 32, "update_epochs": 10, "norm_adv": True,
        "clip_coef": 0.2, "ent_coef": 0.0, "vf_coef": 0.5, "max_grad_norm": 0.5,
    },
}  # fmt: skip


class Faulty(gymnasium.Wrapper):
    """An environment with a fault."""

    def __init__(self, env: gymnasium.Env, fault: str) -> None:
        super().__init__(env)
        self._fault = fault

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return self._seen(observation), info

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        match self._fault:
            case "zero reward":
                reward = 0.0
            case "rewards × 1e6":
                reward = 1e6 * float(reward)
            case "NaN reward" if self.np_random.random() < 1e-3:
                reward = float("nan")
        return self._seen(observation), reward, *rest

    def _seen(self, observation: np.ndarray) -> np.ndarray:
        constant = self._fault == "constant observations"
        return np.zeros_like(observation) if constant else observation


def stable_baselines3(spec: dict[str, Any], folder: Path) -> None:
    """A run of PPO or A2C, with its CSV, its event file and its monitors."""
    from stable_baselines3 import A2C, PPO
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make(number: int) -> Any:
        env = Faulty(gymnasium.make(spec["env"]), spec["fault"])
        return lambda: Monitor(env, str(folder / str(number)))

    settings = {**SB3_SETTINGS[spec["library"]], **spec["settings"]}
    envs = DummyVecEnv([make(number) for number in range(settings.pop("n_envs", 4))])
    kind = PPO if spec["library"] == "sb3-ppo" else A2C
    model = kind("MlpPolicy", envs, seed=spec["seed"], device="cpu", **settings)
    model.set_logger(configure(str(folder), ["csv", "tensorboard"]))
    model.learn(spec["steps"])


def layer(inputs: int, outputs: int, scale: float = 2**0.5) -> nn.Linear:
    """A linear layer with orthogonal weights."""
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, scale)
    nn.init.zeros_(made.bias)
    return made


def network(inputs: int, outputs: int, scale: float) -> nn.Sequential:
    """Two layers of 64 tanh units, and an output."""
    return nn.Sequential(
        layer(inputs, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, outputs, scale)
    )


class Agent(nn.Module):
    """A policy and a critic."""

    def __init__(self, observation: Any, action: Any) -> None:
        super().__init__()
        size = int(np.prod(observation.shape))
        self.discrete = isinstance(action, gymnasium.spaces.Discrete)
        outputs = int(action.n) if self.discrete else int(np.prod(action.shape))
        self.actor, self.critic = network(size, outputs, 0.01), network(size, 1, 1.0)
        self.log_std = nn.Parameter(torch.zeros(outputs))

    def distribution(self, x: torch.Tensor) -> Any:
        """Of the actions in a state."""
        if self.discrete:
            return torch.distributions.Categorical(logits=self.actor(x))
        normal = torch.distributions.Normal(self.actor(x), self.log_std.exp().expand(len(x), -1))
        return torch.distributions.Independent(normal, 1)


def make_env(spec: dict[str, Any], discount: float) -> gymnasium.Env:
    """The task; with continuous actions wrapped as CleanRL does."""
    env: gymnasium.Env = Faulty(gymnasium.make(spec["env"]), spec["fault"])
    env = gymnasium.wrappers.RecordEpisodeStatistics(env)
    if isinstance(env.action_space, gymnasium.spaces.Box):
        env = gymnasium.wrappers.ClipAction(env)
        env = gymnasium.wrappers.NormalizeObservation(env)
        env = gymnasium.wrappers.TransformObservation(
            env, lambda x: np.clip(x, -10, 10), env.observation_space
        )
        env = gymnasium.wrappers.NormalizeReward(env, gamma=discount)
        env = gymnasium.wrappers.TransformReward(env, lambda r: float(np.clip(r, -10, 10)))
    return env


def cleanrl(spec: dict[str, Any], folder: Path) -> None:
    """A run of PPO, logged under CleanRL's names."""
    from torch.utils.tensorboard import SummaryWriter

    torch.manual_seed(spec["seed"])
    probe = gymnasium.make(spec["env"])
    discrete = isinstance(probe.action_space, gymnasium.spaces.Discrete)
    a = {**CLEANRL_SETTINGS["discrete" if discrete else "continuous"], **spec["settings"]}
    shown = {
        "exp_name": "ppo" if discrete else "ppo_continuous_action", "seed": spec["seed"],
        "env_id": spec["env"], "total_timesteps": spec["steps"], **a, "clip_vloss": True,
        "target_kl": None, "batch_size": a["num_envs"] * a["num_steps"],
    }  # fmt: skip
    writer = SummaryWriter(str(folder))
    rows = "\n".join(f"|{name}|{value}|" for name, value in shown.items())
    writer.add_text("hyperparameters", f"|param|value|\n|-|-|\n{rows}")
    envs = [make_env(spec, a["gamma"]) for _ in range(a["num_envs"])]
    agent = Agent(envs[0].observation_space, envs[0].action_space)
    optimiser = torch.optim.Adam(agent.parameters(), lr=a["learning_rate"], eps=1e-5)
    state = [env.reset(seed=spec["seed"] + i)[0] for i, env in enumerate(envs)]
    over, step, started = np.zeros(len(envs)), 0, time.time()
    iterations = spec["steps"] // shown["batch_size"]
    for iteration in range(iterations):
        if a["anneal_lr"]:
            optimiser.param_groups[0]["lr"] = a["learning_rate"] * (1 - iteration / iterations)
        rows: dict[str, list[Any]] = {k: [] for k in ("x", "a", "logp", "r", "over", "v")}
        for _ in range(a["num_steps"]):
            x = torch.as_tensor(np.stack(state), dtype=torch.float32)
            with torch.no_grad():
                pi, v = agent.distribution(x), agent.critic(x)[:, 0]
                action = pi.sample()
                logp = pi.log_prob(action)
            rows["over"].append(torch.as_tensor(over, dtype=torch.float32))
            rewards, over = [], np.zeros(len(envs))
            step += len(envs)
            for i, env in enumerate(envs):
                state[i], reward, terminated, truncated, info = env.step(action[i].numpy())
                rewards.append(reward)
                if terminated or truncated:
                    over[i], state[i] = 1.0, env.reset()[0]
                    writer.add_scalar("charts/episodic_return", info["episode"]["r"], step)
                    writer.add_scalar("charts/episodic_length", info["episode"]["l"], step)
            found = {"x": x, "a": action, "logp": logp, "v": v}
            for name, value in found.items():
                rows[name].append(value)
            rows["r"].append(torch.as_tensor(rewards, dtype=torch.float32))
        b = {name: torch.stack(values) for name, values in rows.items()}
        advantages = torch.zeros_like(b["r"])
        with torch.no_grad():
            following = agent.critic(torch.as_tensor(np.stack(state), dtype=torch.float32))[:, 0]
        going, after = 0.0, torch.as_tensor(1.0 - over, dtype=torch.float32)
        for t in reversed(range(a["num_steps"])):
            delta = b["r"][t] + a["gamma"] * following * after - b["v"][t]
            going = delta + a["gamma"] * a["gae_lambda"] * after * going
            advantages[t], following, after = going, b["v"][t], 1.0 - b["over"][t]
        losses = improve(agent, optimiser, b, advantages, a)
        writer.add_scalar("charts/learning_rate", optimiser.param_groups[0]["lr"], step)
        for name, value in losses.items():
            writer.add_scalar(f"losses/{name}", value, step)
        writer.add_scalar("charts/SPS", int(step / (time.time() - started)), step)
    writer.close()


def improve(
    agent: Agent, optimiser: Any, b: dict[str, torch.Tensor], advantages: torch.Tensor, a: Any
) -> dict[str, float]:
    """One iteration of PPO; what CleanRL logs of it."""
    returns = (advantages + b["v"]).reshape(-1)
    flat = {name: x.reshape(-1, *x.shape[2:]) for name, x in b.items()}
    advantages, size, clipped = advantages.reshape(-1), len(returns), []
    part = size // a["num_minibatches"]
    for _ in range(a["update_epochs"]):
        order = torch.randperm(size)
        for begin in range(0, size, part):
            at = order[begin : begin + part]
            pi = agent.distribution(flat["x"][at])
            log_ratio = pi.log_prob(flat["a"][at]) - flat["logp"][at]
            ratio = log_ratio.exp()
            with torch.no_grad():
                old_kl, kl = (-log_ratio).mean(), ((ratio - 1) - log_ratio).mean()
                clipped.append(((ratio - 1).abs() > a["clip_coef"]).float().mean().item())
            gain = advantages[at]
            if a["norm_adv"]:
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
            near = ratio.clamp(1 - a["clip_coef"], 1 + a["clip_coef"])
            policy_loss = torch.max(-gain * ratio, -gain * near).mean()
            v, old = agent.critic(flat["x"][at])[:, 0], flat["v"][at]
            held = old + (v - old).clamp(-a["clip_coef"], a["clip_coef"])
            errors = torch.max((v - returns[at]) ** 2, (held - returns[at]) ** 2)
            value_loss, entropy = 0.5 * errors.mean(), pi.entropy().mean()
            loss = policy_loss - a["ent_coef"] * entropy + a["vf_coef"] * value_loss
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), a["max_grad_norm"])
            optimiser.step()
    true = returns.numpy()
    spread = np.var(true)
    explained = 1 - np.var(true - flat["v"].numpy()) / spread if spread else float("nan")
    return {
        "value_loss": value_loss.item(), "policy_loss": policy_loss.item(),
        "entropy": entropy.item(), "old_approx_kl": old_kl.item(), "approx_kl": kl.item(),
        "clipfrac": float(np.mean(clipped)),
        "explained_variance": explained,
    }  # fmt: skip


def make(spec: dict[str, Any]) -> None:
    """Make one run; its folder has its name only once it is whole."""
    folder = Path(spec["folder"])
    with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
        begun = Path(unfinished) / "run"
        begun.mkdir()
        try:
            (cleanrl if spec["library"] == "cleanrl" else stable_baselines3)(spec, begun)
        except ValueError as error:  # what PyTorch's distributions raise on NaN
            if spec["fault"] != "NaN reward":
                raise
            print(f"ended by its fault: {str(error).splitlines()[0]}", file=sys.stderr)
        begun.rename(folder)


def main() -> None:
    """Make the runs, one after the other."""
    torch.set_num_threads(1)
    for spec in sys.argv[1:]:
        make(json.loads(spec))


if __name__ == "__main__":
    main()
