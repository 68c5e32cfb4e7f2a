"""Batches that follow the noise scale: the rule, and runs that use it."""

import json
import math

import numpy as np
import pytest

import policygrad
from policygrad import cli, doctor
from policygrad.core.errors import UserError
from policygrad.diagnostics.monitor import GradientMoments
from policygrad.runs import RunDirectory
from policygrad.training import overlapped
from policygrad.training.adaptive_batch import (
    LEAST,
    MOST,
    AdaptiveBatch,
    power_of_two,
)
from policygrad.training.config import FIRST_EPISODES, TrainConfig
from tests.training.test_training import assert_bitwise, assert_finite, without_clock
from tests.worlds import TINY, Chain

ADAPTIVE = TINY | {
    "batch_steps": None, "batch_episodes": "adaptive", "estimator": "reward-to-go",
    "total_steps": 3000,
}  # fmt: skip
SHORT = ADAPTIVE | {"total_steps": 1000, "seed": 3}  # a batch of 32 episodes, and one of 16
every_env = pytest.mark.parametrize("env", ["gymnax/CartPole-v1", "CartPole-v1"])


def moments(variance, norm2, n):
    """Those whose unbiased estimates are trΣ and ‖G‖²."""
    square = norm2 + variance / n
    return GradientMoments(n, square, norm2 + variance, 0.0, 0.0)  # type: ignore[arg-type]


def sizes(batch, variance, norm2, updates):
    found = []
    for _ in range(updates):
        batch = batch.after(moments(variance, norm2, int(batch.episodes)))
        found.append(int(batch.episodes))
    return found


@pytest.mark.parametrize(
    ("variance", "norm2", "expected"),
    [
        (100.0, 1.0, [64, 128, 128]),  # the smallest size of the ladder that holds B
        (33.0, 1.0, [64, 64]),
        (0.0, 1.0, [16, 8, 8]),
        (1.0, -0.001, [64, 128, 256, 512, 512]),
        (0.0, 0.0, [64, 128, 256, 512, 512]),
    ],
)
def test_next_batch_is_the_noise_scale_within_bounds(variance, norm2, expected):
    assert sizes(AdaptiveBatch.init(), variance, norm2, len(expected)) == expected


def test_sizes_are_powers_of_two_and_change_by_two_at_most():
    rng = np.random.default_rng(0)
    batch, seen = AdaptiveBatch.init(), [FIRST_EPISODES]
    for _ in range(300):
        variance = float(np.exp(rng.normal(4, 4)))
        batch = batch.after(moments(variance, float(rng.normal(0.5)), seen[-1]))
        seen.append(int(batch.episodes))
    assert {power_of_two(n, LEAST) for n in seen} == set(seen) != {LEAST}
    assert set(seen) <= {8, 16, 32, 64, 128, 256, 512}
    ratios = np.array(seen[1:]) / seen[:-1]
    assert ratios.min() >= 0.5
    assert ratios.max() <= 2
    assert min(seen) >= LEAST
    assert max(seen) <= MOST


def test_averages_are_of_norm_and_variance_and_not_of_their_ratio():
    batch = AdaptiveBatch.init()
    for variance, norm2 in ((10.0, 1.0), (30.0, -0.5), (20.0, 2.0)):
        batch = batch.after(moments(variance, norm2, 16))
    weights = 0.1 * 0.9 ** np.array([2, 1, 0])
    expected = weights @ [10, 30, 20] / (weights @ [1, -0.5, 2])
    assert batch.noise_scale == pytest.approx(expected)
    assert AdaptiveBatch.init().noise_scale == math.inf


