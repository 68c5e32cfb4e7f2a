import json
import os
import re
import signal

import numpy as np
import pytest

import policygrad
from policygrad import cli
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.maths.intervals import interquartile_mean, iqm_interval
from policygrad.runs import RunDirectory, seed_directories
from policygrad.training import many_seeds
from policygrad.training.ending import StoppedEarly
from policygrad.training.pace import Pace
from policygrad.training.soundness import first_unsound
from tests.training.test_programs import Breaks
from tests.training.test_training import arrays_of, assert_bitwise, without_clock
from tests.worlds import DUCK, TINY, TINY_FLAGS


def largest_difference(ours, theirs):
    """Relative to each array's largest entry."""
    ours, theirs = arrays_of(ours), arrays_of(theirs)
    assert ours.keys() == theirs.keys()
    return max(
        float(np.max(np.abs(a - theirs[k])) / max(np.max(np.abs(a)), 1e-6)) for k, a in ours.items()
    )


def test_vmapped_seed_equals_the_same_seed_alone():
    for updates, most in ((1, 1e-6), (8, 1e-4)):
        settings = TINY | {"total_steps": 32 * updates}
        result = policygrad.train_seeds("gymnax/CartPole-v1", [0, 3, 6, 9], **settings)
        assert list(result.runs) == [0, 3, 6, 9]
        for seed in result.runs:
            alone = policygrad.train("gymnax/CartPole-v1", seed=seed, **settings)
            assert largest_difference(result.runs[seed], alone) <= most


def test_no_seed_depends_on_its_neighbours():
    settings = TINY | {"total_steps": 96}
    one = policygrad.train_seeds("gymnax/CartPole-v1", [1, 2, 3], **settings)
    other = policygrad.train_seeds("gymnax/CartPole-v1", [7, 2, 8], **settings)
    assert_bitwise(one.runs[2], other.runs[2])
    assert without_clock(one.runs[2].metrics) == without_clock(other.runs[2].metrics)


@pytest.mark.slow
def test_a_gpu_trains_all_seeds_in_one_program(monkeypatch):
    dealt, programs = many_seeds.dealt, []
    monkeypatch.setattr(
        "policygrad.training.many_seeds.dealt",
        lambda *given: programs.append(dealt(*given)) or programs[-1],
    )
    settings = TINY | {"total_steps": 32}
    ours = policygrad.train_seeds("gymnax/CartPole-v1", range(4), **settings)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    theirs = policygrad.train_seeds("gymnax/CartPole-v1", range(4), **settings)
    assert len(programs[0]) == min(os.cpu_count() or 1, 4)
    assert len(programs[1]) == 1
    for seed in range(4):
        assert largest_difference(ours.runs[seed], theirs.runs[seed]) <= 1e-6


@pytest.mark.slow
def test_monitored_seeds_report_what_they_report_alone():
    settings = TINY | {"total_steps": 96}
    plain = policygrad.train_seeds("gymnax/CartPole-v1", [1, 2, 3], **settings)
    result = policygrad.train_seeds("gymnax/CartPole-v1", [1, 2, 3], monitor_every=2, **settings)
    for seed, run in result.runs.items():
        assert_bitwise(run, plain.runs[seed])
        alone = policygrad.train("gymnax/CartPole-v1", seed=seed, monitor_every=2, **settings)
        assert ["noise_scale" in m for m in run.metrics] == [False, True, False]
        for name in ("signal_to_noise", "noise_scale"):
            ours, theirs = run.metrics[1][name], alone.metrics[1][name]
            assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-2, abs=1e-3))


@pytest.mark.slow
def test_side_by_side_seeds_equal_the_same_seeds_alone(tmp_path):
    result = policygrad.train_seeds("CartPole-v1", range(3), jobs=2, out=tmp_path / "a", **TINY)
    assert not result.failures
    for seed, run in result.runs.items():
        alone = policygrad.train("CartPole-v1", seed=seed, **TINY)
        assert_bitwise(run, alone)
        assert without_clock(run.metrics) == without_clock(alone.metrics)


