"""Numbers in infos: tallied by episode, logged, resumed, and there in evaluation."""

import json
from decimal import Decimal
from fractions import Fraction

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import environments
from policygrad.environments.infos import numbers_of, together
from policygrad.policies.agent import Agent
from policygrad.rollout import open_source
from policygrad.rollout.info_tally import InfoTally
from tests.rollout.test_source import NumPyChain
from tests.worlds import TINY, Chain, MLPPolicy

NAMES = ["info/parts/alive", "info/parts/time", "info/success"]
SUMS = ["info_sum/parts/alive", "info_sum/parts/time"]


class Telling(Chain):
    """Says whether it succeeded at its end, and parts of its reward at every step."""

    def step(self, action):
        *row, _ = super().step(action)
        info = {
            "parts": {"alive": np.float32(0.5), "time": self.time},
            "text": "no number", "array": np.ones(3), "nothing": None, "not a number": np.nan,
        }  # fmt: skip
        if row[2] or row[3]:
            info["success"] = self.x > 0
        return *row, info


def expected(length):
    return {
        "info/parts/alive": 0.5,
        "info_sum/parts/alive": 0.5 * length,
        "info/parts/time": length,
        "info_sum/parts/time": length * (length + 1) / 2,
    }


def check(row, length=3):
    for name, value in expected(length).items():
        assert row[name] == pytest.approx(value)
    assert 0 <= row["info/success"] <= 1
    named = {name for name in row if name.startswith("info")}
    assert named == {*NAMES, *SUMS}


def vectors():
    for mode in AutoresetMode:
        yield f"{mode.name}", SyncVectorEnv([Telling] * 4, autoreset_mode=mode)
    wrapped = SyncVectorEnv([Telling] * 4, autoreset_mode=AutoresetMode.SAME_STEP)
    yield "statistics", gymnasium.wrappers.vector.RecordEpisodeStatistics(wrapped)


ENVIRONMENTS = {
    "class": Telling,
    "statistics of each": lambda: gymnasium.wrappers.RecordEpisodeStatistics(Telling()),
    **dict(vectors()),
}


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
@pytest.mark.parametrize("episodes", [None, 6], ids=["segments", "episodes"])
def test_case_16_numbers_of_infos_are_logged(env, episodes):
    batch = {"batch_steps": None, "batch_episodes": episodes} if episodes else {}
    run = policygrad.train(env, **{**TINY, **batch})
    check(run.metrics[-1])


@pytest.mark.slow
def test_case_16_numbers_of_infos_cross_from_workers():
    check(policygrad.train(Telling, processes=True, **TINY).metrics[-1])


def test_case_16_evaluation_has_the_last_number_of_each_episode():
    source = open_source(Telling, 2)
    policy = MLPPolicy(2, 2)
    key = jax.random.key(0)
    played = source.play(policy, key, episodes=5, max_steps=10, greedy=False)
    assert played.infos["parts/time"].tolist() == [3] * 5
    assert np.isin(played.infos["success"], (0, 1)).all()
    played = source.play(policy, key, episodes=5, max_steps=2, greedy=False)
    assert "success" not in played.infos
    assert played.infos["parts/time"].tolist() == [2] * 5
    agent = Agent(policy, Chain().observation_space, Chain().action_space)
    policygrad.evaluate(agent, Telling, episodes=3)


