"""A policy seen acting: `watch` writes a video of some episodes."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import jax

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.core.numbers import plain_number
from policygrad.core.shell import user_path
from policygrad.core.usual import longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.environments.wrapping import Wrapper
from policygrad.evaluating.places import Place, asked_for
from policygrad.evaluating.playing import check_whole
from policygrad.evaluating.trained import Evaluated, agent_and_place
from policygrad.rollout.engines import Engine
from policygrad.watching import Film, Told, check_film, check_package, check_scene

USUAL_NAME = "watch.mp4"
MOST_FPS = 1000


@dataclass(frozen=True)
class Watched:
    """A video of some episodes.

    Attributes:
        path: of the file.
        env: the environment's name.
        way: of acting, by the distribution's mode (deterministic) or by samples (stochastic).
        seed: all randomness follows from it.
        returns: of the episodes, undiscounted.
        lengths: of the episodes, in steps.
        unfinished: whether each episode was stopped at the cap on steps.
        frames: pictures in the file.
        fps: pictures a second.
    """

    path: Path
    env: str | None
    way: Literal["deterministic", "stochastic"]
    seed: int
    returns: list[float]
    lengths: list[int]
    unfinished: list[bool]
    frames: int
    fps: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "path": str(self.path)}


def watch(
    run: Evaluated,
    env: Any = None,
    *,
    out: str | Path | None = None,
    episodes: int = 1,
    deterministic: bool = False,
    seed: int = 0,
    max_episode_steps: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    fps: float | None = None,
    engine: Engine | None = None,
    on_step: Callable[[Told], Any] | None = None,
) -> Watched:
    """Write a video of a policy that acts, beside what it is paid and how sure it is.

    Args:
        run: what `train` returned, a run directory, a checkpoint or a policy file, or an `Agent`.
        env: where it acts; None takes the run's own environment.
        out: the file, .mp4 or .gif; one that is there is replaced. None: `watch.mp4` in the run's
            directory.
        episodes: how many, one after the other.
        deterministic: act by the distribution's mode; otherwise by samples.
        seed: of the environment and the sampled actions.
        max_episode_steps: greatest length of an episode. None: the environment's limit, or 10,000.
        env_kwargs, wrappers, engine: as of `policygrad.evaluate`.
        fps: pictures a second; None takes the environment's own.
        on_step: told of every step.

    Raises:
        UserError: the environment does not draw itself, the file cannot be written, a package is
            missing, or a number is out of range.
        RunError: a run that is missing or damaged.
        EnvironmentFailure: the environment raised.
        NonFiniteError: an observation or a reward is NaN or infinite.
    """
    agent, own = agent_and_place(run)
    cap = 1 if max_episode_steps is None else max_episode_steps
    for name, value, least in (
        ("episodes", episodes, 1), ("seed", seed, 0), ("max_episode_steps", cap, 1),
    ):  # fmt: skip
        check_whole(name, value, least)
    rate = _checked_fps(fps)
    path = _path(run, out)
    check_film(path)
    free_compiled_code()
    own = own._replace(step_timeout=None)  # drawing takes time of its own
    place = asked_for(own, env, env_kwargs, engine).drawn()
    films: list[Film] = []

    def film(_: int, usual: float) -> Film:
        if not films:
            films.append(Film(path, rate or usual))
        return films[0]

    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)  # as of an evaluation
    with place.filmed(wrappers, 0.0, agent, film, episodes, on_step) as source:
        played = source.play(
            agent.policy, key, episodes=episodes, greedy=deterministic,
            max_steps=longest_episode(max_episode_steps, source.time_limit),
        )  # fmt: skip
    return Watched(
        path, environments.describe(place.env), "deterministic" if deterministic else "stochastic",
        seed, played.returns.tolist(), played.lengths.tolist(), played.unfinished.tolist(),
        films[0].frames, films[0].fps,
    )  # fmt: skip


ARGUMENTS_OF_WATCH = tuple(inspect.signature(watch).parameters)


def check_watching(place: Place) -> None:
    """UserError unless videos in MP4 can be made of an environment; a picture of it is taken."""
    check_package(USUAL_NAME)
    place = place.drawn()
    check_scene(place.env, place.kwargs, engine=place.engine)


def _checked_fps(fps: Any) -> float | None:
    rate = None if fps is None else plain_number(fps)
    if fps is not None and (rate is None or not 0 < rate <= MOST_FPS):
        raise UserError(f"--fps must be above 0 and at most {MOST_FPS}, got {fps!r}")
    return rate


def _path(run: Evaluated, out: str | Path | None) -> Path:
    """The file to write."""
    if out is not None:
        return user_path(out)
    path = user_path(run) if isinstance(run, (str, PathLike)) else getattr(run, "path", None)
    if path is None:
        raise UserError("this policy has no directory to write a video into; give out=FILE.mp4")
    return (path if path.is_dir() else path.parent) / USUAL_NAME
