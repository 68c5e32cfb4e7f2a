"""The loop: what it refuses, what it saves before that, and what it keeps."""

import time
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad import estimators
from policygrad.core.counting import LongCount
from policygrad.core.errors import NonFiniteError
from policygrad.gradients.baselines.base import Regression
from policygrad.runs import RunDirectory, storage
from policygrad.training import entry, loop, overlapped
from policygrad.training.assembly import Task, assemble
from policygrad.training.given import Given
from policygrad.training.loop import Training
from policygrad.training.signals import StopRequest
from tests.training.test_training import assert_bitwise
from tests.worlds import DUCK, PLAIN, TINY, Chain

both = pytest.mark.parametrize("env", [Chain, DUCK], ids=["host", "compiled"])


def begun(env, path=None, given=None, **settings):
    """A run that was put together, and not yet trained."""
    assembly = assemble(Task(env, {}), entry.make_config(PLAIN | settings), given or Given())
    return Training.begin(assembly, None if path is None else RunDirectory.create(path))


# ----- a critic that breaks


@both
def test_a_critic_that_overflows_fails_its_own_update_and_is_named(env, tmp_path):
    """Steps of 10³⁸: its first fit leaves no finite number."""
    path = tmp_path / "a"
    settings = TINY | {"critic_step_size": 1e38, "checkpoint_seconds": 0.0}
    with pytest.raises(NonFiniteError, match="in the critic or the baseline at update 1") as caught:
        policygrad.train(env, out=path, **settings)
    assert caught.value.kind == "critic"
    assert "lower --critic-step-size" in str(caught.value)
    failure = RunDirectory(path).read_failure()
    assert failure is not None
    assert (failure.kind, failure.env_steps) == ("critic", 0)
    kept = RunDirectory(path).checkpoints()
    assert [p.name for p in kept] == ["000000000000"]
    arrays, _ = storage.load(kept[0] / "state")
    assert all(np.isfinite(x).all() for x in arrays.values())


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Brittle(Regression):
    """A constant critic whose fits give NaN from the `breaks`-th on."""

    breaks: int = field(default=3, metadata={"static": True})
    may_bootstrap = True

    def init(self, key, observation):
        return jnp.zeros(()), jnp.int32(0)

    def value(self, state, observation, time):
        return state[0]

    def regress(self, state, key, trajectories, targets, weights):
        fits = state[1] + 1
        return jnp.where(fits >= self.breaks, jnp.nan, jnp.mean(targets)), fits


@both
def test_what_was_trained_before_a_critic_broke_stands(env, tmp_path):
    """Two updates: recorded, saved, and gone on from as if nothing had happened."""
    path, good = tmp_path / "a", estimators.gae(critic=Brittle(breaks=1000))
    settings = PLAIN | {"checkpoint_seconds": 0.0, "total_steps": 200}
    with pytest.raises(NonFiniteError, match=r"critic or the baseline at update 3 .*step 64"):
        policygrad.train(env, out=path, estimator=estimators.gae(critic=Brittle()), **settings)
    rows = RunDirectory(path).read_metrics()
    assert [row["update"] for row in rows] == [1, 2]
    assert RunDirectory(path).newest_checkpoint().name == "000000000064"
    with pytest.warns(UserWarning, match="another estimator"):
        resumed = policygrad.resume(path, env=env, estimator=good)
    assert_bitwise(policygrad.train(env, estimator=good, **settings), resumed)
    assert RunDirectory(path).read_failure() is None


# ----- an update that is refused


@both
def test_a_refused_update_is_never_taken_even_where_its_batch_is_finite(env, tmp_path, monkeypatch):
    """As where another program rounds, so that what was not finite does not come back."""
    training = begun(env, tmp_path / "a")
    before = jax.tree.leaves(jax.device_get(training.progress.state.learner.policy))
    for module in (loop, overlapped):
        monkeypatch.setattr(module, "first_unsound", lambda reports: 0)
    with pytest.raises(NonFiniteError, match=r"update 1 .*finite when it was collected again"):
        training.run()
    after = jax.tree.leaves(jax.device_get(training.progress.state.learner.policy))
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)
    assert training.progress.env_steps == 0
    failure = RunDirectory(tmp_path / "a").read_failure()
    assert failure is not None
    assert "update 1" in failure.message


