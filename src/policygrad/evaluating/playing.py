"""An agent plays episodes, once by its distribution's mode and once by samples."""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Never

import jax

from policygrad import environments
from policygrad.core.elsewhere import OF_EVALUATE
from policygrad.core.errors import UserError
from policygrad.core.settings import Timeout, check_setting, did_you_mean, flag
from policygrad.core.shell import user_path
from policygrad.core.usual import LONGEST_EPISODE, longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.environments.wrapping import Wrapper
from policygrad.evaluating.places import asked_for, name_of
from policygrad.evaluating.results import WAYS, Evaluation, Returns
from policygrad.evaluating.trained import Evaluated, agent_and_place
from policygrad.policies.agent import check_spaces
from policygrad.rollout.engines import Engine
from policygrad.rollout.source import Source
from policygrad.watching import Film, check_film

VIDEOS = 3  # of each way of acting


def evaluate(
    run: Evaluated,
    env: Any = None,
    *,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    observation_noise: Any = 0.0,
    episodes: int = 100,
    seed: int = 0,
    max_episode_steps: int | None = None,
    num_envs: int = 32,
    processes: bool = False,
    step_timeout: float | None = None,
    engine: Engine | None = None,
    video: str | Path | None = None,
    video_every: int | None = None,
    **unknown: Never,
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
        max_episode_steps: greatest length of an episode. None: the environment's limit, or 10,000,
            with a warning if an episode reaches them.
        num_envs: environments stepped together.
        processes: step Gymnasium environments in spawned worker processes.
        step_timeout: seconds that a step or a reset of a Gymnasium environment may take. None takes
            the run's own where a limit can be kept, and no limit where there is a video.
        engine: opens `env` if it is an id; None takes the run's, or the one that the id names.
        video: folder for videos of the first three episodes of each way of acting; then one
            environment is stepped at a time.
        video_every: K; with `video`, the episodes 0, K, 2K and so on are filmed in their place.
        unknown: refused; the error names what there is in its place.

    Raises:
        UserError: an argument is unknown, no environment is known, a number is out of range, or a
            wrapper, a video, noise or a limit does not fit the environment.
        RunError: a run that is missing or damaged.
        EnvironmentFailure: the environment raised, or a step took longer than the limit.
        NonFiniteError: an observation or a reward is NaN or infinite.
    """
    for name in unknown:
        raise UserError(f"evaluate takes no argument {name!r}{_instead(name)}")
    agent, own = agent_and_place(run)
    for name, value, least in (
        ("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0),
        ("max_episode_steps", 1 if max_episode_steps is None else max_episode_steps, 1),
        ("video_every", 1 if video_every is None else video_every, 1),
    ):  # fmt: skip
        check_whole(name, value, least)
    if video_every is not None and video is None:
        raise UserError(
            f"{flag('video_every')} {video_every} says which episodes are filmed; give the folder "
            "of the videos too: --video DIR"
        )
    check_setting("step_timeout", Timeout | None, step_timeout)
    check_setting("processes", bool, processes)
    free_compiled_code()
    if video is not None:  # drawing takes time of its own
        own = own._replace(step_timeout=None)
    place = asked_for(own, env, env_kwargs, engine, processes=processes, step_timeout=step_timeout)
    # training draws from the seed itself
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)

    cap = LONGEST_EPISODE

    def returns(opened: AbstractContextManager[Source], ways: Sequence[str]) -> list[Returns]:
        nonlocal cap
        with opened as source:
            check_spaces(agent, source)
            cap = longest_episode(max_episode_steps, source.time_limit)
            play = partial(source.play, agent.policy, key, episodes=episodes, max_steps=cap)
            return [Returns.of(play(greedy=way == "deterministic"), way) for way in ways]

    found: list[Returns] = []
    if video is None:
        inside, lanes = place.inside(wrappers), min(num_envs, episodes)
        for ways in [[way] for way in WAYS] if wrappers else [WAYS]:  # a wrapper may keep a state
            found += returns(inside.opened(lanes, observation_noise), ways)
    else:
        folder = user_path(video)
        check_film(folder / f"{WAYS[0]}-episode-0.mp4")
        place = place.drawn()
        for way in WAYS:
            films = partial(_film, folder, way, video_every)
            opened = place.filmed(wrappers, observation_noise, agent, films, episodes)
            found += returns(opened, [way])
    result = Evaluation(
        *found, seed=seed, env=environments.describe(place.env), env_kwargs=place.kwargs,
        wrappers=[name_of(wrapper) for wrapper in wrappers], observation_noise=observation_noise,
    )  # fmt: skip
    if max_episode_steps is None:
        result.warn_of_cap(cap)
    return result


def _film(folder: Path, way: str, every: int | None, episode: int, fps: float) -> Film | None:
    """The film of an episode of a way of acting, if it is one of those that are filmed."""
    chosen = episode < VIDEOS if every is None else episode % every == 0
    return Film(folder / f"{way}-episode-{episode}.mp4", fps) if chosen else None


ARGUMENTS = tuple(inspect.signature(evaluate).parameters.keys() - {"unknown"})


def _instead(name: str) -> str:
    """'; …' with what there is in place of an unknown argument."""
    hint = OF_EVALUATE.get(name)
    return (
        f"; {hint}"
        if hint
        else did_you_mean(name, ARGUMENTS) or f"; it takes {', '.join(sorted(ARGUMENTS))}"
    )


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise UserError unless a value is a whole number of at least `least`, below 2³¹."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"{flag(name)} must be a whole number, got {value!r}")
    if not least <= int(value) < 2**31:
        most = "" if int(value) < least else f" and at most {2**31 - 1}"
        raise UserError(f"{flag(name)} must be at least {least}{most}, got {value}")
