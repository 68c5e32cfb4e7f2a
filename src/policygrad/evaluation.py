"""Evaluation: the returns of a policy that samples its actions, and of one that takes the mode."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from policygrad import environments
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.settings import flag
from policygrad.core.shell import user_path
from policygrad.core.usual import longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.environments.wrapping import Wrapper, check_video, recorder, wrapped
from policygrad.maths.intervals import mean_interval
from policygrad.policies.agent import Agent, check_spaces
from policygrad.rollout.engines import Engine, open_source
from policygrad.rollout.noise import with_noise
from policygrad.rollout.play import Played
from policygrad.rollout.source import Source
from policygrad.runs import seed_directories
from policygrad.runs.policy_files import load, run_of
from policygrad.training.result import Run

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
VIDEOS = 3  # of each way of acting
WAYS = ("deterministic", "stochastic")


class InfoMean(NamedTuple):
    """One number of the environment's infos over N episodes.

    Attributes:
        mean: over the episodes that had it, of the newest value of each.
        episodes: how many had it.
    """

    mean: float
    episodes: int


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
        quantiles: of the N returns: level -> return.
        infos: numbers of the environment's infos by name.
    """

    mean: float
    ci95: tuple[float, float]
    episodes: int
    length_mean: float
    unfinished: int
    returns: list[float]
    quantiles: dict[str, float] = field(default_factory=dict)
    infos: dict[str, InfoMean] = field(default_factory=dict)

    @classmethod
    def of(cls, played: Played, way: str) -> "Returns":
        """The statistics of the episodes that were played; errors name the way of acting.

        Raises:
            NonFiniteError: an observation or a reward was NaN or infinite.
        """
        returns = played.returns
        if not np.all(np.isfinite(returns)):
            episode = int(np.argmin(np.isfinite(returns)))
            raise NonFiniteError(
                f"an observation or a reward of the {way} evaluation episode {episode} is NaN or "
                "infinite, or an action mask in it permits no action"
            )
        mean, interval = mean_interval(returns)
        infos = {
            name: InfoMean(float(np.nanmean(values)), int(np.sum(~np.isnan(values))))
            for name, values in getattr(played, "infos", {}).items()
            if not np.all(np.isnan(values))
        }
        return cls(
            mean,
            interval,
            len(returns),
            float(np.mean(played.lengths)),
            int(np.sum(played.unfinished)),
            returns.tolist(),
            {f"{level:g}": float(np.quantile(returns, level)) for level in LEVELS},
            infos,
        )


@dataclass(frozen=True)
class Evaluation:
    """A policy's returns, greedy and sampled, in episodes with the same seeds.

    Attributes:
        deterministic: acting by the distribution's mode.
        stochastic: acting by samples.
        seed: all randomness follows from it.
        env: the environment's name.
        env_kwargs: the arguments that it was made with.
        wrappers: names of the wrappers around it.
        observation_noise: standard deviation of the noise on observations; 0 for none.
    """

    deterministic: Returns
    stochastic: Returns
    seed: int
    env: str | None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[str] = field(default_factory=list)
    observation_noise: Any = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        for way in WAYS:
            infos = getattr(self, way).infos
            data[way]["infos"] = {name: info._asdict() for name, info in infos.items()}
        data["observation_noise"] = np.asarray(self.observation_noise).tolist()
        return data


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
    for name, value, least in (
        ("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0),
        ("max_episode_steps", 1 if max_episode_steps is None else max_episode_steps, 1),
    ):  # fmt: skip
        check_whole(name, value, least)
    free_compiled_code()
    agent, place = _resolve(run, env, env_kwargs, engine)
    # training draws from the seed itself
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)

    def returns(place: _Place, lanes: int, ways: Sequence[str]) -> list[Returns]:
        with _opened(place, lanes, observation_noise) as source:
            check_spaces(agent, source)
            limit = longest_episode(max_episode_steps, source.time_limit)
            play = partial(source.play, agent.policy, key, episodes=episodes, max_steps=limit)
            return [Returns.of(play(greedy=way == "deterministic"), way) for way in ways]

    found: list[Returns] = []
    if video is None:
        inside, lanes = place.inside(wrappers), min(num_envs, episodes)
        for ways in [[way] for way in WAYS] if wrappers else [WAYS]:  # a wrapper may keep a state
            found += returns(inside, lanes, ways)
    else:
        for way, filmed in _filmed(place, wrappers, user_path(video), min(VIDEOS, episodes)):
            found += returns(filmed, 1, [way])
    return Evaluation(
        *found, seed=seed, env=environments.describe(place.env), env_kwargs=place.kwargs,
        wrappers=[_name(wrapper) for wrapper in wrappers], observation_noise=observation_noise,
    )  # fmt: skip