# ----- a request to stop


class Late(StopRequest):
    """Set from its fifth look on."""

    looks = 0

    def is_set(self):
        self.looks += 1
        return self.looks >= 5


def test_a_run_that_is_stopped_at_any_look_has_settled_its_newest_update(tmp_path):
    path = tmp_path / "a"
    training = begun(Chain, path, total_steps=320, checkpoint_seconds=1e6)
    run = training.run(stop=Late())
    updates = run.summary["updates"]
    assert 0 < updates < 10
    assert training.pending is None
    assert run.summary["env_steps"] == 32 * updates
    assert len(RunDirectory(path).read_metrics()) == updates
    _, data = storage.load(RunDirectory(path).newest_checkpoint() / "state")
    assert data["env_steps"] == 32 * updates


# ----- long runs


class Enough(Exception):
    """Ends a run that has shown what it was to show."""


@both
def test_a_total_beyond_32_bits_trains_with_steps_that_shrink(env):
    sizes = []

    def stop(metrics):
        sizes.append(metrics["step_size"])
        if len(sizes) == 3:
            raise Enough

    with pytest.raises(Enough):
        policygrad.train(
            env, on_update=stop, step_size_schedule="linear", target_kl=0.0, step_size=0.01,
            **(TINY | {"total_steps": 2**33}),
        )  # fmt: skip
    assert sizes == pytest.approx([0.01] * 3)


@both
def test_steps_go_on_shrinking_beyond_32_bits(env):
    """A run that is three quarters through 10¹⁰ steps, and one at its last."""
    for steps, share in ((7_500_000_000, 0.25), (10**10 - 1, 0.0)):
        training = begun(
            env, step_size_schedule="linear", target_kl=0.0, step_size=0.01, total_steps=10**10
        )
        progress = training.progress
        learner = progress.state.learner._replace(steps=LongCount.of(steps))
        progress.state, progress.env_steps = progress.state._replace(learner=learner), steps

        def stop(metrics, share=share, steps=steps):
            assert metrics["step_size"] == pytest.approx(0.01 * share, rel=1e-5, abs=1e-9)
            assert metrics["env_steps"] == steps + 32
            raise Enough

        with pytest.raises(Enough):
            training.run(stop)
        assert int(training.progress.state.learner.steps) == steps + 32


@both
def test_a_run_with_a_directory_keeps_no_rows_in_memory(env, tmp_path):
    training = begun(env, tmp_path / "a", total_steps=96)
    run = training.run()
    assert training.recorder.kept == run.recorded == []
    assert [row["update"] for row in run.metrics] == [1, 2, 3]
    assert run.metrics == RunDirectory(tmp_path / "a").read_metrics()
    assert [row["update"] for row in begun(env, total_steps=96).run().metrics] == [1, 2, 3]


class Slow(Chain):
    """A step takes 2 ms."""

    def step(self, action):
        time.sleep(0.002)
        return super().step(action)


@pytest.mark.parametrize("watched", [False, True])
def test_every_update_is_charged_with_the_time_of_its_own_batch(watched):
    def seen(run):
        pass

    seen.needs_state = watched
    started = time.perf_counter()
    run = policygrad.train(Slow, on_update=seen, **(TINY | {"total_steps": 128}))
    took = time.perf_counter() - started
    seconds = [32 / row["steps_per_second"] for row in run.metrics]
    assert len(seconds) == 4
    assert min(seconds) > 32 * 0.002
    assert sum(seconds) == pytest.approx(run.metrics[-1]["seconds"])
    assert sum(seconds) < took
