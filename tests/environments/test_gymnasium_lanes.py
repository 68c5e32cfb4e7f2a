from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad.core.errors import EnvironmentFailure, UserError
from policygrad.environments import replay
from policygrad.environments.gymnasium_lanes import GymnasiumLanes, autoreset_mode
from policygrad.environments.replay import ReplayLog, bring_back, episode_seed, lane_seeds
from policygrad.environments.vectorise import vectorise
from tests.worlds import TINY, Chain, Chained, Drift, Echo, Forgetful, chain_vector

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
every_mode = pytest.mark.parametrize("mode", MODES, ids=[m.name for m in MODES])
both_ends = pytest.mark.parametrize("terminates", [True, False], ids=["terminates", "truncates"])


def transitions(lanes, steps, action_of=lambda lane, time: (lane + time) % 2):
    """Every lane's transitions in order: observation, action, reward, ends, successor."""
    found = [[] for _ in range(lanes.num_envs)]
    for _ in range(steps):
        before, times = np.copy(lanes.observations), lanes.times
        actions = np.array([action_of(i, t) for i, t in enumerate(times)])
        step = lanes.step(actions)
        for i in np.flatnonzero(step.valid):
            ends = bool(step.terminated[i]), bool(step.truncated[i])
            row = (*before[i], int(times[i]), int(actions[i]), float(step.rewards[i]), *ends)
            found[i].append((*row, *step.successors[i]))
    return found


def by_hand(lane, length, terminates, count):
    rows = []
    while len(rows) < count:
        env = Chain(length, terminates=terminates)
        observation, _ = env.reset()
        for t in range(length):
            action = (lane + t) % 2
            successor, reward, *ends, _ = env.step(action)
            rows.append((*observation, t, action, np.float32(reward), *ends, *successor))
            observation = successor
    return rows[:count]


@every_mode
@both_ends
@pytest.mark.parametrize("copy", [True, False], ids=["copies", "one buffer"])
def test_every_autoreset_mode_gives_the_same_transitions(mode, terminates, copy):
    lanes = GymnasiumLanes(chain_vector(mode, 2, terminates=terminates, copy=copy))
    lanes.start(0)
    found = transitions(lanes, 30)
    for lane, rows in enumerate(found):
        assert len(rows) >= 22
        assert rows == by_hand(lane, 3 + lane, terminates, len(rows))


@every_mode
def test_only_next_step_has_rows_that_are_no_transition(mode):
    lanes = GymnasiumLanes(chain_vector(mode, 2))
    lanes.start(0)
    valid = np.stack([lanes.step(np.zeros(2, int)).valid for _ in range(12)])
    if mode == AutoresetMode.NEXT_STEP:
        np.testing.assert_array_equal(valid[:, 0], np.arange(12) % 4 != 3)
        np.testing.assert_array_equal(valid[:, 1], np.arange(12) % 5 != 4)
    else:
        assert valid.all()


def test_next_step_invalid_rows_carry_no_end():
    lanes = GymnasiumLanes(chain_vector(AutoresetMode.NEXT_STEP, 2))
    lanes.start(0)
    for _ in range(12):
        step = lanes.step(np.zeros(2, int))
        assert not ((step.terminated | step.truncated) & ~step.valid).any()


@every_mode
def test_vector_environments_of_nested_observations(mode):
    space = spaces.Dict(
        {"a": spaces.Box(-1, 1, (2,)), "b": spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)])}
    )
    make = lambda: Echo(space, spaces.Discrete(2))  # noqa: E731
    lanes = GymnasiumLanes(SyncVectorEnv([make] * 2, autoreset_mode=mode))
    lanes.start(3)
    for t in range(12):
        step = lanes.step(np.zeros(2, int))
        shapes = jax.tree.map(np.shape, (step.successors, lanes.observations))
        assert shapes == ({"a": (2, 2), "b": ((2,), (2,))},) * 2
        if t == 4:  # the true successor is no observation of the next episode
            assert step.terminated.all()
            if mode != AutoresetMode.NEXT_STEP:
                assert not np.array_equal(step.successors["a"], lanes.observations["a"])


