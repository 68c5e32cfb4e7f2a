"""Training on from a saved policy, and resuming with changed settings."""

import json
import warnings

import equinox as eqx
import jax
import numpy as np
import pytest

import policygrad
from policygrad import callbacks, estimators
from policygrad.core.errors import RunError, UserError
from policygrad.maths.distributions import Categorical
from policygrad.runs import RunDirectory
from policygrad.training.changes import changeable
from policygrad.training.given import Given
from tests.slow import params
from tests.training.test_own_values import OwnPPO
from tests.training.test_training import assert_bitwise
from tests.worlds import DUCK, PLAIN, TINY, Chain

LONGER = TINY | {"total_steps": 128}


def config_of(path):
    return json.loads((path / "config.json").read_text())


def leaves(policy):
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(policy, eqx.is_array))]


@pytest.fixture(scope="module")
def started(trained, tmp_path_factory):
    """A run that began from the policy of another."""
    path = tmp_path_factory.mktemp("started") / "a"
    return policygrad.train(
        "CartPole-v1", start=trained.path, out=path, **(TINY | {"seed": 3, "step_size": 1e-4})
    )


@pytest.fixture
def copy(started, tmp_path):
    import shutil

    shutil.copytree(started.path, tmp_path / "copy")
    return tmp_path / "copy"


# ----- from a saved policy


def test_case_12_a_run_goes_on_from_a_saved_policy(trained, started):
    first = policygrad.train(
        "CartPole-v1", start=trained.path, **(TINY | {"total_steps": 32, "step_size": 1e-30})
    )
    weights = zip(leaves(first.policy.network), leaves(trained.policy.network), strict=True)
    assert all(np.allclose(a, b, atol=1e-12) for a, b in weights)
    own = policygrad.train("CartPole-v1", **(TINY | {"total_steps": 32}))
    assert not np.allclose(leaves(own.policy.network)[0], leaves(trained.policy.network)[0])
    # with what it normalises by: counts go on from the old run's
    counts = [float(r.policy.normaliser.statistics.value.rows_seen) for r in (trained, started)]
    assert counts[1] == counts[0] * 2
    assert config_of(started.path)["from"]["path"] == str(trained.path)


@pytest.mark.parametrize("kind", ["path", "checkpoint", "policy file", "Run", "Agent"])
def test_a_policy_is_taken_from_each_place(trained, started, kind):
    settings = TINY | {"seed": 3, "step_size": 1e-4}
    given = {
        "path": {"start": str(trained.path)},
        "checkpoint": {"start": RunDirectory(trained.path).newest_checkpoint()},
        "policy file": {"start": trained.path / "policy.json"},
        "Run": {"start": trained},
        "Agent": {"policy": policygrad.load(trained.path)},
    }[kind]
    assert_bitwise(policygrad.train("CartPole-v1", **given, **settings), started)


def test_case_31_a_run_that_began_from_a_policy_is_resumed_by_its_path_alone(trained, tmp_path):
    settings = TINY | {"seed": 3}
    whole = policygrad.train("CartPole-v1", start=trained.path, **(settings | {"total_steps": 128}))
    for name, given in {"a": {"start": trained.path}, "b": {"policy": trained.agent}}.items():
        policygrad.train("CartPole-v1", **given, out=tmp_path / name, **settings)
        assert config_of(tmp_path / name)["objects"] == []
        assert_bitwise(policygrad.resume(tmp_path / name, total_steps=128), whole)
        again = policygrad.resume(tmp_path / name, total_steps=160)
        assert again.summary["env_steps"] == 160


def test_training_goes_on_in_another_environment_of_the_same_spaces(trained, tmp_path):
    run = policygrad.train("gymnax/CartPole-v1", start=trained.path, out=tmp_path / "a", **TINY)
    assert run.summary["env_steps"] == 64
    assert policygrad.resume(tmp_path / "a", total_steps=96).summary["env_steps"] == 96


@pytest.mark.parametrize("env", ["Acrobot-v1", "Pendulum-v1", "MountainCar-v0"])
def test_case_12_other_spaces_are_named(trained, env):
    with pytest.raises(UserError, match=r"space is .*, the environment's is") as error:
        policygrad.train(env, start=trained.path, **TINY)
    assert "Box(" in str(error.value) or "Discrete(" in str(error.value)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"start": "nowhere"}, RunError, "no run or policy at nowhere"),
        ({"start": 3}, UserError, "a path must be text"),
        ({"log_std": -1.0}, UserError, "read by the default policy"),
        ({"policy": "nowhere"}, UserError, "no policy"),
    ],
)
def test_what_is_no_start_is_named(trained, given, error, words):
    with pytest.raises(error, match=words):
        policygrad.train("CartPole-v1", **({"start": trained.path} if "log_std" in given else {}),
                         **given, **TINY)  # fmt: skip


