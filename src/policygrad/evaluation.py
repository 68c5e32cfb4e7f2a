"""Evaluation: the returns of a policy that samples its actions, and of one that takes the mode."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.core.usual import longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.maths.intervals import mean_interval
from policygrad.policies.agent import Agent
from policygrad.rollout.engines import Engine, open_source
from policygrad.rollout.play import Played
from policygrad.runs import RunDirectory
from policygrad.runs.policy_files import load
from policygrad.spaces import space_of
from policygrad.training.result import Run


@dataclass(frozen=True)
class Returns:
    """Returns of N evaluation episodes.

    Attributes:
        mean: mean return, in units of reward, undiscounted.
        ci95: 95 % interval of the mean, by Student's t over episodes.
        episodes: N.
        length_mean: mean number of steps.
        unfinished: number of episodes that were stopped at the cap on steps. Their return up to
            there counts.
        returns: the N returns.
    """

    mean: float
    ci95: tuple[float, float]
    episodes: int
    length_mean: float
    unfinished: int
    returns: list[float]

    @classmethod
    def of(cls, played: Played) -> "Returns":
        """The statistics of the episodes that were played."""
        returns, lengths, unfinished = played[:3]
        mean, interval = mean_interval(returns)
        return cls(
            mean,
            interval,
            len(returns),
            float(np.mean(lengths)),
            int(np.sum(unfinished)),
            returns.tolist(),
        )


@dataclass(frozen=True)
class Evaluation:
    """A policy's returns, greedy and sampled, in episodes with the same seeds.

    Attributes:
        deterministic: acting by the distribution's mode.
        stochastic: acting by samples.
        seed: all randomness follows from it.
        env: the environment's name.
    """

    deterministic: Returns
    stochastic: Returns
    seed: int
    env: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def evaluate(
    run: Run | Agent | str | Path,
    env: Any = None,
    *,
    episodes: int = 100,
    seed: int = 0,
    max_episode_steps: int | None = None,
    num_envs: int = 32,
    engine: Engine | None = None,
) -> Evaluation:
    """Deterministic and stochastic returns of a policy, with intervals.

    Args:
        run: what `train` returned, a run directory, or an `Agent`.
        env: where to evaluate; None takes the run's own environment.
        episodes: N, for each of the two ways of acting. All N that begin are run to their end.
        seed: of the environments and the sampled actions. Training draws none of the same numbers.
        max_episode_steps: greatest length of an episode. None: the environment's limit, or 10,000.
        num_envs: environments stepped together.
        engine: opens `env` if it is an id; None takes the run's, or the one that the id names.

    Raises:
        UserError: no environment is known, or a number is out of range.
        RunError: a run that is missing or damaged.
    """
    for name, value in (("episodes", episodes), ("num_envs", num_envs)):
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"--max-episode-steps must be at least 1, got {max_episode_steps}")
    free_compiled_code()
    agent, env, kwargs, engine = _resolve(run, environments.choose_engine(env), engine)
    source = open_source(env, min(num_envs, episodes), engine=engine, kwargs=kwargs)
    check_spaces(agent, source)
    limit = longest_episode(max_episode_steps, source.time_limit)
    # training draws from the seed itself
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)
    greedy, sampled = (
        Returns.of(
            source.play(agent.policy, key, episodes=episodes, max_steps=limit, greedy=greedy)
        )
        for greedy in (True, False)
    )
    source.close()
    return Evaluation(greedy, sampled, seed=seed, env=environments.describe(env))


def _resolve(
    run: Any, env: Any, engine: Engine | None
) -> tuple[Agent, Any, dict[str, Any], Engine | None]:
    """The agent, and its environment, arguments and engine: the run's own if none is given."""
    kwargs: dict[str, Any] = {}
    if isinstance(run, Run):
        agent = run.agent
        if env is None:
            env, kwargs, engine = run.env, run.env_kwargs, engine or run.engine
    elif isinstance(run, Agent):
        agent = run
    else:
        agent = load(run)
        if env is None and (Path(run) / "config.json").exists():
            config = RunDirectory.open(Path(run)).read_config()
            env, kwargs = config.get("env"), config.get("env_kwargs") or {}
            if engine is None and "engine" in config.get("objects", ()):
                raise UserError(
                    f"{run} was trained with an engine passed as an object; evaluate it in Python: "
                    f"policygrad.evaluate({str(run)!r}, engine=...)"
                )
    if env is None:
        raise UserError(
            "no environment to evaluate in: the policy does not name one; pass an environment's id "
            "(--env ID, or env= in Python)"
        )
    return agent, env, kwargs, engine


def check_spaces(agent: Agent, environment: Any) -> None:
    """Raise UserError unless the environment has the spaces that the policy was made for."""
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, name), getattr(environment, name)
        if not space_of(ours).fits(space_of(theirs)):
            raise UserError(
                f"the policy's {name.replace('_', ' ')} is {ours}, the environment's is {theirs}"
            )
