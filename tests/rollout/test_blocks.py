"""Lanes in blocks, in this process: records, what is saved of them, and what is refused."""

import json
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

import policygrad
from policygrad import environments
from policygrad.core.errors import PolicygradError, UserError
from policygrad.rollout import open_source
from policygrad.rollout.block_source import BlockSource
from policygrad.rollout.blocks import Lanes, shares, usual_lanes
from policygrad.rollout.engines import NamedEngine
from policygrad.rollout.info_tally import RECENT, InfoTally, means_over
from policygrad.runs import RunDirectory, storage
from policygrad.training import checkpoint
from tests.rollout.test_infos import Telling, check
from tests.rollout.test_source import NumPyChain
from tests.training.test_training import arrays_of, assert_bitwise, without_clock
from tests.worlds import TINY, Chain, Drift, DuckChain, MLPPolicy, Remembering

SEGMENTS = TINY | {"lanes_per_block": 2, "total_steps": 192, "checkpoint_seconds": 0.0, "seed": 5}
EPISODES = SEGMENTS | {"batch_steps": None, "batch_episodes": 5, "max_episode_steps": 60}
ADAPTIVE = EPISODES | {"batch_episodes": "adaptive", "estimator": "reward-to-go"}
KINDS = {"segments": SEGMENTS, "episodes": EPISODES}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
ENVS = {"Gymnasium": Drift, "infos": Telling, "compiled": DuckChain(5)}
every_env = pytest.mark.parametrize("env", ENVS.values(), ids=ENVS)


# ----- records


@every_env
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_lanes_in_blocks_act_as_they_do_together(env, lanes):
    """Each by its number, whatever the size of the block."""
    size = 1 if env is Drift else 2
    policy, keys = MLPPolicy(size, 2), jax.random.split(jax.random.key(3), 4)
    together = open_source(env, 4).segments(policy, keys[0], 6)
    blocks = BlockSource(Lanes(env, 4, lanes, {})).segments(policy, keys[0], 6)
    for key in keys[1:]:
        ours, theirs = (jax.device_get(c.collect(policy, key)) for c in (blocks, together))
        for name in ("observations", "actions", "rewards", "terminated", "truncated", "times"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), name)
        np.testing.assert_allclose(ours.log_probs, theirs.log_probs, rtol=1e-6)
    blocks.close()


@every_env
def test_a_block_by_itself_is_what_it_is_among_others(env):
    policy, key = MLPPolicy(1 if env is Drift else 2, 2), jax.random.key(1)
    lanes = Lanes(env, 6, 2, {})
    source = BlockSource(lanes)
    collector = source.segments(policy, key, 5)
    whole = collector.collect(policy, key)
    alone = lanes.open(1).segments(policy, key, 5).collect(policy, key)
    for name in ("observations", "actions", "rewards", "log_probs"):
        ours, theirs = np.asarray(getattr(whole, name))[:, 2:4], np.asarray(getattr(alone, name))
        assert ours.tobytes() == theirs.tobytes(), name
    collector.close()


@every_env
@pytest.mark.parametrize("count", [1, 2, 5, 6, 11])
def test_whole_episodes_are_dealt_out_to_blocks(env, count):
    policy, key = MLPPolicy(1 if env is Drift else 2, 2), jax.random.key(1)
    collector = BlockSource(Lanes(env, 6, 2, {})).episodes(policy, key, 4, 200)
    record = jax.device_get(collector.collect(policy, key, count))
    assert record.actions.shape[1] == count
    assert record.valid[0].all()
    ends = record.terminated | record.truncated
    np.testing.assert_array_equal(ends.sum(axis=0), 1)
    np.testing.assert_array_equal(record.valid.sum(axis=0), ends.argmax(axis=0) + 1)
    if env is Drift:  # every episode has a seed of its own
        assert len(set(record.rewards[0])) == count
    collector.close()


def test_a_memory_goes_on_in_blocks(tmp_path):
    policy = Remembering(jax.random.normal(jax.random.key(0), (2, 2)))
    whole = policygrad.train(Chain, policy=policy, **SEGMENTS)
    stop = stopping_at(3)
    policygrad.train(Chain, policy=policy, out=tmp_path / "a", on_update=stop, **SEGMENTS)
    resumed = policygrad.resume(tmp_path / "a", env=Chain, policy=policy)
    assert_bitwise(whole, resumed)
    with pytest.raises(AssertionError):
        assert_bitwise(whole, policygrad.train(Chain, policy=policy, **SEGMENTS | {"seed": 6}))


@given(st.integers(0, 500), st.integers(1, 40))
def test_shares_differ_by_one_at_most(count, parts):
    found = shares(count, parts)
    assert (sum(found), len(found)) == (count, parts)
    assert max(found) - min(found) <= 1
    assert sorted(found, reverse=True) == list(found)