class _Place(NamedTuple):
    """Where a policy is evaluated: the environment, its arguments, and what opens it."""

    env: Any
    kwargs: dict[str, Any]
    engine: Engine | None

    def inside(self, wrappers: Sequence[Wrapper]) -> "_Place":
        """The same inside of wrappers."""
        if not wrappers:
            return self
        if self.engine is not None:
            raise UserError(
                f"wrappers and videos are for Gymnasium's environments, got engine={self.engine!r}"
            )
        return _Place(wrapped(self.env, self.kwargs, wrappers), {}, None)


@contextlib.contextmanager
def _opened(place: _Place, num_envs: int, noise: Any) -> Iterator[Source]:
    """The source of episodes, open as long as it is used; the first failure is the one reported."""
    source = open_source(place.env, num_envs, engine=place.engine, kwargs=place.kwargs)
    try:
        noisy = np.any(np.asarray(noise, object) != 0)
        yield with_noise(source, noise) if noisy else source
    except BaseException:
        with contextlib.suppress(Exception):
            source.close()
        raise
    source.close()


def _filmed(
    place: _Place, wrappers: Sequence[Wrapper], folder: Path, episodes: int
) -> Iterator[tuple[str, _Place]]:
    """For each way of acting, the environment as it is recorded."""
    drawn = place._replace(kwargs={**place.kwargs, "render_mode": "rgb_array"})
    name = environments.describe(place.env) or _name(place.env)
    check_video(wrapped(drawn.env, drawn.kwargs, wrappers), folder, name)
    for way in WAYS:
        yield way, drawn.inside([*wrappers, recorder(folder, way, episodes)])


def _resolve(
    run: Any, env: Any, env_kwargs: dict[str, Any] | None, engine: Engine | None
) -> tuple[Agent, _Place]:
    """The agent, and its environment, arguments and engine: the run's own if none is given."""
    agent, own = _own(run)
    if env is None:
        if own.env is None:
            raise UserError(
                "no environment to evaluate in: the policy does not name one; pass an "
                "environment's id (--env ID, or env= in Python)"
            )
        if own.engine is MISSING and engine is None:
            raise UserError(
                f"{run} was trained with an engine passed as an object; evaluate it in Python: "
                f"policygrad.evaluate({str(run)!r}, engine=...)"
            )
        kwargs = own.kwargs if env_kwargs is None else env_kwargs
        return agent, _Place(own.env, kwargs, own.engine if engine is None else engine)
    if env_kwargs is None and _same(env, own.env):
        return agent, _Place(own.env, own.kwargs, own.engine if engine is None else engine)
    if env_kwargs is None and own.kwargs:
        warnings.warn(
            f"the arguments {own.kwargs} that the run passed to its environment are not passed to "
            "another one; give env_kwargs (--env-kwargs) to pass some, {} for none",
            stacklevel=3,
        )
    kwargs = env_kwargs or {}
    return agent, _Place(environments.choose_engine(env, kwargs=kwargs), kwargs, engine)


MISSING: Any = object()  # an engine that no file holds


def _own(run: Any) -> tuple[Agent, _Place]:
    """The agent of a run, and where it was trained, as far as that is known."""
    if isinstance(run, Run):
        return run.agent, _Place(run.env, run.env_kwargs, run.engine)
    if isinstance(run, Agent):
        return run, _Place(None, {}, None)
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
    engine = MISSING if "engine" in config.get("objects", ()) else None
    return agent, _Place(config.get("env"), config.get("env_kwargs") or {}, engine)


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise UserError unless a value is a whole number of at least `least`, below 2³¹."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{flag(name)} must be a whole number, got {value!r}")
    if not least <= int(value) < 2**31:
        most = "" if int(value) < least else f" and at most {2**31 - 1}"
        raise UserError(f"{flag(name)} must be at least {least}{most}, got {value}")


def _same(env: Any, own: Any) -> bool:
    """Whether an environment is the run's: the same object, or the same id."""
    if own is None:
        return False
    ours, theirs = environments.describe(env), environments.describe(own)
    if ours is None or theirs is None:
        return env is own
    return environments.choose_engine(ours) == environments.choose_engine(theirs)


def _name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)