def test_start_and_policy_exclude_each_other(trained):
    with pytest.raises(UserError, match="exclude each other"):
        policygrad.train("CartPole-v1", start=trained.path, policy=trained.agent, **TINY)
    unwritten = policygrad.train("CartPole-v1", **TINY)
    with pytest.raises(UserError, match="written to disk"):
        policygrad.train("CartPole-v1", start=unwritten, **TINY)


def test_sizes_of_layers_are_the_critics_where_a_policy_is_passed(trained):
    run = policygrad.train("CartPole-v1", start=trained.path, **(TINY | {"hidden": (5,)}))
    assert run.config.hidden == (5,)
    assert run.policy.architecture.hidden == (8,)


class Own(eqx.Module):
    """A policy whose structure no file holds."""

    weight: jax.Array

    def __call__(self, observation):
        return Categorical(self.weight @ observation)


def test_a_policy_of_ones_own_class_must_be_passed_again(tmp_path):
    policy = Own(jax.numpy.zeros((2, 2)))
    policygrad.train(Chain, policy=policy, out=tmp_path / "a", **TINY)
    with pytest.raises(UserError, match="policy=\\.\\.\\."):
        policygrad.resume(tmp_path / "a", env=Chain, total_steps=96)
    run = policygrad.resume(tmp_path / "a", env=Chain, policy=policy, total_steps=96)
    assert run.summary["env_steps"] == 96


def test_seeds_begin_from_one_policy(trained, tmp_path):
    runs = policygrad.train_seeds(
        "gymnax/CartPole-v1", [1, 2], start=trained.path, out=tmp_path / "s", **TINY
    ).runs
    assert all(config_of(run.path)["from"]["path"] == str(trained.path) for run in runs.values())
    assert policygrad.resume(tmp_path / "s" / "seed-1", total_steps=96).summary["env_steps"] == 96


# ----- resumed with other settings


def test_case_31_a_run_is_resumed_with_another_step_size(copy):
    run = policygrad.resume(copy, total_steps=128, step_size=3e-5, checkpoint_seconds=5)
    row = next(row for row in run.metrics if row["env_steps"] == 96)
    assert row["step_size"] == pytest.approx(3e-5)
    saved = config_of(copy)
    assert saved["config"]["step_size"] == 3e-5
    assert saved["config"]["checkpoint_seconds"] == 5
    told = {"total_steps": 128, "step_size": 3e-5, "checkpoint_seconds": 5}
    assert saved["changes"] == [{"env_steps": 64, "settings": told}]
    policygrad.resume(copy, total_steps=160, discount=0.9)
    assert [c["env_steps"] for c in config_of(copy)["changes"]] == [64, 128]


def test_a_step_size_that_was_adapted_is_set_back(copy, started):
    own = policygrad.resume(copy, total_steps=96, step_size=started.config.step_size)
    row = own.metrics[-1]
    assert row["step_size"] == pytest.approx(1e-4)
    assert started.metrics[-1]["step_size"] != pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 4), ("num_envs", 8), ("batch_steps", 64), ("hidden", (9,)), ("algorithm", "ppo"),
        ("estimator", "td"), ("optimiser", "sgd"), ("batch_episodes", 4), ("scale_rewards", False),
        ("step_size_schedule", "linear"), ("log_std_step", 1.0), ("time_limit", "terminates"),
        ("normalise_observations", False), ("resets_at_rewards", True),
    ],
)  # fmt: skip
def test_what_may_not_change_is_refused_with_a_list_of_what_may(copy, name, value):
    before = (copy / "config.json").read_bytes()
    with pytest.raises(UserError, match="a resumed run keeps its --") as error:
        policygrad.resume(copy, total_steps=128, **{name: value})
    message = str(error.value)
    assert f"--{name.replace('_', '-')} (" in message
    assert "what may change: --total-steps" in message
    assert "--step-size, " in message
    assert "train --from RUN" in message
    assert (copy / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepsize": 1e-4}, "unknown setting 'stepsize', did you mean step_size"),
        ({"step_size": -1}, "--step-size must be more than 0, got -1"),
        ({"total_steps": 64}, "already has 64 of 64 steps"),
        ({"monitor_every": True}, "--monitor-every must be a whole number"),
    ],
)
def test_a_wrong_setting_is_named(copy, settings, words):
    with pytest.raises(UserError, match=words):
        policygrad.resume(copy, **({"total_steps": 128} | settings))


