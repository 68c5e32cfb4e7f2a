"""Evaluation: the return of a policy as it is trained (sampled) and as often used (greedy)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.devices.compiled_code import make_room
from policygrad.environments.lanes import Lanes
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.maths.intervals import mean_interval
from policygrad.policies.agent import Agent
from policygrad.rollout.acting import act, act_greedily, lane_keys
from policygrad.rollout.host import Actor, run_episodes
from policygrad.rollout.segments import advance, start_lanes
from policygrad.runs import RunDirectory
from policygrad.runs.policy_files import load
from policygrad.spaces import space_of
from policygrad.training.session import Run

DEFAULT_LIMIT = 10_000


@dataclass(frozen=True)
class Returns:
    """Returns of N evaluation episodes.

    Attributes:
        mean: mean return, in units of reward, undiscounted.
        ci95: 95 % interval of the mean, by Student's t over episodes.
        episodes: N.
        length_mean: mean number of steps.
        unfinished: episodes that were stopped at the cap on steps; their return until there counts.
        returns: the N returns.
    """

    mean: float
    ci95: tuple[float, float]
    episodes: int
    length_mean: float
    unfinished: int
    returns: list[float]


@dataclass(frozen=True)
class Evaluation:
    """A policy's returns, greedy and sampled, in episodes with the same seeds.

    Attributes:
        deterministic: acting by the distribution's mode.
        stochastic: acting by samples.
        seed: from which all randomness follows.
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
) -> Evaluation:
    """Deterministic and stochastic returns of a policy, with intervals.

    Args:
        run: what `train` returned, a run directory, or an `Agent`.
        env: where to evaluate; None takes the run's own environment.
        episodes: N, of each kind. All N that begin are run to their end.
        seed: of the environments and the samples; its stream is none that training draws from.
        max_episode_steps: where an episode that does not end is stopped. None: the environment's
            own limit, or 10,000.
        num_envs: environments stepped together.

    Raises:
        UserError: no environment is known, or a number is out of range.
        RunError: a run that is missing or damaged.
    """
    for name, value in (("episodes", episodes), ("num_envs", num_envs)):
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UserError(f"--max-episode-steps must be at least 1, got {max_episode_steps}")
    make_room()
    agent, env, kwargs = _resolve(run, environments.choose_engine(env))
    environment = environments.make(env, min(num_envs, episodes), kwargs=kwargs)
    check_spaces(agent, environment)
    limit = max_episode_steps or environment.time_limit or DEFAULT_LIMIT
    # training draws from the seed itself
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)
    if isinstance(environment, Lanes):
        with_mode = [
            _on_host(environment, agent, key, greedy, episodes, limit) for greedy in (1, 0)
        ]
        environment.close()
    else:
        with_mode = [
            _compiled(environment, agent, key, greedy, episodes, limit) for greedy in (1, 0)
        ]
    return Evaluation(*with_mode, seed=seed, env=environments.describe(env))


def _resolve(run: Any, env: Any) -> tuple[Agent, Any, dict[str, Any]]:
    kwargs: dict[str, Any] = {}
    if isinstance(run, Run):
        agent = run.agent
        if env is None:
            env, kwargs = run.env, run.env_kwargs
    elif isinstance(run, Agent):
        agent = run
    else:
        agent = load(run)
        if env is None and (Path(run) / "config.json").exists():
            config = RunDirectory.open(Path(run)).read_config()
            env, kwargs = config.get("env"), config.get("env_kwargs") or {}
    if env is None:
        raise UserError(
            "no environment to evaluate in: the policy names none; pass its id (--env ID, or env= "
            "in Python)"
        )
    return agent, env, kwargs


def check_spaces(agent: Agent, environment: Any) -> None:
    """UserError unless the environment has the spaces that the policy was made for."""
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(agent, name), getattr(environment, name)
        if not space_of(ours).fits(space_of(theirs)):
            raise UserError(
                f"the policy's {name.replace('_', ' ')} is {ours}, the environment's is {theirs}"
            )


def _returns(totals: np.ndarray, lengths: np.ndarray, unfinished: np.ndarray) -> Returns:
    mean, interval = mean_interval(totals)
    return Returns(
        mean, interval, len(totals), float(lengths.mean()), int(unfinished.sum()), totals.tolist()
    )


def _on_host(
    lanes: Lanes, agent: Agent, key: PRNGKeyArray, greedy: int, episodes: int, limit: int
) -> Returns:
    actor = Actor(agent.policy)
    draw = actor.chooser(agent.policy) if greedy else actor.sampler(agent.policy, key)
    seed = int(np.asarray(jax.random.key_data(key))[-1] >> 1)
    totals, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    unfinished = np.zeros(episodes, bool)
    for row, episode, _, _, capped in run_episodes(
        lanes, draw, seed, episodes=episodes, max_steps=limit
    ):
        current = episode >= 0
        totals[episode[current]] += row.step.rewards[current]
        lengths[episode[current]] += 1
        unfinished[episode[capped]] = True
    return _returns(totals, lengths, unfinished)


def _compiled(
    environment: CompiledEnvironment,
    agent: Agent,
    key: PRNGKeyArray,
    greedy: int,
    episodes: int,
    limit: int,
) -> Returns:
    @eqx.filter_jit
    def play(policy: Any, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        reset_key, act_key, environment_key = jax.random.split(key, 3)
        lanes = start_lanes(environment, reset_key, episodes)
        nothing = jnp.zeros(episodes)

        def running(carry: Any) -> Array:
            t, _, alive, *_ = carry
            return (t < limit) & jnp.any(alive)

        def step(carry: Any) -> Any:
            t, lanes, alive, totals, lengths = carry
            if greedy:
                actions = act_greedily(policy, lanes.observations)
            else:
                actions, _ = act(policy, lane_keys(act_key, t, episodes), lanes.observations)
            lanes, (_, rewards, terminated, truncated) = advance(
                environment, lanes, jax.random.fold_in(environment_key, t), actions
            )
            totals, lengths = totals + jnp.where(alive, rewards, 0.0), lengths + alive
            return t + 1, lanes, alive & ~(terminated | truncated), totals, lengths

        start = (jnp.int32(0), lanes, nothing == 0, nothing, nothing)
        _, _, alive, totals, lengths = jax.lax.while_loop(running, step, start)
        return totals, lengths, alive

    return _returns(*(np.asarray(x, np.float64) for x in play(agent.policy, key)))