def test_same_step_with_final_observations_in_one_dict_is_refused():
    class Batched(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            *rest, info = self.env.step(actions)
            return *rest, {"final_obs": {"a": rest[0]}} if info else {}

    lanes = GymnasiumLanes(Batched(chain_vector(AutoresetMode.SAME_STEP)))
    lanes.start(0)
    with pytest.raises(UserError, match="has a dict in 'final_obs'"):
        transitions(lanes, 5)


def test_same_step_without_final_observations_is_refused():
    class Silent(gymnasium.vector.VectorWrapper):
        def step(self, actions):
            return *self.env.step(actions)[:4], {}

    lanes = GymnasiumLanes(Silent(chain_vector(AutoresetMode.SAME_STEP)))
    lanes.start(0)
    with pytest.raises(UserError, match="final_obs"):
        transitions(lanes, 5)


def test_vector_environment_without_a_declared_mode_is_refused():
    vector = chain_vector(AutoresetMode.DISABLED)
    vector.metadata = {}
    del vector.autoreset_mode
    with pytest.raises(UserError, match="autoreset"):
        GymnasiumLanes(vector)


def test_each_vector_environment_has_its_own_mode():
    """Gymnasium's write theirs into metadata that all of one class share."""
    disabled, same_step = map(chain_vector, (AutoresetMode.DISABLED, AutoresetMode.SAME_STEP))
    assert disabled.metadata is same_step.metadata
    assert autoreset_mode(disabled) == AutoresetMode.DISABLED
    assert autoreset_mode(same_step) == AutoresetMode.SAME_STEP


def test_lanes_are_seeded_apart_and_alike_every_time():
    def first(seed):
        lanes = GymnasiumLanes(vectorise(Drift, 3))
        lanes.start(seed)
        return lanes.observations

    assert len(np.unique(first(1))) == 3
    np.testing.assert_array_equal(first(1), first(1))
    assert not np.isin(first(1), first(2)).any()
    assert episode_seed(0, 1, 2) != episode_seed(0, 2, 1)


# ----- replay


def snapshot(lanes):
    log = lanes.log
    copy = ReplayLog(log.seed, log.each_lane, log.num_envs, log.first, list(log.actions))
    copy.episodes, copy.begun = log.episodes.copy(), log.begun.copy()
    return copy


@every_mode
@pytest.mark.parametrize("steps", [0, 1, 7, 30])
@pytest.mark.parametrize("trims", [True, False], ids=["trimmed", "whole log"])
def test_replay_brings_lanes_back_in_mid_episode(mode, steps, trims):
    def make():
        return GymnasiumLanes(SyncVectorEnv([Drift] * 4, autoreset_mode=mode))

    rng = np.random.default_rng(steps)
    actions = rng.integers(0, 2, (steps + 25, 4))
    lanes = make()
    lanes.start(5)
    for row in actions[:steps]:
        lanes.step(row)
        if trims:
            lanes.log.trim()
    kept = snapshot(lanes)
    if trims and mode == AutoresetMode.DISABLED and steps == 30:
        assert len(kept.actions) < steps

    back = make()
    bring_back(back, kept)
    np.testing.assert_array_equal(back.observations, lanes.observations)
    np.testing.assert_array_equal(back.times, lanes.times)
    for row in actions[steps:]:
        ours, theirs = back.step(row), lanes.step(row)
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
        np.testing.assert_array_equal(back.observations, lanes.observations)
        np.testing.assert_array_equal(back.times, lanes.times)


def test_restored_lanes_can_be_restored_again():
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 2, (60, 4))
    lanes = GymnasiumLanes(vectorise(Drift, 4))
    lanes.start(5)
    for row in actions[:20]:
        lanes.step(row)
    middle = GymnasiumLanes(vectorise(Drift, 4))
    bring_back(middle, snapshot(lanes))
    for row in actions[20:40]:
        lanes.step(row)
        middle.step(row)
        middle.log.trim()
    last = GymnasiumLanes(vectorise(Drift, 4))
    bring_back(last, snapshot(middle))
    for row in actions[40:]:
        jax.tree.map(np.testing.assert_array_equal, last.step(row), lanes.step(row))


def test_log_of_lanes_that_are_seeded_together_is_bounded(monkeypatch):
    monkeypatch.setattr(replay, "MOST_BYTES", 10 * 2 * 8)
    lanes = GymnasiumLanes(chain_vector(AutoresetMode.NEXT_STEP, 2))
    lanes.start(0)
    kept = []
    for _ in range(25):
        lanes.step(np.zeros(2, np.int64))
        lanes.log.trim()
        kept.append((len(lanes.log.actions), lanes.log.complete))
    assert kept == [(n, True) for n in range(1, 11)] + [(0, False)] * 15
    assert lanes.log.first == 25


def test_log_of_an_endless_episode_is_bounded_and_whole_again_behind_it(monkeypatch):
    monkeypatch.setattr(replay, "MOST_BYTES", 10 * 8)
    lanes = GymnasiumLanes(vectorise(partial(Chain, 15), 1))
    lanes.start(0)
    kept = []
    for _ in range(18):
        lanes.step(np.zeros(1, np.int64))
        lanes.log.trim()
        kept.append((len(lanes.log.actions), lanes.log.complete))
    running = [(n, True) for n in range(1, 11)] + [(n, False) for n in range(4)]
    assert kept == [*running, (0, True), (1, True), (2, True), (3, True)]


