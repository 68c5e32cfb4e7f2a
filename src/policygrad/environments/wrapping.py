"""One Gymnasium environment with arguments, wrappers and a video of it, as a function that makes
it."""

import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from policygrad.core.errors import UserError
from policygrad.environments.arguments import Making
from policygrad.environments.catalogue import split_engine
from policygrad.environments.gymnasium_ids import Registered, find_spec
from policygrad.environments.instances import refuse_changed

Wrapper = Callable[[gymnasium.Env], gymnasium.Env]


def wrapped(env: Any, kwargs: dict[str, Any], wrappers: Sequence[Wrapper]) -> Callable[[], Any]:
    """A function that makes a Gymnasium environment and wraps it.

    Args:
        env: an id of Gymnasium, an `EnvSpec`, an environment that was made from one, or a function.
        kwargs: passed to the environment.
        wrappers: called one after the other, environment -> environment.

    Raises:
        UserError: an environment of another kind, or a wrapper that cannot be called.
    """
    for wrapper in wrappers:
        if not callable(wrapper):
            raise UserError(
                f"wrappers are functions or classes, environment -> environment, got {wrapper!r}"
            )
    return partial(_make, _maker(env, kwargs), tuple(wrappers))


def _make(make: Callable[[], Any], wrappers: tuple[Wrapper, ...]) -> Any:
    return functools.reduce(_put_around, wrappers, make())


def _put_around(env: Any, wrapper: Wrapper) -> Any:
    try:
        return wrapper(env)
    except gymnasium.error.DependencyNotInstalled:
        raise
    except Exception as error:
        name = getattr(wrapper, "__name__", repr(wrapper))
        raise UserError(
            f"the wrapper {name} cannot be put around {env}: {type(error).__name__}: {error}"
        ) from error


def _maker(env: Any, kwargs: dict[str, Any]) -> Callable[[], Any]:
    engine, name = split_engine(env) if isinstance(env, str) else (None, env)
    if engine not in (None, "gymnasium"):
        raise UserError(
            f"wrappers and videos are for Gymnasium's environments, got {env!r}; name Gymnasium's "
            f"own, such as gymnasium/{name}, if it has the same spaces"
        )
    if isinstance(env, gymnasium.Env) and env.spec is not None:
        refuse_changed(env, env.spec)
        name = env.spec
    if isinstance(name, (str, EnvSpec)):
        return Registered(find_spec(name) if isinstance(name, str) else name, kwargs)
    if callable(env) and not isinstance(env, (gymnasium.Env, VectorEnv)):
        return Making(env, kwargs)
    raise UserError(
        f"wrappers and videos are for one environment at a time: pass an id of Gymnasium or a "
        f"function that makes a Gymnasium environment, got {env!r}"
    )


def recorder(folder: Path, name: str, episodes: int) -> Wrapper:
    """A wrapper that writes the first episodes as `folder/name-episode-0.mp4` and so on."""
    return partial(_record, folder=folder, name=name, episodes=episodes)


def _record(env: gymnasium.Env, folder: Path, name: str, episodes: int) -> gymnasium.Env:
    with warnings.catch_warnings():  # that older videos of these names are replaced
        warnings.simplefilter("ignore")
        return gymnasium.wrappers.RecordVideo(
            env, str(folder), episode_trigger=lambda i: i < episodes, name_prefix=name
        )


def check_video(make: Callable[[], Any], folder: Path, name: str) -> None:
    """Raise UserError unless an environment draws pictures and they can be written as a video.

    Args:
        make: makes the environment, with `render_mode="rgb_array"`.
        folder: of the videos; it is made here.
        name: of the environment, for errors.
    """
    if importlib.util.find_spec("moviepy") is None:
        raise UserError("a video needs MoviePy; pip install 'policygrad[video]'")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to --video {folder}: {error.strerror}") from error
    try:
        env = make()
    except (TypeError, UserError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(
            f"{name} cannot be made with render_mode='rgb_array', which a video needs: {error}"
        ) from error
    try:
        modes = env.metadata.get("render_modes", [])
        if env.render_mode != "rgb_array":
            raise UserError(
                f"{name} does not draw itself with render_mode='rgb_array', which a video needs; "
                f"it has {modes}"
            )
        env.reset(seed=0)
        picture = env.render()
        env.close()
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"{name} cannot draw itself: {error}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        kind = type(picture).__name__
        raise UserError(f"{name}.render() must return a picture [height, width, 3], got {kind}")
