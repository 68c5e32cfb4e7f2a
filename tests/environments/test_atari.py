"""Atari games, stepped by ale-py and by EnvPool."""

import json
import sys

import gymnasium
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import UserError
from policygrad.environments import atari, catalogue
from policygrad.environments.atari import PREPROCESSING, is_atari, of_evaluation, with_preprocessing
from policygrad.environments.catalogue import choose_engine, make
from tests.worlds import python

pytest.importorskip("ale_py")

SHORT = {"total_steps": 32, "batch_steps": 32, "num_envs": 2, "algorithm": "vanilla"}


@pytest.fixture
def without_envpool(monkeypatch):
    """The engines that there are where EnvPool is not installed."""
    monkeypatch.setitem(sys.modules, "envpool", None)
    for module in (atari, catalogue):
        find = module.importlib.util.find_spec
        monkeypatch.setattr(
            module.importlib.util,
            "find_spec",
            lambda n, find=find: None if n == "envpool" else find(n),
        )


def play(lanes, steps=40, seed=0):
    """Rewards and observations of random actions."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(steps):
        step = lanes.step(rng.integers(0, lanes.action_space.n, lanes.num_envs))
        rows.append((step.rewards, lanes.observations.copy()))
    return [np.stack(x) for x in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("env", "atari_game"),
    [("ALE/Pong-v5", True), ("gymnasium/ALE/Pong-v5", False), ("CartPole-v1", False),
     ("gymnax/Pong-misc", False), ("envpool/CartPole-v1", False), (None, False)],
)  # fmt: skip
def test_which_ids_are_games(env, atari_game):
    assert is_atari(env) == atari_game


def test_ale_steps_what_envpool_cannot(without_envpool):
    assert choose_engine("Pong-v5") == "ALE/Pong-v5"
    assert choose_engine("Pong-v5", kwargs={"noop_max": 1}) == "ALE/Pong-v5"
    assert choose_engine("SpaceInvaders-v5") == "ALE/SpaceInvaders-v5"
    assert choose_engine("CartPole-v1") == "CartPole-v1"
    assert choose_engine("gymnasium/ALE/Pong-v5") == "gymnasium/ALE/Pong-v5"


def test_the_preprocessing_is_that_of_every_engine_and_the_users_words_come_first():
    found = with_preprocessing("ALE/Pong-v5", {"noop_max": 7})
    assert found == PREPROCESSING | {"noop_max": 7}
    assert with_preprocessing("CartPole-v1", {"noop_max": 7}) == {"noop_max": 7}
    assert of_evaluation("ALE/Pong-v5", {"episodic_life": True})["episodic_life"] is False
    assert of_evaluation("CartPole-v1", {"episodic_life": True})["episodic_life"] is True
    assert of_evaluation("ALE/Pong-v5", {"size": 3}) == {"size": 3}  # of an engine of one's own


def test_pictures_are_bytes_of_four_frames():
    lanes = make("ALE/Pong-v5", 2)
    lanes.start(0)
    assert lanes.observations.shape == (2, 4, 84, 84)
    assert lanes.observations.dtype == np.uint8
    assert lanes.action_space == gymnasium.spaces.Discrete(6)
    assert lanes.time_limit == PREPROCESSING["max_episode_steps"]
    wide = make("ALE/Pong-v5", 1, kwargs={"full_action_space": True, "stack_num": 1})
    assert wide.action_space.n == 18
    assert wide.observation_space.shape == (1, 84, 84)


def test_a_lane_follows_from_its_number_and_the_seed():
    whole, later = make("ALE/Breakout-v5", 3), make("ALE/Breakout-v5", 1, first_lane=2)
    for lanes in (whole, later):
        lanes.start(4)
    np.testing.assert_array_equal(whole.observations[2], later.observations[0])
    first = play(whole)
    whole.start(4)
    again = play(whole)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    whole.start(5)
    assert (play(whole)[1] != first[1]).any()


def test_rewards_are_the_games_own():
    lanes = make("ALE/SpaceInvaders-v5", 4)
    lanes.start(0)
    assert play(lanes, 150)[0].max() > 1


@pytest.mark.slow
def test_a_run_looks_at_signs_and_counts_the_score(tmp_path, without_envpool):
    out = tmp_path / "run"
    run = policygrad.train(
        "SpaceInvaders-v5", out=out, total_steps=2 * 900, batch_steps=900, num_envs=2,
        algorithm="vanilla", hidden=(8,), env_kwargs={"max_episode_steps": 400},
    )  # fmt: skip
    saved = json.loads((out / "config.json").read_text())
    assert saved["env"] == "ALE/SpaceInvaders-v5"
    assert saved["env_kwargs"] == PREPROCESSING | {"max_episode_steps": 400}
    assert saved["config"]["clip_rewards"] is True
    assert saved["config"]["network"] == "small"
    assert run.summary["return_mean"] > 20  # points of 5 to 30 each
    assert policygrad.evaluate(run, episodes=2).stochastic.mean > 20


def test_others_are_trained_on_their_rewards(tmp_path):
    policygrad.train("CartPole-v1", out=tmp_path / "run", **SHORT)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["clip_rewards"] is False


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("Pongg-v5", {}, "unknown environment ALE/Pongg-v5, did you mean ALE/Pong-v5"),
        ("Pong-v4", {}, "did you mean ALE/Pong-v5"),
        ("Pong-v5", {"speed": 2}, "does not take these arguments.*speed"),
        ("Pong-v5", {"frameskip": 2}, "takes frame_skip in place of frameskip"),
        ("Pong-v5", {"frame_skip": 0}, "frame_skip must be a whole number, at least 1"),
        ("Pong-v5", {"reward_clipping": True}, "does not take these arguments"),
    ],
)
def test_what_a_game_does_not_take_is_named(name, kwargs, message):
    with pytest.raises(UserError, match=message):
        make(f"ALE/{name}", 1, kwargs=kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stack_num": 0}, "stack_num must be a whole number, at least 1"),
        ({"frame_skip": "a"}, "frame_skip must be a whole number"),
        ({"noop_max": 0}, "noop_max must be a whole number"),
        ({"img_height": 84.0}, "img_height must be a whole number"),
        ({"img_width": True}, "img_width must be a whole number"),
        ({"max_episode_steps": None}, "max_episode_steps must be a whole number"),
        ({"gray_scale": 1}, "gray_scale must be True or False"),
        ({"repeat_action_probability": 1.5}, "must be between 0 and 1"),
        ({"repeat_action_probability": "often"}, "must be a number"),
        ({"frameskip": 2}, "takes frame_skip in place of frameskip"),
        ({"grayscale": False}, "takes gray_scale in place of grayscale"),
        ({"reward_clip": True}, "--no-clip-rewards"),
    ],
    ids=str,
)
def test_what_the_engines_would_not_survive_is_refused(kwargs, message):
    with pytest.raises(UserError, match=message):
        with_preprocessing("ALE/Pong-v5", kwargs)


@pytest.mark.parametrize("rom", ["none", "another"])
def test_a_missing_rom_is_named(rom, tmp_path, monkeypatch, capsys):
    if rom == "another":
        (tmp_path / "pong.bin").write_bytes(b"no game")
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"the ROM of ALE/Pong-v5 is missing: .*pong\.bin"):
        make("ALE/Pong-v5", 1)
    assert capsys.readouterr().out == ""


def test_the_extra_is_named_where_ale_is_missing(monkeypatch):
    find = atari.importlib.util.find_spec
    monkeypatch.setattr(
        atari.importlib.util, "find_spec", lambda n: None if n == "ale_py" else find(n)
    )
    with pytest.raises(UserError, match=r"pip install 'policygrad\[atari\]'"):
        make("ALE/Pong-v5", 1)


ACTS = """
import sys
for name in ("ale_py", "envpool"):
    sys.modules[name] = None
