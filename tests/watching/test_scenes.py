"""From an environment to a scene: what is drawn, and what is refused."""

import importlib.util
import os

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from policygrad.core.errors import UserError
from policygrad.watching import displays, open_scene, where_it_is_drawn
from policygrad.watching.scenes import check_scene
from tests.evaluating.test_evaluation import Drawn
from tests.worlds import DUCK, Chain


def first_picture(*args, **kwargs):
    """The first picture of a scene, and how many a second."""
    scene = open_scene(*args, **kwargs)
    scene.lanes.start(0)
    picture = np.asarray(scene.picture())
    scene.lanes.close()
    return picture, scene.fps


def without_argument():
    return Drawn(render_mode="rgb_array")


@pytest.mark.parametrize("env", [Drawn, without_argument, lambda **kw: Drawn(**kw)])
def test_classes_and_functions(env):
    picture, fps = first_picture(env, {})
    assert (picture.shape, fps) == ((8, 8, 3), 5)
    check_scene(env, {})


def test_wrappers_draw_too():
    def inverted(env):
        class Inverted(gymnasium.Wrapper):
            def render(self):
                return 255 - self.env.render()

        return Inverted(env)

    assert first_picture(Drawn, {}, wrappers=[inverted])[0].min() == 255


def test_arguments_arrive():
    assert first_picture(Drawn, {"picture": (9, 5, 3)})[0].shape == (9, 5, 3)


class Painted:
    """A JAX-native environment that draws its state, the number of its steps."""

    observation_space, action_space = spaces.Box(0, 9, (1,), np.float32), spaces.Discrete(2)
    time_limit = 9

    def reset(self, key):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key, state, action):
        return state + 1, state + 1, jnp.float32(1), jnp.bool_(False), jnp.bool_(False)

    def render(self, state):
        return jnp.full((6, 4, 3), state[0], jnp.uint8)


def test_a_jax_native_environment_may_draw_its_state():
    scene = open_scene(Painted(), {})
    scene.lanes.start(0)
    scene.lanes.step(np.ones(1, np.int64))
    assert np.asarray(scene.picture()).tolist() == np.full((6, 4, 3), 1).tolist()


def test_minatar_is_shown_in_false_colours():
    picture, fps = first_picture("gymnax/Breakout-MinAtar", {})
    assert (picture.shape, fps) == ((10, 10, 3), 10)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 3


@pytest.mark.parametrize(
    "name",
    ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"],
)
def test_gymnaxs_classic_tasks_are_drawn_by_gymnasium(name):
    pytest.importorskip("pygame")
    scene = open_scene(f"gymnax/{name}", {})
    scene.lanes.start(1)
    before = np.asarray(scene.picture())
    space = scene.lanes.action_space
    action = np.asarray(space.high if isinstance(space, spaces.Box) else space.n - 1)[None]
    for _ in range(12):
        scene.lanes.step(action)
    after = np.asarray(scene.picture())
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


def test_the_state_is_the_one_that_is_drawn():
    pytest.importorskip("pygame")
    scene = open_scene("gymnax/CartPole-v1", {})
    scene.lanes.start(1)
    ours = np.asarray(scene.picture())
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.unwrapped.state = np.asarray(scene.lanes.observations)[0]
    assert np.array_equal(env.render(), ours)
    env.close()


@pytest.mark.parametrize(
    ("env", "kwargs", "words"),
    [
        (Chain, {}, "Chain cannot be made with render_mode='rgb_array', which a video needs"),
        (Drawn, {"picture": (4, 4)}, r"must return a picture \[height, width, 3\], got an array"),
        (DUCK, {}, "DuckChain does not draw itself"),
        ("gymnax/UmbrellaChain-bsuite", {}, "its observations are no pictures"),
        ("gymnax/Reacher-misc", {}, "gymnax/Reacher-misc does not draw itself"),
        ("NoSuch-v1", {}, "unknown environment NoSuch-v1"),
        ("gymnax/NoSuch-v1", {}, "unknown environment gymnax/NoSuch-v1"),
        (gymnasium.vector.SyncVectorEnv([Drawn]), {}, "one environment at a time"),
        ("CartPole-v1", {"gravity": 9}, "CartPole-v1 cannot be made with render_mode"),
        (3, {}, "3 is not an environment"),
    ],
)
def test_what_does_not_draw_itself_is_named(env, kwargs, words):
    with pytest.raises(UserError, match=words):
        open_scene(env, kwargs)