@pytest.mark.slow
@every_env
def test_run_follows_its_own_rule_and_counts_its_steps(env):
    run = policygrad.train(env, **SHORT)
    assert_finite(run)
    found = [m["batch_episodes"] for m in run.metrics]
    assert found[0] == FIRST_EPISODES
    assert len(set(found)) > 1
    assert run.metrics[-1]["episodes"] == sum(found)
    assert run.metrics[-2]["env_steps"] < SHORT["total_steps"] <= run.summary["env_steps"]
    assert all(m.keys() >= {"noise_scale", "noise_scale_smoothed"} for m in run.metrics)
    first = run.metrics[0]  # of one measurement the average is itself
    scale, smoothed = first["noise_scale"], first["noise_scale_smoothed"]
    assert smoothed == (None if scale is None else pytest.approx(scale))
    if scale is not None:
        wanted = power_of_two(math.ceil(scale * FIRST_EPISODES / first["env_steps"]), LEAST)
        assert found[1] == np.clip(wanted, FIRST_EPISODES // 2, 2 * FIRST_EPISODES)


def test_powers_of_two():
    assert [power_of_two(n, 8) for n in (0, 1, 8, 9, 16, 17, 500, 512, 513)] == [
        8, 8, 8, 16, 16, 32, 512, 512, 1024,
    ]  # fmt: skip


class Ragged(Chain):
    """Episodes of 1 to 255 steps, as many of each order of magnitude."""

    def reset(self, **kwargs):
        found = super().reset(**kwargs)
        self.length = int(2 ** self.np_random.uniform(0, 8))
        return found


@pytest.mark.slow
def test_two_shapes_hold_all_batches_where_lengths_and_sizes_vary(monkeypatch):
    rng, shapes = np.random.default_rng(0), []

    def step(learner, space, state, trajectories, key):
        episodes = int(np.any(trajectories.valid, axis=0).sum())
        shapes.append((episodes, trajectories.valid.shape))
        return real(learner, space, state, trajectories, key)

    def after(batch, moments):
        return batch._replace(episodes=np.int64(power_of_two(int(rng.integers(4, 128)), LEAST)))

    real = overlapped.step_once
    monkeypatch.setattr(overlapped, "step_once", step)
    monkeypatch.setattr(AdaptiveBatch, "after", after)
    settings = {"baseline": "none", "hidden": (), "total_steps": 32_000, "critic_epochs": None}
    policygrad.train(Ragged, max_episode_steps=255, **(ADAPTIVE | settings))
    assert {shape for episodes, shape in shapes if episodes <= 64} == {(255, 64)}
    assert {shape for episodes, shape in shapes if episodes > 64} == {(255, 512)}


@pytest.mark.slow
@every_env
def test_resumed_run_equals_uninterrupted(env, tmp_path):
    whole = policygrad.train(env, **SHORT)
    total = SHORT["total_steps"]
    part = policygrad.train(env, out=tmp_path / "a", **(SHORT | {"total_steps": total // 3}))
    before, rows = part.metrics, []
    resumed = policygrad.resume(tmp_path / "a", total_steps=total, on_update=rows.append)
    assert rows
    assert without_clock(whole.metrics) == without_clock([*before, *rows])
    assert without_clock(whole.metrics) == without_clock(resumed.metrics)
    assert_bitwise(whole, resumed)


@pytest.mark.slow
def test_command_trains_seeds_and_the_doctor_reads_them(tmp_path, capsys):
    flags = ["--batch-episodes", "adaptive", "--estimator", "reward-to-go", "--num-envs", "4"]
    flags += ["--total-steps", "1500", "--hidden", "8", "--out", str(tmp_path / "a"), "--json"]
    assert cli.run(["train", "gymnax/CartPole-v1", "--seeds", "0..1", *flags]) == 0
    summaries = json.loads(capsys.readouterr().out)
    assert len(summaries) == 2
    assert all(s["env_steps"] >= 1500 for s in summaries)
    path = tmp_path / "a" / "seed-0"
    assert RunDirectory(path).read_config()["config"]["batch_episodes"] == "adaptive"
    found = doctor.diagnose(path, episodes=8).examination
    assert found.batch_episodes == RunDirectory(path).read_metrics()[-1]["batch_episodes"]
    assert found.noise is not None


def test_what_is_neither_a_number_nor_adaptive_is_refused():
    for value in ("adaptiv", "8", 2.5, 0):
        with pytest.raises(UserError, match="--batch-episodes must be adaptive, or a whole number"):
            TrainConfig(batch_episodes=value)  # type: ignore[arg-type]
    config = TrainConfig(batch_episodes="adaptive", baseline="leave-one-out")
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json())), "here") == config
    with pytest.raises(UserError, match="--batch-episodes adaptive exclude each other"):
        TrainConfig(batch_episodes="adaptive", batch_steps=2048)


def test_batch_that_adapts_trains_leave_one_out():
    settings = ADAPTIVE | {"baseline": "leave-one-out", "total_steps": 200, "critic_epochs": None}
    assert_finite(policygrad.train(Chain, **settings))
