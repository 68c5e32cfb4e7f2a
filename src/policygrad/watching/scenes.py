"""Scenes: one environment that is stepped, and a picture of it at any time."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from policygrad import environments
from policygrad.core.errors import UserError
from policygrad.environments.arguments import check_arguments
from policygrad.environments.atari import is_atari, of_evaluation
from policygrad.environments.catalogue import is_stepped_by_gymnasium
from policygrad.environments.deadline import limited
from policygrad.environments.envpool import Pool
from policygrad.environments.gymnasium_lanes import GymnasiumLanes
from policygrad.environments.gymnax import GymnaxEnvironment
from policygrad.environments.lanes import Lanes
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.environments.wrapping import Wrapper, wrapped
from policygrad.watching.compiled_lane import CompiledLane
from policygrad.watching.displays import choose_mujoco_backend, draw_without_a_display
from policygrad.watching.pictures import checked, newest_frame, of_observation

USUAL_FPS = 30.0
OF_PICTURES = 10.0  # pictures a second, of observations that are pictures
ATARI_FPS = 60.0

# gymnax's id -> the parts of its state that are the state of Gymnasium's environment of this id
SAME_STATE = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Pendulum-v1": ("theta", "theta_dot"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
}


class Scene(NamedTuple):
    """One environment that is stepped and drawn.

    Attributes:
        lanes: step it.
        picture: takes a picture `[height, width, 3]` of it as it is.
        fps: pictures a second at the speed of the task.
    """

    lanes: Lanes
    picture: Callable[[], Any]
    fps: float


def where_it_is_drawn(env: Any) -> Any:
    """The environment that is drawn in the place of one: Gymnasium's for an id of EnvPool, which
    draws only Atari games. All others are drawn themselves.

    Raises:
        UserError: Gymnasium has no environment of this id.

    Warns:
        another one is drawn.
    """
    engine, name = environments.split_engine(env) if isinstance(env, str) else (None, "")
    if engine != "envpool" or is_atari(env):
        return env
    if name not in gymnasium.registry:
        raise UserError(
            f"{env} does not draw itself, which a video needs, and Gymnasium has no {name} to be "
            "drawn in its place"
        )
    warnings.warn(
        f"{env} does not draw itself; the policy acts in gymnasium/{name} in its place",
        stacklevel=2,
    )
    return f"gymnasium/{name}"


def open_scene(
    env: Any,
    kwargs: dict[str, Any],
    *,
    engine: Any = None,
    wrappers: Sequence[Wrapper] = (),
    step_timeout: float | None = None,
) -> Scene:
    """The scene of an environment.

    Args:
        env: as `environments.make` takes it.
        kwargs: its arguments.
        engine: of the user's own; refused.
        wrappers: around an environment of Gymnasium.
        step_timeout: seconds that a step or a reset may take; None for no limit.

    Raises:
        UserError: the environment does not draw itself, or cannot be made.
    """
    if engine is not None:
        raise UserError(
            f"wrappers and videos are for the library's own engines, got engine={engine!r}"
        )
    draw_without_a_display()
    if wrappers or is_stepped_by_gymnasium(env):
        return _of_gymnasium(env, kwargs, wrappers, step_timeout)
    if is_atari(env):
        return _of_atari(env, of_evaluation(env, kwargs))
    name = env if isinstance(env, str) else _name(env)
    is_open = isinstance(env, str) or not hasattr(env, "segments")
    made: Any = environments.make(env, 1, kwargs=kwargs) if is_open else None
    if isinstance(made, CompiledEnvironment):
        return _of_compiled(made, name)
    raise UserError(f"{name} does not draw itself, which a video needs")


def check_scene(*args: Any, **kwargs: Any) -> None:
    """UserError unless `open_scene` with these arguments opens one whose first picture is there."""
    scene = open_scene(*args, **kwargs)
    try:
        scene.lanes.start(0)
        scene.picture()
    finally:
        scene.lanes.close()


def _of_gymnasium(
    env: Any, kwargs: dict[str, Any], wrappers: Sequence[Wrapper], step_timeout: float | None
) -> Scene:
    name = environments.describe(env) or _name(env)
    make = _drawing_maker(env, kwargs, wrappers)
    with limited(step_timeout, [0], "while it was tried before its video"):
        _check_drawn(make, name)
    lanes: Any = environments.make(make, 1, step_timeout=step_timeout)
    assert isinstance(lanes, GymnasiumLanes)
    vector: Any = lanes.vector
    (one,) = vector.envs
    fps = float((getattr(one, "metadata", None) or {}).get("render_fps") or USUAL_FPS)
    return Scene(lanes, lambda: checked(one.render(), name), fps)


def _drawing_maker(
    env: Any, kwargs: dict[str, Any], wrappers: Sequence[Wrapper]
) -> Callable[[], Any]:
    """What makes the environment with `render_mode="rgb_array"`; a function that takes no such
    argument may make one that has it."""
    asked = wrapped(env, {**kwargs, "render_mode": "rgb_array"}, wrappers)
    if isinstance(env, (str, EnvSpec, gymnasium.Env)):
        return asked
    try:
        check_arguments(env, {**kwargs, "render_mode": "rgb_array"})
    except UserError:
        plain = wrapped(env, kwargs, wrappers)
        made = plain()
        made.close()
        return plain if getattr(made, "render_mode", None) == "rgb_array" else asked
    return asked


def _check_drawn(make: Callable[[], Any], name: str) -> None:
    """Raise UserError unless an environment draws pictures.

    Args:
        make: makes the environment, with `render_mode="rgb_array"`.
        name: of the environment, for errors.
    """
    try:
        env = make()
    except (TypeError, UserError, gymnasium.error.DependencyNotInstalled) as error:
        raise UserError(
            f"{name} cannot be made with render_mode='rgb_array', which a video needs: {error}"
        ) from error
    try:
        if getattr(env, "render_mode", None) != "rgb_array":
            modes = (getattr(env, "metadata", None) or {}).get("render_modes", [])
            raise UserError(
                f"{name} does not draw itself with render_mode='rgb_array', which a video needs; "
                f"it has {modes}"
            )
        choose_mujoco_backend()
        env.reset(seed=0)
        checked(env.render(), name)
    except (gymnasium.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UserError(f"{name} cannot draw itself: {error}") from error
    finally:
        env.close()


def _of_atari(env: str, kwargs: dict[str, Any]) -> Scene:
    """A game: its screen by EnvPool, and what the policy sees of it by ale-py, which has no other
    picture."""
    fps = ATARI_FPS / kwargs.get("frame_skip", 4)
    if not env.startswith("envpool/"):
        lanes: Any = environments.make(env, 1, kwargs=kwargs)
        return Scene(lanes, lambda: newest_frame(np.asarray(lanes.observations)[0]), fps)
    lanes = environments.make(env, 1, kwargs={**kwargs, "render_mode": "rgb_array"})
    pool: Any = lanes.vector
    assert isinstance(pool, Pool)
    return Scene(lanes, lambda: checked(pool.render()[0], env), fps)


def _of_compiled(environment: CompiledEnvironment, name: str) -> Scene:
    lane = CompiledLane(environment)
    inner = environment.environment if isinstance(environment, GymnaxEnvironment) else None
    same = SAME_STATE.get(getattr(inner, "name", ""))
    if inner is not None and same is not None:
        return _of_the_same_state(lane, inner.name, same)
    render = getattr(environment, "render", None)
    if inner is None and callable(render):  # of the user's own: state -> picture
        return Scene(lane, lambda: checked(np.asarray(render(lane.state)), name), USUAL_FPS)
    if _is_picture(environment.observation_space):
        return Scene(lane, lambda: of_observation(lane.observations[0]), OF_PICTURES)
    raise UserError(
        f"{name} does not draw itself, which a video needs: its observations are no pictures, and "
        "Gymnasium has no environment of the same state"
    )


def _of_the_same_state(lane: CompiledLane, name: str, parts: Sequence[str]) -> Scene:
    """A classic task of gymnax, drawn by Gymnasium's environment in the same state."""
    drawn, picture, fps = _drawing(name)

    def draw() -> Any:
        drawn.state = np.array([float(getattr(lane.state, part)) for part in parts])
        if hasattr(drawn, "last_u"):
            drawn.last_u = float(lane.state.last_u)
        return checked(picture(), name)

    return Scene(lane, draw, fps)


def _drawing(name: str) -> tuple[Any, Callable[[], Any], float]:
    """Gymnasium's environment of an id, how it is drawn, and how many pictures a second."""
    make = wrapped(f"gymnasium/{name}", {"render_mode": "rgb_array"}, ())
    _check_drawn(make, name)
    env = make()
    env.reset(seed=0)
    return env.unwrapped, env.render, float(env.metadata.get("render_fps", USUAL_FPS))


def _is_picture(space: Any) -> bool:
    """Whether an observation can be shown: a bounded array of two axes, or of three."""
    return isinstance(space, spaces.Box) and len(space.shape) in (2, 3) and min(space.shape[:2]) > 1


def _name(env: Any) -> str:
    return getattr(env, "__name__", type(env).__name__)