def test_case_16_a_resumed_run_logs_what_an_uninterrupted_one_logs(tmp_path):
    settings = {**TINY, "total_steps": 320, "checkpoint_seconds": 0.0}
    policygrad.train(Telling, out=tmp_path / "whole", **settings)
    seen = []

    def stop(metrics):
        seen.append(metrics)
        if len(seen) == 4:
            raise RuntimeError("stop here")

    with pytest.raises(RuntimeError):
        policygrad.train(Telling, out=tmp_path / "cut", on_update=stop, **settings)
    resumed = policygrad.resume(tmp_path / "cut", env=Telling)
    assert resumed.summary["resumed_exactly"]
    whole, cut = (
        [json.loads(x) for x in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    )
    for ours, theirs in zip(whole, cut, strict=True):
        assert {k: v for k, v in ours.items() if k.startswith("info")} == {
            k: v for k, v in theirs.items() if k.startswith("info")
        }


def test_environments_without_infos_log_none():
    run = policygrad.train(Chain, **TINY)
    assert not [name for name in run.metrics[-1] if name.startswith("info")]


def test_lanes_of_ones_own_may_give_infos():
    class Lanes(NumPyChain):
        def step(self, actions):
            flags = np.ones(self.num_envs, bool)
            return super().step(actions)._replace(infos={"seven": (np.full(4, 7.0), flags)})

    run = policygrad.train(Lanes(4), **TINY)
    assert run.metrics[-1]["info/seven"] == 7
    assert run.metrics[-1]["info_sum/seven"] == 21


def test_numbers_of_infos_are_found_whatever_their_wrapping():
    info = {
        "a": 1, "b": True, "c": np.float32(2), "d": np.array(3), "e": np.array([4.0]),
        "f": {"g": {"h": 5}}, "i": "6", "j": [7], "k": np.ones(2), "l": None, "m": np.inf,
        "n": 10**400, "o": 1j, "episode": {"r": 1.0, "l": 2}, "final_obs": np.ones(1),
        "action_mask": np.ones(1), 8: 8,
    }  # fmt: skip
    assert numbers_of(info) == {"a": 1, "b": 1, "c": 2, "d": 3, "e": 4, "f/g/h": 5, "8": 8}


def test_a_name_that_is_not_kept_leaves_the_known_ones_behind_it():
    first = {f"n{i}": 1.0 for i in range(256)}
    with pytest.warns(UserWarning, match="more than 256 names of numbers"):
        found = together([(0, first), (1, {"new": 1.0} | first)], 2)
    assert all(present.all() for _, present in found.values())
    assert list(found) == list(first)


def test_names_without_end_are_bounded():
    class Naming(Chain):
        made = 0

        def step(self, action):
            *row, _ = super().step(action)
            Naming.made += 1
            return *row, {f"{Naming.made}-{i}": 1 for i in range(200)}

    lanes = environments.make(Naming, 2)
    lanes.start(0)
    with pytest.warns(UserWarning, match="more than 256 names"):
        step = lanes.step(np.zeros(2, int))
    assert len(step.infos) == 256


def test_tally_is_plain_json_and_comes_back():
    tally, other = InfoTally(2), InfoTally(2)
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    tally.add({"x": (np.array([1.0, 2.0]), yes)}, yes, no)
    tally.add({"x": (np.array([3.0, 4.0]), yes)}, yes, np.array([True, False]))
    other.restore(json.loads(json.dumps(tally.state())))
    for one in (tally, other):
        assert one.means() == {"info/x": 3, "info_sum/x": 4}
        one.add({"x": (np.array([5.0, 6.0]), yes)}, yes, yes)
        assert one.means() == {"info/x": 14 / 3, "info_sum/x": 7}
    with pytest.raises(ValueError, match="another number"):
        InfoTally(3).restore(tally.state())


class Objects(SyncVectorEnv):
    """Gives infos that Gymnasium's own class would not give: arrays of objects and more."""

    def step(self, actions):
        *row, _ = super().step(actions)
        info = {
            "flags": np.array([np.bool_(True), np.bool_(False)], object),
            "some": np.array([None, 2.5], object),
            "jax": np.array([jnp.array(1.0), jnp.array(2.0)], object),
            "columns": np.array([[1.0], [2.0]]),
            "text": np.array(["a", "b"], object),
            "uneven": [[1], [1, 2]],
        }
        return *row, info


def test_numbers_in_the_infos_of_a_vector_environment_are_read_as_rewards_are():
    lanes = environments.make(Objects([Chain] * 2), 2)
    lanes.start(0)
    infos = lanes.step(np.zeros(2, int)).infos
    found = {name: np.where(there, values, np.nan) for name, (values, there) in infos.items()}
    assert found.keys() == {"flags", "some", "jax", "columns"}
    np.testing.assert_array_equal(found["flags"], [1, 0])
    np.testing.assert_array_equal(found["some"], [np.nan, 2.5])
    np.testing.assert_array_equal(found["jax"], [1, 2])
    np.testing.assert_array_equal(found["columns"], [1, 2])


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.bool_(True), 1.0),
        (jnp.array(1.5), 1.5),
        (np.full((1, 1), 2.0), 2.0),
        ([3], None),
        (Fraction(1, 2), 0.5),
        (Decimal("0.25"), 0.25),
        (10**400, None),
        (1j, None),
        ("1", None),
        (np.ones(2), None),
        (np.nan, None),
    ],
)
def test_a_number_in_an_info_is_what_a_number_is_as_a_reward(value, number):
    assert numbers_of({"a": value}) == ({} if number is None else {"a": number})


def test_names_of_a_whole_run_and_of_an_evaluation_are_bounded():
    class NewNames(Chain):
        def step(self, action):
            *row, _ = super().step(action)
            return *row, {f"{id(self)}/{self.np_random.random()}/{i}": 1.0 for i in range(100)}

    source = open_source(NewNames, 2)
    policy = MLPPolicy(2, 2)
    with pytest.warns(UserWarning, match="more than 256 names of numbers"):
        played = source.play(policy, jax.random.key(0), episodes=4, max_steps=9, greedy=True)
    assert len(played.infos) == 256
    tally = InfoTally(1)
    yes, no = np.ones(1, bool), np.zeros(1, bool)
    steps = [{f"name {i}": (np.ones(1), yes)} for i in range(400)]
    with pytest.warns(UserWarning, match="more than 256 names of numbers") as told:
        any(tally.add(step, yes, no) for step in steps)
    assert len(told) == 1
    assert len(tally.last) == len(tally.sums) == 256