def test_environment_with_a_memory_of_its_own_is_not_brought_back():
    lanes = GymnasiumLanes(vectorise(Forgetful, 2))
    lanes.start(0)
    lanes.step(np.zeros(2, int))
    back = GymnasiumLanes(vectorise(Forgetful, 2))
    bring_back(back, snapshot(lanes))
    assert not np.array_equal(back.observations, lanes.observations)


# ----- failures


@pytest.mark.parametrize("mode", [None, *MODES], ids=["own", *[m.name for m in MODES]])
def test_failure_names_environment_and_step_and_has_the_cause(mode, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    make = lambda: Chained("raise", lane=1, at=5)  # noqa: E731
    if mode is None:
        lanes = GymnasiumLanes(vectorise(make, 2))
    else:
        lanes = GymnasiumLanes(SyncVectorEnv([make] * 2, autoreset_mode=mode))
    lanes.start(0)
    with pytest.raises(EnvironmentFailure) as caught:
        transitions(lanes, 9)
    message = str(caught.value).splitlines()[0]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in message
    if mode is None:
        assert "environment 1" in message
        assert "step 2" in message
        assert "episode 2" in message


@pytest.mark.parametrize("mode", MODES, ids=[m.name for m in MODES])
@pytest.mark.parametrize("where", ["step", "reset"])
@pytest.mark.parametrize("info", [[{}, {}], ({},), "text", np.zeros(2)], ids=lambda x: str(type(x)))
def test_an_info_of_a_vector_environment_that_is_no_dict_is_named(mode, where, info):
    class Listing(SyncVectorEnv):
        def reset(self, **kwargs):
            observations, given = super().reset(**kwargs)
            return observations, info if where == "reset" else given

        def step(self, actions):
            *row, given = super().step(actions)
            return *row, info if where == "step" else given

    lanes = GymnasiumLanes(Listing([Chain] * 2, autoreset_mode=mode))
    found = (
        f"returned an info of type {type(info).__name__} (at step 1|in reset).*expected one dict"
    )
    with pytest.raises(EnvironmentFailure, match=found):
        lanes.start(0)
        lanes.step(np.zeros(2, int))


def test_failure_in_reset():
    class Broken(Chain):
        def reset(self, **kwargs):
            raise RuntimeError("no such level")

    lanes = GymnasiumLanes(vectorise(Broken, 2))
    with pytest.raises(EnvironmentFailure, match="environment 0 raised RuntimeError at reset"):
        lanes.start(0)


@pytest.mark.slow
def test_spawned_processes_step_like_this_one():
    ours, theirs = (
        GymnasiumLanes(vectorise(Drift, 2, processes=True)),
        GymnasiumLanes(vectorise(Drift, 2)),
    )
    try:
        for lanes in (ours, theirs):
            lanes.start(3)
        for t in range(20):
            actions = np.array([t % 2, 0])
            jax.tree.map(np.testing.assert_array_equal, ours.step(actions), theirs.step(actions))
            np.testing.assert_array_equal(ours.observations, theirs.observations)
    finally:
        ours.close()


class WritesIntoItsAction(gymnasium.Env):
    """The state is the sum of its actions, which it sets to zero when it has read them."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2)
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.state = self.state + action
        action[:] = 0
        return self.state.astype(np.float32), 0.0, False, False, {}


def test_an_environment_that_writes_into_its_action_is_brought_back():
    lanes, again = (GymnasiumLanes(vectorise(WritesIntoItsAction, 2)) for _ in range(2))
    lanes.start(seed=0)
    for _ in range(3):
        lanes.step(np.full((2, 2), 0.25, np.float32))
    snapshot = lanes.snapshot()
    assert again.restore(snapshot)
    np.testing.assert_array_equal(again.observations, lanes.observations)
    assert again.restore(snapshot)  # nor does it write into the snapshot


def test_a_run_of_an_environment_that_writes_into_its_action_is_resumed_exactly(tmp_path):
    def stop(run):
        if run["update"] == 2:
            raise RuntimeError("stop here")

    settings = {**TINY, "total_steps": 128, "checkpoint_seconds": 0.0}
    whole = policygrad.train(WritesIntoItsAction, **settings)
    with pytest.raises(RuntimeError):
        policygrad.train(WritesIntoItsAction, out=tmp_path / "cut", on_update=stop, **settings)
    resumed = policygrad.resume(tmp_path / "cut", env=WritesIntoItsAction)
    assert resumed.summary["resumed_exactly"]
    assert resumed.metrics[-1]["env_steps"] == whole.metrics[-1]["env_steps"]


@pytest.mark.parametrize("first", [0, 5, 2**14])
@pytest.mark.parametrize("seed", [0, 2**40 + 7])
def test_seeds_of_later_lanes_are_those_that_numpy_would_draw(seed, first):
    expected = np.random.SeedSequence(seed).generate_state(first + 6)[first:]
    assert lane_seeds(seed, first, 6) == expected.tolist()