import numpy as np, policygrad
agent = policygrad.load(sys.argv[1])
print(int(agent.act(np.full((4, 84, 84), 128, np.uint8))))
"""


def test_a_saved_policy_acts_where_no_game_is_installed(tmp_path, without_envpool):
    run = policygrad.train("Pong-v5", out=tmp_path / "run", **SHORT)
    done = python("-c", ACTS, str(tmp_path / "run"))
    expected = int(run.agent.act(np.full((4, 84, 84), 128, np.uint8)))
    assert done.stdout == f"{expected}\n", done.stderr


def test_every_game_of_the_wheel_has_an_id():
    games = atari.games()
    assert games["SpaceInvaders-v5"] == "space_invaders"
    assert len(games) > 50


class TestBothEngines:
    """EnvPool beside ale-py, where both are installed."""

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("envpool")

    def test_spaces_are_alike(self):
        ours, theirs = make("ALE/Pong-v5", 2), make("envpool/Pong-v5", 2)
        assert ours.observation_space == theirs.observation_space
        assert ours.action_space == theirs.action_space
        assert ours.time_limit == theirs.time_limit

    def test_a_game_of_envpool_keeps_its_score(self):
        lanes = make("envpool/SpaceInvaders-v5", 4)
        lanes.start(0)
        assert play(lanes, 150)[0].max() > 1