@given(st.integers(1, 3000))
def test_usual_lanes_divide(num_envs):
    lanes = usual_lanes(num_envs)
    assert num_envs % lanes == 0
    assert lanes <= max(1, num_envs // 8)


# ----- runs


def stopping_at(update):
    return lambda m: policygrad.STOP if m["update"] == update else None


class Gone(BaseException):
    """Stands for a kill: nothing is saved after it."""


@every_kind
@every_env
def test_a_run_in_blocks_that_is_killed_and_resumed_equals_uninterrupted(
    env, settings, tmp_path, monkeypatch
):
    whole = policygrad.train(env, out=tmp_path / "whole", **settings)
    save = checkpoint.save

    def die(assembly, progress, directory):
        if progress.updates == 3:
            raise Gone
        save(assembly, progress, directory)

    path = tmp_path / "killed"
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(checkpoint, "save", die)
        policygrad.train(env, out=path, **settings)
    assert len(RunDirectory(path).read_metrics()) == 3
    resumed = policygrad.resume(path, env=env)
    assert resumed.summary["resumed_exactly"] is True
    assert resumed.summary["exact"] is True
    assert_bitwise(whole, resumed)
    assert without_clock(whole.metrics) == without_clock(resumed.metrics)
    states = [storage.load(RunDirectory(p).newest_checkpoint() / "state")[0] for p in
              (tmp_path / "whole", path)]  # fmt: skip
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name


@pytest.mark.parametrize("env", ["CartPole-v1", "gymnasium/Pendulum-v1", "gymnax/CartPole-v1"])
def test_an_id_in_blocks_is_stopped_and_resumed(env, tmp_path):
    whole = policygrad.train(env, **SEGMENTS)
    stopped = policygrad.train(env, out=tmp_path / "a", on_update=stopping_at(2), **SEGMENTS)
    assert stopped.interrupted
    assert_bitwise(whole, policygrad.resume(tmp_path / "a"))
    policygrad.evaluate(tmp_path / "a", episodes=2, max_episode_steps=20)


@every_kind
def test_infos_of_all_blocks_are_logged(settings):
    run = policygrad.train(Telling, **settings)
    for row in run.metrics:
        check(row)


@pytest.mark.parametrize("env", [Chain, DuckChain()], ids=["Gymnasium", "compiled"])
def test_adaptive_batches_may_have_fewer_episodes_than_blocks(env, tmp_path):
    lanes = {"num_envs": 48, "lanes_per_block": 1, "total_steps": 250}
    settings = ADAPTIVE | lanes
    whole = policygrad.train(env, **settings)
    assert whole.metrics[0]["episodes"] == 32
    stopped = policygrad.train(env, out=tmp_path / "a", on_update=stopping_at(1), **settings)
    assert stopped.interrupted
    assert_bitwise(whole, policygrad.resume(tmp_path / "a", env=env))


def test_lanes_per_block_is_recorded(tmp_path):
    policygrad.train(Chain, out=tmp_path / "a", **SEGMENTS)
    config = json.loads((tmp_path / "a" / "config.json").read_text())["config"]
    assert config["lanes_per_block"] == 2
    again = policygrad.train(Chain, config=policygrad.TrainConfig(**config))
    assert again.config.lanes_per_block == 2


def test_a_run_of_before_there_were_blocks_is_resumed(tmp_path):
    settings = {k: v for k, v in SEGMENTS.items() if k != "lanes_per_block"}
    whole = policygrad.train(Chain, **settings)
    policygrad.train(Chain, out=tmp_path / "a", on_update=stopping_at(2), **settings)
    path: Path = tmp_path / "a" / "config.json"
    config = storage.read_checked_json(path)
    assert config["config"].pop("lanes_per_block") is None
    RunDirectory(tmp_path / "a").write_config(config)
    assert "lanes_per_block" not in path.read_text()
    assert_bitwise(whole, policygrad.resume(tmp_path / "a", env=Chain))


def test_one_block_of_all_lanes_is_a_run_without_blocks():
    settings = SEGMENTS | {"lanes_per_block": 4}
    alone = {k: v for k, v in settings.items() if k != "lanes_per_block"}
    ours, theirs = (policygrad.train(Drift, **each) for each in (settings, alone))
    assert_bitwise(ours, theirs)


def test_the_size_of_a_block_belongs_to_the_run(tmp_path):
    policygrad.train(Chain, out=tmp_path / "a", on_update=stopping_at(2), **SEGMENTS)
    with pytest.raises(UserError, match="lanes"):
        policygrad.resume(tmp_path / "a", env=Chain, lanes_per_block=1)


# ----- how blocks end


class Counts(Chain):
    """Tells how often each of its objects was closed."""

    made: ClassVar[list["Counts"]] = []

    def __init__(self, fails_at=None):
        super().__init__()
        self.closed = 0
        self.made.append(self)
        if len(self.made) == fails_at:
            raise ValueError("no more")

    def close(self):
        self.closed += 1


def test_all_environments_are_closed_at_the_end(monkeypatch):
    monkeypatch.setattr(Counts, "made", [])
    policygrad.train(Counts, **SEGMENTS)
    assert len(Counts.made) > 4
    assert all(env.closed for env in Counts.made)


@pytest.mark.parametrize("at", [2, 5, 7, 8])
def test_environments_that_are_open_are_closed_where_another_cannot_be_made(at, monkeypatch):
    monkeypatch.setattr(Counts, "made", [])
    with pytest.raises(PolicygradError, match="no more"):
        policygrad.train(Counts, env_kwargs={"fails_at": at}, **SEGMENTS)
    assert len(Counts.made) == at
    assert all(env.closed for env in Counts.made[:-1])


# ----- what is refused


class Opens:
    """An engine of the user's own."""

    def open(self, env_id, num_envs, *, processes=False, kwargs=None):
        return NamedEngine("gymnasium").open(env_id, num_envs)


ONE = Chain()
POOL = [Chain() for _ in range(2)]


def from_a_pool():
    """Two objects in turn, so that those of one block differ."""
    POOL.append(POOL.pop(0))
    return POOL[-1]


REFUSED = {
    "does not divide": (Chain, {"lanes_per_block": 3}, "--lanes-per-block 3 must divide --num-e"),
    "more than lanes": (Chain, {"lanes_per_block": 8}, "--lanes-per-block 8 must divide --num-e"),
    "none": (Chain, {"lanes_per_block": 0}, "--lanes-per-block must be a whole number at least 1"),
    "half": (Chain, {"lanes_per_block": 1.5}, "--lanes-per-block must be a whole number at le"),
    "processes": (Chain, {"processes": True}, "--processes steps all environments together"),
    "engine": ("CartPole-v1", {"engine": Opens()}, "engine=Opens opens all environments at once"),
    "vector": (SyncVectorEnv([Chain] * 4), {}, "env=SyncVectorEnv is open already"),
    "lanes": (NumPyChain(4), {}, "env=NumPyChain is open already"),
    "source": (open_source(Chain, 4), {}, "env=HostSource is open already"),
    "object": (ONE, {}, "is one environment, but 2 copies are needed"),
    "same object": (lambda: ONE, {"lanes_per_block": 1}, "environments 0 and 1 are one object"),
    "pool": (from_a_pool, {}, r"environments \d and \d are one object"),
}


@pytest.mark.parametrize(("env", "settings", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_cut_into_blocks_is_refused(env, settings, words, tmp_path):
    with pytest.raises(UserError, match=words):
        policygrad.train(env, out=tmp_path / "a", **SEGMENTS | settings)
    assert not (tmp_path / "a").exists()


def test_gymnasium_copies_are_in_blocks_as_environments_of_their_own():
    collector = BlockSource(Lanes(Chain, 4, 2, {})).segments(
        MLPPolicy(2, 2), jax.random.key(0), 3
    )  # fmt: skip
    envs = [env for block in collector._places._blocks for env in block.environments]
    assert len({id(env) for env in envs}) == 4
    collector.close()


# ----- infos over blocks


def tally_of(lengths, lanes=2):
    """Episodes of these lengths in one lane, another lane idle; a number at every step."""
    tally = InfoTally(lanes)
    for number, length in enumerate(lengths):
        for step in range(length):
            infos = {"a": (np.full(lanes, float(number + step)), np.ones(lanes, bool))}
            ended = np.array([step == length - 1, *[False] * (lanes - 1)])
            tally.add(infos, np.ones(lanes, bool), ended)
    return tally


@given(st.lists(st.lists(st.integers(1, 4), max_size=8), min_size=1, max_size=4))
def test_means_over_few_episodes_are_those_over_all(lengths):
    tallies = [tally_of(each) for each in lengths]
    episodes = [e["a"] for tally in tallies for e in tally.ended]
    found = means_over([tally.state() for tally in tallies])
    if not episodes:
        assert found == {}
        return
    last, total = np.mean(episodes, axis=0)
    assert found["info/a"] == pytest.approx(last)
    if "info_sum/a" in found:
        assert found["info_sum/a"] == pytest.approx(total)
    assert ("info_sum/a" in found) == any(tally.repeated for tally in tallies)


def test_means_over_many_episodes_are_those_over_the_newest_of_each_block():
    tallies = [tally_of([1] * 150, 1), tally_of([1] * 20, 1)]
    found = means_over([{}, *(tally.state() for tally in tallies)])
    newest = [*range(150 - (RECENT - 20), 150), *range(20)]
    assert found == {"info/a": pytest.approx(np.mean(newest))}


def test_blocks_without_infos_have_none():
    assert means_over([]) == {}
    assert means_over([{}, {}]) == {}
    assert means_over([InfoTally(2).state(), {}]) == {}
    assert arrays_of(policygrad.train(Chain, **SEGMENTS))
    assert environments  # imported for its registrations