def test_an_engine_of_ones_own_is_refused():
    with pytest.raises(UserError, match="videos are for the library's own engines"):
        open_scene("x", {}, engine=object())


def test_envpool_is_drawn_by_gymnasium_and_it_is_said(monkeypatch):
    with pytest.warns(UserWarning, match=r"the policy acts in gymnasium/Hopper-v5 in its place"):
        assert where_it_is_drawn("envpool/Hopper-v5") == "gymnasium/Hopper-v5"
    with pytest.raises(UserError, match="Gymnasium has no NoSuch-v9"):
        where_it_is_drawn("envpool/NoSuch-v9")
    for other in (Drawn, "CartPole-v1", "gymnax/CartPole-v1", "ALE/Pong-v5", DUCK):
        assert where_it_is_drawn(other) is other


@pytest.mark.parametrize(("package", "size"), [("envpool", (210, 160)), ("ale_py", (84, 84))])
def test_atari(package, size):
    pytest.importorskip(package)
    env = "envpool/Pong-v5" if package == "envpool" else "ALE/Pong-v5"
    scene = open_scene(env, {"episodic_life": True})
    scene.lanes.start(0)
    before = np.asarray(scene.picture()).copy()
    assert (before.shape, before.dtype, scene.fps) == ((*size, 3), np.uint8, 15)
    for _ in range(40):
        scene.lanes.step(np.array([2]))
    assert not np.array_equal(before, scene.picture())
    scene.lanes.close()


# ----- without a display


@pytest.fixture
def headless(monkeypatch):
    """A Linux without a display, on which MuJoCo was imported."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(displays.sys, "platform", "linux")
    monkeypatch.setitem(displays.sys.modules, "mujoco", displays)
    return monkeypatch


@pytest.mark.parametrize(
    ("works", "chosen"), [(("egl", "osmesa"), "egl"), (("egl",), "egl"), (("osmesa",), "osmesa")]
)
def test_mujoco_draws_with_what_works(headless, works, chosen):
    headless.setattr(displays, "_works", lambda backend: backend in works)
    displays.choose_mujoco_backend()
    assert os.environ["MUJOCO_GL"] == chosen


def test_nothing_works(headless):
    headless.setattr(displays, "_works", lambda backend: False)
    with pytest.raises(UserError, match="set MUJOCO_GL to what this machine has"):
        displays.choose_mujoco_backend()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize(("name", "value"), [("DISPLAY", ":0"), ("MUJOCO_GL", "glfw")])
def test_a_display_and_a_choice_of_the_users_stand(headless, name, value):
    headless.setattr(displays, "_works", lambda backend: pytest.fail("was tried"))
    headless.setenv(name, value)
    displays.choose_mujoco_backend()
    assert os.environ.get("MUJOCO_GL") == (value if name == "MUJOCO_GL" else None)


def test_pygame_draws_into_memory(headless):
    displays.draw_without_a_display()
    assert os.environ["SDL_VIDEODRIVER"] == "dummy"
    headless.setenv("SDL_VIDEODRIVER", "x11")
    displays.draw_without_a_display()
    assert os.environ["SDL_VIDEODRIVER"] == "x11"


@pytest.mark.slow
def test_mujoco(monkeypatch):
    pytest.importorskip("mujoco")
    assert importlib.util.find_spec("mujoco")
    try:
        picture, fps = first_picture("HalfCheetah-v5", {})
    except UserError as error:
        pytest.skip(str(error))
    assert (picture.shape, fps) == ((480, 480, 3), 20)
    assert picture.std() > 10