def test_the_same_value_is_no_change(copy):
    run = policygrad.resume(
        copy, total_steps=96, seed=3, num_envs=4, hidden=[8], algorithm="vanilla"
    )
    assert run.summary["env_steps"] == 96
    assert config_of(copy)["changes"] == [{"env_steps": 64, "settings": {"total_steps": 96}}]


@pytest.mark.parametrize("every", [(0, 1), (1, 0)])
def test_monitoring_can_begin_and_end(every, tmp_path):
    policygrad.train("CartPole-v1", out=tmp_path / "a", monitor_every=every[0], **TINY)
    run = policygrad.resume(tmp_path / "a", total_steps=128, monitor_every=every[1])
    plain = policygrad.train("CartPole-v1", **LONGER)
    assert_bitwise(run, plain)
    assert ("noise_scale" in run.metrics[-1]) == bool(every[1])


def test_case_12_another_environment_is_refused_with_the_way_to_it(copy):
    with pytest.raises(UserError, match=r"policygrad train Acrobot-v1 --from .*start="):
        policygrad.resume(copy, env="Acrobot-v1", total_steps=128)
    assert policygrad.resume(copy, env="CartPole-v1", total_steps=96).summary["env_steps"] == 96


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*steps shrink to zero over")
@pytest.mark.parametrize(
    "algorithm", params(["vanilla", "natural", "trpo", "ppo"], {"vanilla", "natural", "trpo"})
)
def test_every_number_that_may_change_changes(algorithm, tmp_path):
    path = tmp_path / "a"
    run = policygrad.train("gymnax/CartPole-v1", algorithm=algorithm, out=path, **TINY)
    new = {}
    for name in changeable(run.config, Given()):
        value = getattr(run.config, name)
        if isinstance(value, bool) or name == "total_steps":
            continue
        if name == "step_timeout":  # of environments that Gymnasium steps
            assert value is None
            continue
        if name == "video_every":  # of environments that can draw themselves
            continue
        new[name] = value + 1 if isinstance(value, int) else value * 0.9 or 0.01
    again = policygrad.resume(path, total_steps=96, **new)
    assert again.summary["env_steps"] == 96
    assert {name: getattr(again.config, name) for name in new} == new


def warned(path, **changes):
    """What a resumed run warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        policygrad.resume(path, **changes)
    return [str(warning.message) for warning in found]


def test_steps_that_shrink_over_another_length_are_said(tmp_path):
    path = tmp_path / "a"
    policygrad.train(DUCK, algorithm="ppo", out=path, **TINY)
    (told,) = warned(path, total_steps=96, env=DUCK)
    assert "steps shrink to zero over 96 steps now, not over 64" in told
    policygrad.train(DUCK, algorithm=OwnPPO(), out=tmp_path / "own", **TINY)
    objects = {"env": DUCK, "algorithm": OwnPPO()}
    assert len(warned(tmp_path / "own", total_steps=96, **objects)) == 1
    policygrad.train(DUCK, out=tmp_path / "constant", **TINY)
    assert warned(tmp_path / "constant", total_steps=96, env=DUCK) == []


# ----- environments that were opened for a run that does not begin


@pytest.mark.parametrize(
    "mistake",
    [
        {"start": "another space"},
        {"policy": lambda observation: 3},
        {"estimator": estimators.total_return()},
        {"processors": 2},
        {"collector": lambda *_: 1 / 0},
        {"on_update": callbacks.schedule("no_such_number", lambda steps: 1.0)},
    ],
    ids=["spaces", "policy", "estimator", "processors", "collector", "schedule"],
)
def test_environments_are_closed_where_a_run_is_refused(mistake, trained, tmp_path):
    made, closed = [], []

    class Counted(Chain):
        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            closed.append(self)

    if "start" in mistake:
        mistake = {"start": trained.path}
    with pytest.raises((UserError, ZeroDivisionError)):
        policygrad.train(Counted, **PLAIN | mistake)
    assert made
    assert set(map(id, made)) == set(map(id, closed))


def test_a_setting_of_another_library_is_translated_on_resume(copy):
    with pytest.raises(UserError, match="unknown setting 'learning_rate'; here it is called"):
        policygrad.resume(copy, total_steps=96, learning_rate=1e-3)


def test_a_linear_schedule_over_another_length_is_said(tmp_path):
    path = tmp_path / "a"
    policygrad.train("CartPole-v1", out=path, step_size_schedule="linear", **TINY)
    with pytest.warns(UserWarning, match="steps shrink to zero over 96 steps now, not over 64"):
        policygrad.resume(path, total_steps=96)


def test_an_agent_is_no_start(started):
    with pytest.raises(UserError, match="pass an agent as policy=agent"):
        policygrad.train("CartPole-v1", start=started.agent, **TINY)
