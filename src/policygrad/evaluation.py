"""Evaluation of what was trained: a run, an agent, or a file that holds one."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from policygrad.core.errors import UserError
from policygrad.core.shell import user_path
from policygrad.environments.wrapping import Wrapper
from policygrad.evaluating import Evaluation, Place, evaluate_agent
from policygrad.policies.agent import Agent
from policygrad.rollout.engines import Engine
from policygrad.rollout.source import Source
from policygrad.runs import seed_directories
from policygrad.runs.policy_files import load, run_of
from policygrad.training.result import Run


def evaluate(
    run: Run | Agent | str | Path,
    env: Any = None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    observation_noise: Any = 0.0,
    episodes: int = 100,
    seed: int = 0,
    max_episode_steps: int | None = None,
    num_envs: int = 32,
    engine: Engine | None = None,
    video: str | Path | None = None,
) -> Evaluation:
    """Deterministic and stochastic returns of a policy, with intervals.

    Args:
        run: what `train` returned, a run directory, a checkpoint or a policy file, or an `Agent`.
        env: where to evaluate; None takes the run's own environment.
        env_kwargs: arguments of the environment. None takes the run's own if the environment is the
            run's, else none.
        wrappers: of Gymnasium, or functions environment -> environment; the last one is outermost.
        observation_noise: standard deviation of Gaussian noise that is added to what the policy
            sees, in the units of the observation: a number, or an array of an observation's shape.
        episodes: N, for each of the two ways of acting. All N that begin are run to their end.
        seed: of the environments and the sampled actions. Training draws none of the same numbers.
        max_episode_steps: greatest length of an episode. None: the environment's limit, or 10,000.
        num_envs: environments stepped together.
        engine: opens `env` if it is an id; None takes the run's, or the one that the id names.
        video: folder for videos of the first three episodes of each way of acting; then one
            environment is stepped at a time.

    Raises:
        UserError: no environment is known, a number is out of range, or a wrapper, a video or noise
            does not fit the environment.
        RunError: a run that is missing or damaged.
        NonFiniteError: an observation or a reward is NaN or infinite.
    """
    agent, own = _own(run)
    return evaluate_agent(
        agent, own, env, env_kwargs=env_kwargs, wrappers=wrappers,
        observation_noise=observation_noise, episodes=episodes, seed=seed,
        max_episode_steps=max_episode_steps, num_envs=num_envs, engine=engine, video=video,
    )  # fmt: skip


@dataclass(frozen=True)
class _EngineOf:
    """In place of the engine of a run on disk, where it was an object: no file holds it."""

    run: str

    def open(self, *_: Any, **__: Any) -> Source:
        """UserError: it must be passed."""
        raise UserError(
            f"{self.run} was trained with an engine passed as an object; evaluate it in Python: "
            f"policygrad.evaluate({self.run!r}, engine=...)"
        )


def _own(run: Any) -> tuple[Agent, Place]:
    """The agent of a run, and where it was trained, as far as that is known."""
    if isinstance(run, Run):
        return run.agent, Place(run.env, run.env_kwargs, run.engine)
    if isinstance(run, Agent):
        return run, Place(None, {})
    if not isinstance(run, (str, PathLike)):
        raise UserError(
            "evaluate takes a run, an Agent or a path, got "
            f"{type(run).__name__}; of many seeds pass one run, and in place of a policy the run, "
            "or policygrad.Agent(policy, observation_space, action_space)"
        )
    path = user_path(run)
    if seeds := seed_directories(path):
        raise UserError(
            f"{path} holds the runs of {len(seeds)} seeds; pass one of them, such as {seeds[0]}"
        )
    agent, directory = load(path), run_of(path)
    config = {} if directory is None else directory.read_config()
    engine = _EngineOf(str(run)) if "engine" in config.get("objects", ()) else None
    name = (config.get("values") or {}).get("env")
    return agent, Place(config.get("env"), config.get("env_kwargs") or {}, engine, name)