def test_directory_of_a_vmapped_seed_is_that_of_a_run(tmp_path):
    path = tmp_path / "a"
    result = policygrad.train_seeds("gymnax/CartPole-v1", [1, 4], out=path, **TINY)
    policygrad.train("gymnax/CartPole-v1", out=tmp_path / "b", seed=4, **TINY)
    assert [p.name for p in seed_directories(path)] == ["seed-1", "seed-4"]
    names = [{f.name for f in p.iterdir()} for p in (path / "seed-4", tmp_path / "b")]
    assert names[0] == names[1]
    configs = [RunDirectory(p).read_config() for p in (path / "seed-4", tmp_path / "b")]
    assert configs[0] == configs[1]
    again = policygrad.resume(path / "seed-4", total_steps=128)
    assert again.summary["resumed_exactly"]
    whole = policygrad.train("gymnax/CartPole-v1", seed=4, **(TINY | {"total_steps": 128}))
    assert largest_difference(again, whole) <= 1e-4
    assert result.runs[4].path == path / "seed-4"


class Unlucky(Breaks):
    """Breaks for one of the first draws of its key alone."""

    def reset(self, key, params):
        import jax

        first, state = super().reset(key, params)
        bad = jax.random.bernoulli(key, 0.1)
        return first, state._replace(time=jax.numpy.where(bad, 0, -10_000).astype("int32"))


def test_seed_that_fails_does_not_lose_the_others(tmp_path):
    settings = TINY | {"total_steps": 32 * 12, "checkpoint_seconds": 1000.0}
    seeds = range(8)
    result = policygrad.train_seeds(Unlucky(at=20), seeds, out=tmp_path / "a", **settings)
    assert sorted([*result.runs, *result.failures]) == list(seeds)
    assert result.runs
    assert result.failures
    for error in result.failures.values():
        assert "nan in the reward" in str(error)
    for run in result.runs.values():
        assert run.summary["env_steps"] == 32 * 12
    assert [run.config.seed for run in result] == [s for s in seeds if s in result.runs]
    assert len(result) == len(result.runs)
    first = next(iter(result.runs))
    assert result[first] is result.runs[first]
    with pytest.raises(NonFiniteError, match="nan in the reward"):
        result[next(iter(result.failures))]
    with pytest.raises(UserError, match="there is no run of seed 99; there are "):
        result[99]


def test_a_seed_that_fails_keeps_the_updates_before_the_one_that_failed(tmp_path):
    settings = TINY | {"total_steps": 32 * 12, "checkpoint_seconds": 1000.0}
    result = policygrad.train_seeds(Unlucky(at=20), range(8), out=tmp_path / "a", **settings)
    for seed, error in result.failures.items():
        (failed,) = re.findall(r"in update (\d+) ", str(error))
        rows = RunDirectory(tmp_path / "a" / f"seed-{seed}").read_metrics()
        assert [row["update"] for row in rows] == list(range(1, int(failed)))


def test_a_seed_that_fails_beside_others_alone_trains_no_further(tmp_path, monkeypatch):
    """Seeds side by side in one program round differently: a NaN may be of that program alone."""
    asked = []

    def unsound_once(reports):
        asked.append(len(reports))
        return 3 if asked == [12] else first_unsound(reports)

    monkeypatch.setattr(many_seeds, "first_unsound", unsound_once)
    monkeypatch.setattr(Pace, "count", lambda self, wanted: wanted)
    settings = TINY | {"total_steps": 32 * 12, "checkpoint_seconds": 1000.0}
    result = policygrad.train_seeds(DUCK, [0, 1], out=tmp_path / "a", **settings)
    assert list(result.runs) == [1]
    assert "update 4 when seeds are trained together" in str(result.failures[0])
    assert "not when this seed is trained alone" in str(result.failures[0])
    path = tmp_path / "a" / "seed-0"
    failure = RunDirectory(path).read_failure()
    assert failure is not None
    assert failure.message in str(result.failures[0])
    rows = RunDirectory(path).read_metrics()
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    resumed = policygrad.resume(path, env=DUCK)
    assert_bitwise(resumed, policygrad.train(DUCK, seed=0, **settings))


@pytest.mark.slow
def test_seed_that_fails_in_a_worker_does_not_lose_the_others():
    result = policygrad.train_seeds(
        "tests.worlds:Chained-v0",
        [0, 1],
        env_kwargs={"what": "raise", "lane": 0},
        **(TINY | {"total_steps": 400}),
    )
    assert sorted(result.failures) == [0, 1]
    assert "ZeroDivisionError" in str(result.failures[0])


MISTAKES = {
    "one seed": ({"seeds": [0, 1], "seed": 3}, r"seed=3 was given beside seeds=\[0, 1\]"),
    "a number of seeds": ({"seeds": 2}, r"such as range\(5\) or \[0, 3, 7\]; got 2"),
    "text for seeds": ({"seeds": "0..4"}, "seeds must list numbers"),
    "text for jobs": ({"seeds": [0], "jobs": "2"}, "--jobs must be a whole number.*got '2'"),
    "jobs beside map": ({"seeds": [0], "jobs": 2, "map": map}, "jobs=2 is not read beside map"),
    "a callback beside map": (
        {"seeds": [0], "map": map, "on_update": lambda seed, row: None}, "on_update=.*beside map",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "told"), MISTAKES.values(), ids=MISTAKES)
def test_what_train_seeds_would_not_read_is_refused(given, told, tmp_path):
    with pytest.raises(UserError, match=told):
        policygrad.train_seeds(DUCK, out=tmp_path / "a", **TINY, **given)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("env", [DUCK, "CartPole-v1"], ids=["vmapped", "side by side"])
def test_ctrl_c_stops_and_saves_all(env, tmp_path):
    pressed = []

    def press(seed, metrics):
        if not pressed and metrics["update"] == 2:
            pressed.append(seed)
            os.kill(os.getpid(), signal.SIGINT)

    settings = TINY | {"total_steps": 10**7}
    path = tmp_path / "a"
    with pytest.warns(StoppedEarly) as told:
        result = policygrad.train_seeds(env, [0, 1], jobs=2, out=path, on_update=press, **settings)
    for run, warning in zip(result, told, strict=True):
        assert str(warning.message).endswith(f"continue with: policygrad resume {run.path}")
    assert result.interrupted
    assert not result.failures
    assert sorted(result.runs) == [0, 1]
    for seed, run in result.runs.items():
        rows = RunDirectory(path / f"seed-{seed}").read_metrics()
        newest = RunDirectory(path / f"seed-{seed}").newest_checkpoint()
        assert int(newest.name) == rows[-1]["env_steps"] == run.summary["env_steps"]


@pytest.mark.parametrize(
    ("seeds", "words"), [([], "no seed"), ([1, 1], "1 twice"), ([-1], "from 0 to")]
)
def test_seeds_are_checked(seeds, words):
    with pytest.raises(UserError, match=words):
        policygrad.train_seeds("CartPole-v1", seeds, **TINY)


# ----- the command


def test_command_trains_evaluates_and_plots_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [str(flag) for flag in TINY_FLAGS]
    train = ["train", "gymnax/CartPole-v1", *flags, "--seeds", "0..1,4", "--out", "a", "--json"]
    assert cli.run(train) == 0
    summaries = json.loads(capsys.readouterr().out)
    assert [s["seed"] for s in summaries] == [0, 1, 4]
    assert cli.run(["evaluate", "a", "--episodes", "4", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["seeds"]) == ["seed-0", "seed-1", "seed-4"]
    means = [r["stochastic"]["mean"] for r in result["seeds"].values()]
    assert result["stochastic"]["iqm"] == pytest.approx(interquartile_mean(means))
    assert cli.run(["evaluate", "a", "--episodes", "4"]) == 0
    assert "IQM, stochastic" in capsys.readouterr().out
    assert cli.run(["plot", "a", "--out", "c.png", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--seeds", "0..x"], "--seeds takes"),
        (["--seeds", "4..1"], "--seeds takes"),
        (["--seeds", "1,1"], "1 twice"),
        (["--seeds", "0,1", "--seed", "3"], "exclude each other"),
        (["--seeds", "0,1", "--jobs", "0"], "--jobs must be at least 1"),
        (["--jobs", "2"], "--jobs 2 is for --seeds only"),
    ],
)
def test_command_refuses(flags, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "CartPole-v1", *flags]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("policygrad: ")
    assert not any(tmp_path.iterdir())


# ----- IQM


def test_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean([5.0, 1.0, 2.0, 3.0, 400.0]) == pytest.approx(10 / 3)
    assert interquartile_mean([1.0, 2.0, 3.0]) == 2.0
    mean, (low, high) = iqm_interval(np.arange(40.0))
    assert mean == 19.5
    assert low < 19.5 < high
    assert iqm_interval([3.0]) == (3.0, (-np.inf, np.inf))
