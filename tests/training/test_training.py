import json
import os
import signal
import subprocess
import sys
import time

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import estimators
from policygrad.core.errors import EnvironmentFailure, NonFiniteError, PolicygradError, UserError
from policygrad.maths.distributions import Categorical
from policygrad.runs import RunDirectory, storage
from policygrad.training.built_in import BASELINES, ESTIMATORS, OPTIMISERS
from policygrad.training.config import TrainConfig
from policygrad.training.ending import StoppedEarly
from policygrad.training.given import Given
from policygrad.training.resolve import resolve
from policygrad.training.signals import stop_requests
from tests.slow import params, slow
from tests.worlds import (
    DUCK,
    GYMNAX_CHAIN,
    PLAIN,
    ROOT,
    TINY,
    Chain,
    Chained,
    DuckChain,
    Echo,
    Endless,
    Masked,
    environment_variables,
    python,
)

EPISODES = TINY | {"batch_steps": None, "batch_episodes": 4}
KINDS = {"segments": TINY, "episodes": EPISODES}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
ENVS = {
    "gymnax": ("gymnax/CartPole-v1", {}),
    "vector entry point": ("CartPole-v1", {}),
    "SyncVectorEnv": ("Pendulum-v1", {"max_episode_steps": 11}),
}
every_env = pytest.mark.parametrize(("env", "kwargs"), ENVS.values(), ids=ENVS)


def some_pairs(*quick):
    """Environments of `ENVS` with batches of `KINDS`; the others than these run on demand."""
    pairs = {f"{e}-{k}": (*ENVS[e], KINDS[k]) for e in ENVS for k in KINDS}
    return pytest.mark.parametrize(
        ("env", "kwargs", "settings"), params(pairs, pairs.keys() - set(quick))
    )


def arrays_of(run):
    return {name: np.asarray(leaf) for name, leaf in storage.named_leaves(run.policy)}


def assert_bitwise(ours, theirs):
    ours, theirs = arrays_of(ours), arrays_of(theirs)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.tobytes() == theirs[name].tobytes(), name


def assert_finite(run):
    assert all(np.isfinite(value).all() for value in arrays_of(run).values())
    for metrics in run.metrics:
        for name, value in metrics.items():
            assert value is None or np.isfinite(value), (name, value)


def without_clock(metrics):
    return [
        {k: v for k, v in m.items() if k not in ("seconds", "steps_per_second")} for m in metrics
    ]


# ----- the same again


@some_pairs("gymnax-segments", "vector entry point-episodes", "SyncVectorEnv-segments")
def test_same_seed_gives_the_same_bits(env, kwargs, settings):
    one, two, other = (
        policygrad.train(env, env_kwargs=kwargs, seed=seed, **settings) for seed in (3, 3, 4)
    )
    assert_bitwise(one, two)
    assert without_clock(one.metrics) == without_clock(two.metrics)
    with pytest.raises(AssertionError):
        assert_bitwise(one, other)


KILLED = """
import json, os, signal, sys
import policygrad
from policygrad.training import checkpoint
env, out, settings, kwargs, at = json.loads(sys.argv[1])
save = checkpoint.save

def kill(assembly, progress, directory):
    if progress.updates == at:
        os.kill(os.getpid(), signal.SIGKILL)
    save(assembly, progress, directory)

checkpoint.save = kill
policygrad.train(env, out=out, env_kwargs=kwargs, **settings)
"""


def test_a_classifier_goes_on_where_it_was(tmp_path):
    settings = TINY | {"baseline": "value-classifier", "critic_hidden": (5,)}
    whole = policygrad.train(Chain, out=tmp_path / "whole", **settings | {"total_steps": 128})
    policygrad.train(Chain, out=tmp_path / "cut", **settings)
    assert_bitwise(whole, policygrad.resume(tmp_path / "cut", env=Chain, total_steps=128))


@some_pairs("gymnax-segments", "vector entry point-episodes", "SyncVectorEnv-segments")
def test_killed_and_resumed_equals_uninterrupted(env, kwargs, settings, tmp_path):
    """Killed before the third update was saved."""
    settings = settings | {"seed": 5, "checkpoint_seconds": 0.0, "total_steps": 600}
    whole = policygrad.train(env, out=tmp_path / "whole", env_kwargs=kwargs, **settings)
    path = tmp_path / "killed"
    arguments = json.dumps([env, str(path), settings, kwargs, 3])
    assert python("-c", KILLED, arguments).returncode == -signal.SIGKILL
    assert not (path / "summary.json").exists()
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 3

    rows = []
    resumed = policygrad.resume(path, on_update=rows.append)
    assert resumed.summary["resumed_exactly"] is True
    assert rows[0]["update"] == 3
    assert without_clock(resumed.metrics[2:]) == without_clock(rows)
    assert_bitwise(whole, resumed)
    everything = [RunDirectory(p).read_metrics() for p in (tmp_path / "whole", path)]
    assert without_clock(everything[0]) == without_clock(everything[1])
    states = [
        storage.load(RunDirectory(p).newest_checkpoint() / "state")[0]
        for p in (tmp_path / "whole", path)
    ]
    for name, value in states[0].items():
        assert value.tobytes() == states[1][name].tobytes(), name


def test_completed_run_is_trained_on(tmp_path):
    whole = policygrad.train("CartPole-v1", **(TINY | {"total_steps": 200}))
    policygrad.train("CartPole-v1", out=tmp_path / "a", **(TINY | {"total_steps": 100}))
    assert_bitwise(whole, policygrad.resume(tmp_path / "a", total_steps=200))


def test_run_that_has_its_steps_is_not_resumed(trained):
    with pytest.raises(UserError, match=r"already has \d+ of 64 steps; raise --total-steps"):
        policygrad.resume(trained.path)


def test_environment_that_cannot_be_brought_back_is_named(tmp_path):
    path = tmp_path / "a"
    policygrad.train("tests.worlds:Forgetful-v0", out=path, **TINY)
    with pytest.warns(UserWarning, match="could not be brought back to where they were"):
        resumed = policygrad.resume(path, total_steps=96)
    assert resumed.summary["resumed_exactly"] is False
    assert_finite(resumed)


def test_objects_must_be_passed_again(tmp_path):
    path = tmp_path / "a"
    policygrad.train(Chain, out=path, estimator=estimators.td(), **PLAIN)
    with pytest.raises(UserError, match=r"policygrad\.resume\(.*estimator="):
        policygrad.resume(path, total_steps=96, env=Chain)
    with pytest.raises(UserError, match="env="):
        policygrad.resume(path, total_steps=96, estimator=estimators.td())
    again = policygrad.resume(path, total_steps=96, env=Chain, estimator=estimators.td())
    whole = policygrad.train(Chain, estimator=estimators.td(), **(PLAIN | {"total_steps": 96}))
    assert_bitwise(whole, again)


def test_environment_with_arguments_is_resumed_as_it_was(tmp_path):
    def heavy():
        return gymnasium.make("Pendulum-v1", g=5.0)

    policygrad.train(heavy(), out=tmp_path / "a", **TINY)
    whole = policygrad.train(heavy(), **(TINY | {"total_steps": 128}))
    try:
        resumed = policygrad.resume(tmp_path / "a", total_steps=128)
    except UserError:  # asking for the environment again would be right too
        resumed = policygrad.resume(tmp_path / "a", total_steps=128, env=heavy())
    assert_bitwise(whole, resumed)


# ----- the monitor

MONITORED = {"signal_to_noise", "noise_scale", "gradient_cosine"}


MONITORED_RUNS = {
    "compiled": ("gymnax/CartPole-v1", TINY),
    "compiled ppo": (
        "gymnax/CartPole-v1", TINY | {"algorithm": "ppo", "ppo_epochs": 1, "ppo_minibatches": 2},
    ),
    "compiled episodes": ("gymnax/CartPole-v1", EPISODES | {"estimator": "reward-to-go"}),
    "host natural": ("CartPole-v1", TINY | {"algorithm": "natural"}),
    "host episodes trpo": (
        "CartPole-v1", EPISODES | {"algorithm": "trpo", "entropy_coefficient": 0.1},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "settings"),
    params(MONITORED_RUNS, {"compiled ppo", "compiled episodes", "host natural"}),
)
def test_monitor_changes_no_bit_and_reports_every_second_update(env, settings):
    settings = settings | {"total_steps": 160}
    plain = policygrad.train(env, **settings)
    watched = policygrad.train(env, monitor_every=2, **settings)
    assert len(plain.metrics) > 1
    assert_bitwise(plain, watched)
    bare = [{k: v for k, v in m.items() if k not in MONITORED} for m in watched.metrics]
    assert without_clock(bare) == without_clock(plain.metrics)
    for metrics in watched.metrics:
        assert (metrics.keys() >= MONITORED) == (metrics["update"] % 2 == 0)
        assert metrics.keys() >= MONITORED or not metrics.keys() & MONITORED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "settings"),
    [
        pytest.param("gymnax/CartPole-v1", TINY, id="compiled-segments", marks=slow),
        pytest.param("gymnax/CartPole-v1", EPISODES, id="compiled-episodes"),
        pytest.param("CartPole-v1", TINY, id="host-segments"),
        pytest.param("CartPole-v1", EPISODES, id="host-episodes", marks=slow),
    ],
)
def test_monitored_run_that_is_resumed_equals_uninterrupted(env, settings, tmp_path):
    """The gradient of the last monitored update comes back from the checkpoint."""
    settings = settings | {"monitor_every": 2, "num_envs": 2}
    whole = policygrad.train(env, **(settings | {"total_steps": 400}))
    part = policygrad.train(env, out=tmp_path / "a", **(settings | {"total_steps": 100}))
    before, rows = part.metrics, []
    resumed = policygrad.resume(tmp_path / "a", total_steps=400, on_update=rows.append)
    assert without_clock(whole.metrics) == without_clock([*before, *rows])
    assert without_clock(whole.metrics) == without_clock(resumed.metrics)
    assert any(m.get("gradient_cosine") for m in rows)
    assert_finite(resumed)


# ----- what is trained


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        pytest.param(Chain, TINY, id="gym-segments"),
        pytest.param(Chain, EPISODES, id="gym-episodes", marks=slow),
        pytest.param(GYMNAX_CHAIN, TINY, id="gymnax-segments", marks=slow),
        pytest.param(GYMNAX_CHAIN, EPISODES, id="gymnax-episodes"),
        pytest.param(DUCK, TINY, id="duck-segments"),
        pytest.param(DUCK, EPISODES, id="duck-episodes", marks=slow),
    ],
)
def test_total_steps_is_overshot_by_less_than_a_batch(env, settings):
    for total in (1, 32, 33, 65):
        run = policygrad.train(env, **(settings | {"total_steps": total}))
        last = run.metrics[-2]["env_steps"] if len(run.metrics) > 1 else 0
        assert last < total <= run.summary["env_steps"]
        batch = 32 if settings is TINY else 12
        assert run.summary["env_steps"] < total + batch


def accepted():
    for whole in (False, True):
        for estimator in ESTIMATORS:
            for baseline in (None, *BASELINES):
                for small in (TINY, PLAIN):
                    settings = {**small, "estimator": estimator, "baseline": baseline}
                    if whole:
                        settings |= {"batch_steps": None, "batch_episodes": 4}
                    try:
                        resolve(TrainConfig(**settings), Given())
                    except UserError:
                        continue
                    yield pytest.param(settings, id=f"{estimator}-{baseline}-{whole}")
                    break


ACCEPTED = list(accepted())


@pytest.mark.slow
@pytest.mark.parametrize("settings", ACCEPTED)
def test_every_estimator_and_baseline_that_is_accepted_trains(settings):
    assert_finite(policygrad.train(GYMNAX_CHAIN, **settings))


@pytest.mark.parametrize(
    ("estimator", "baseline", "whole"),
    [
        ("total-return", "leave-one-out", True),
        ("reward-indexed", "time-dependent", True),
        ("reward-to-go", "linear-features", True),
        pytest.param("reward-to-go", None, False, marks=slow),
        ("n-step", "constant", False),
        ("td", "none", False),
        ("gae", "value-classifier", False),
        pytest.param("reward-to-go", "value-classifier", True, marks=slow),
        pytest.param("gae", "linear-features", False, marks=slow),
        pytest.param("gae", "leave-one-out", True, marks=slow),
        pytest.param("reward-to-go", "variance-optimal", True, marks=slow),
        ("gae", "variance-optimal", False),
    ],
)
def test_estimators_and_baselines_train(estimator, baseline, whole):
    kind = PLAIN | {"batch_steps": None, "batch_episodes": 4} if whole else PLAIN
    assert_finite(policygrad.train(Chain, **kind, estimator=estimator, baseline=baseline))


def test_some_of_what_is_accepted_is_tried():
    assert len(ACCEPTED) >= 55


@pytest.mark.parametrize(
    "optimiser",
    params(
        {**{name: name for name in OPTIMISERS}, "of the user": optax.scale_by_lion()},
        {"rmsprop", "of the user"},
    ),
)
def test_optimisers_train(optimiser):
    assert_finite(policygrad.train(Chain, optimiser=optimiser, **TINY))


@pytest.mark.parametrize(
    "settings",
    [
        {"step_size_schedule": "linear", "target_kl": 0.0},
        pytest.param({"entropy_coefficient": 0.01, "max_global_norm": 0.5}, marks=slow),
        {"normalise_observations": False, "scale_rewards": False, "normalise_advantages": False},
        {"discounted_states": True, "time_limit": "terminates"},
        {"resets_at_rewards": True},
        {"hidden": ()},
        {"num_envs": 1, "batch_steps": 8},
        pytest.param({"num_envs": 8, "batch_steps": 8}, marks=slow),
    ],
    ids=str,
)
def test_settings_train(settings):
    assert_finite(policygrad.train(Chain, **(TINY | settings)))


@pytest.mark.parametrize("seed", range(3))
def test_no_baseline_is_another_run_than_a_constant(seed):
    """From the first update on, where the constant is still 0: no mean is subtracted either."""

    def first_update(baseline):
        settings = EPISODES | {"critic_epochs": None, "baseline": baseline, "total_steps": 16}
        run = policygrad.train(Chain, estimator="reward-to-go", seed=seed, **settings)
        return run.metrics[0]["gradient_norm"]

    assert abs(first_update("none") / first_update("constant") - 1) > 0.01


def test_linear_schedule_falls_to_zero_over_the_run():
    for kind in (TINY, EPISODES):
        settings = kind | {"total_steps": 128, "target_kl": 0.0, "step_size": 0.01}
        run = policygrad.train(Chain, step_size_schedule="linear", **settings)
        sizes = [m["step_size"] for m in run.metrics]
        assert sizes[0] == pytest.approx(0.01)
        assert np.all(np.diff(sizes) < 0)
        assert sizes[-1] < 0.01 * 1.5 / len(sizes)


ACTIONS = {
    "discrete": spaces.Discrete(3, start=-1),
    "multidiscrete": spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "multidiscrete matrix": spaces.MultiDiscrete([[2, 3], [2, 2]]),
    "multibinary": spaces.MultiBinary([2, 2]),
    "box": spaces.Box(-2.0, 2.0, (2,)),
    "box of any bounds": spaces.Box(
        np.array([-np.inf, 0, -1]), np.array([np.inf, np.inf, 3]), dtype=np.float64
    ),
    "one number": spaces.Box(0.0, 4.0, (1,)),
}
OBSERVATIONS = spaces.Dict(
    {
        "a": spaces.Tuple([spaces.Discrete(3, start=2), spaces.Box(-1, 1, (2,))]),
        "b": spaces.MultiBinary(2),
        "c": spaces.MultiDiscrete([2, 3]),
    }
)


@pytest.mark.parametrize(
    "actions", params(ACTIONS, {"discrete", "multidiscrete", "box", "one number"})
)
def test_every_action_space_trains(actions):
    assert_finite(policygrad.train(lambda: Echo(OBSERVATIONS, actions), **TINY))


@pytest.mark.parametrize(
    ("algorithm", "gaussian"),
    [
        ("vanilla", "tanh_gaussian"),
        pytest.param("vanilla", "clipped_gaussian", marks=slow),
        pytest.param("trpo", "tanh_gaussian", marks=slow),
        pytest.param("trpo", "clipped_gaussian", marks=slow),
        pytest.param("ppo", "tanh_gaussian", marks=slow),
        ("ppo", "clipped_gaussian"),
    ],
)
def test_squashed_and_clipped_actions_train(gaussian, algorithm):
    settings = {**TINY, "algorithm": algorithm, gaussian: True}
    assert_finite(policygrad.train(lambda: Echo(OBSERVATIONS, ACTIONS["box"]), **settings))


class FunctionalEcho(DuckChain):
    """A functional environment with an action space of any kind."""

    def __init__(self, actions):
        super().__init__()
        self.action_space = actions

    def step(self, key, state, action, params):
        return super().step(key, state, (jnp.sum(action) > 0).astype(jnp.int32), params)


@pytest.mark.parametrize(
    "actions",
    params(ACTIONS, {"multidiscrete", "multidiscrete matrix", "multibinary", "box", "one number"}),
)
def test_every_action_space_trains_compiled(actions):
    assert_finite(policygrad.train(FunctionalEcho(actions), **TINY))


@every_kind
@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
def test_vector_environment_passed_in_trains(mode, settings):
    settings = settings | {"total_steps": 96, "num_envs": 2}
    run = policygrad.train(SyncVectorEnv([Chain] * 2, autoreset_mode=mode), **settings)
    assert run.config.num_envs == 2
    assert run.summary["length_mean"] == 3.0
    assert_finite(run)


def test_vector_environment_passed_in_can_be_evaluated_after_training():
    run = policygrad.train(SyncVectorEnv([Chain] * 2), **(TINY | {"num_envs": 2}))
    assert policygrad.evaluate(run, episodes=4).stochastic.length_mean == 3


def test_masked_environment_trains_without_a_forbidden_action():
    run = policygrad.train(Masked, **(TINY | {"total_steps": 128}))
    assert_finite(run)
    assert policygrad.evaluate(run, episodes=10).stochastic.length_mean == 6


class Custom(eqx.Module):
    """A user's own policy."""

    network: eqx.nn.MLP

    def __call__(self, observation):
        return Categorical(self.network(observation))


@pytest.mark.parametrize("env", params({"host": Chain, "compiled": GYMNAX_CHAIN}, {"compiled"}))
def test_custom_policy_trains_and_resumes(env, tmp_path):
    policy = Custom(eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0)))
    run = policygrad.train(env, policy=policy, out=tmp_path / "a", **TINY)
    assert_finite(run)
    assert not np.array_equal(run.policy.network.layers[0].weight, policy.network.layers[0].weight)
    whole = policygrad.train(env, policy=policy, **(TINY | {"total_steps": 128}))
    again = policygrad.resume(tmp_path / "a", env=env, policy=policy, total_steps=128)
    assert_bitwise(whole, again)


@pytest.mark.parametrize(
    ("estimator", "settings"),
    [(estimators.total_return(), PLAIN), (estimators.reward_to_go(), PLAIN)],
    ids=["total return", "reward to go"],
)
def test_estimator_of_whole_episodes_refuses_segments(estimator, settings):
    with pytest.raises(UserError, match="needs whole episodes"):
        policygrad.train(Chain, estimator=estimator, **settings)


def test_settings_by_name_are_checked():
    with pytest.raises(UserError, match="unknown setting 'gae_lamda', did you mean gae_lambda"):
        policygrad.train(Chain, gae_lamda=0.9)
    with pytest.raises(UserError, match="not both"):
        policygrad.train(Chain, config=TrainConfig(), seed=1)


def test_numbers_of_numpy_are_numbers():
    run = policygrad.train(
        Chain,
        **(TINY | {"total_steps": np.int64(64), "seed": np.int32(1), "discount": np.float32(0.9)}),
    )
    assert_finite(run)


def test_run_directory_holds_what_it_should(trained):
    names = {p.name for p in trained.path.iterdir()}
    assert names == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "policy.safetensors",
        "policy.json",
        "checkpoints",
        "learning_curve.png",
    }
    wanted = {
        "env_steps", "return_mean", "length_mean", "kl", "entropy", "explained_variance_before",
        "explained_variance_after", "gradient_norm", "step_size", "episodes", "steps_per_second",
    }  # fmt: skip
    rows = [json.loads(line) for line in (trained.path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == trained.summary["updates"]
    assert all(wanted <= row.keys() for row in rows)
    assert json.loads((trained.path / "config.json").read_text())["config"]["seed"] == 0


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    policygrad.train(
        Chain,
        out=tmp_path / "a",
        checkpoint_seconds=0.0,
        keep_checkpoints=2,
        **(TINY | {"total_steps": 200}),
    )
    assert [p.name for p in RunDirectory(tmp_path / "a").checkpoints()] == [
        "000000000192",
        "000000000224",
    ]


# ----- degenerate batches


@pytest.mark.parametrize("reward", [0.0, 1.0, -1e6])
@every_kind
def test_equal_rewards_give_finite_numbers(reward, settings):
    space = spaces.Box(-1, 1, (2,))
    assert_finite(
        policygrad.train(lambda: Echo(space, spaces.Discrete(2), reward=reward), **settings)
    )


@pytest.mark.parametrize(
    "estimator", params(["reward-to-go", "total-return", "gae"], {"total-return", "gae"})
)
def test_one_episode_gives_finite_numbers(estimator):
    settings = EPISODES | {"batch_episodes": 1, "num_envs": 1, "total_steps": 9}
    assert_finite(policygrad.train(Chain, estimator=estimator, **settings))


@pytest.mark.parametrize("settings", params(KINDS, {"episodes"}))
def test_constant_batch_gives_finite_numbers(settings):
    class Still(Endless):
        def step(self, action):
            self.time = getattr(self, "time", 0) + 1
            return np.zeros(1, np.float32), 1.0, self.time % 4 == 0, False, {}

    assert_finite(policygrad.train(Still, **settings))


@pytest.mark.parametrize("env", [Masked], ids=["discrete"])
def test_mask_without_a_valid_action_is_a_clear_error(env):
    with pytest.raises(NonFiniteError, match=r"no action .*environment 0 at step 1"):
        policygrad.train(lambda: env(masks=((1, 1, 1), (0, 0, 0))), **TINY)


def test_mask_without_a_valid_action_in_one_component_is_a_clear_error_or_finite():
    space = spaces.Dict({"x": spaces.Box(-1, 1, (1,)), "action_mask": spaces.MultiBinary(5)})

    class Stuck(Echo):
        def observe(self):
            return {"x": np.zeros(1, np.float32), "action_mask": np.array([1, 1, 0, 0, 0], np.int8)}

    try:
        run = policygrad.train(lambda: Stuck(space, spaces.MultiDiscrete([2, 3])), **TINY)
    except NonFiniteError as error:
        assert "mask" in str(error)
    else:
        assert_finite(run)


def test_endless_episode_is_a_clear_error_in_training():
    with pytest.raises(PolicygradError, match="did not end within 50 steps; raise max_episode"):
        policygrad.train(Endless, max_episode_steps=50, **EPISODES)
    assert_finite(policygrad.train(Endless, **TINY))  # segments need no end


# ----- what goes wrong


def files_of(path):
    return {p: p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("what", ["nan reward", "inf reward", "nan observation", "inf observation"])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
@every_kind
def test_not_finite_stops_and_names_the_place(what, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    path = tmp_path / "a"
    settings = settings | {"total_steps": 400, "checkpoint_seconds": 0.0}
    kept = {}

    def remember(metrics):
        kept.clear()
        kept.update(files_of(path / "checkpoints"))

    with pytest.raises(NonFiniteError) as caught:
        # the copy's 41st step is the second of an episode
        policygrad.train(lambda: Chained(what), out=path, on_update=remember, **settings)
    message = str(caught.value)
    kind, source = what.split()
    assert kind in message
    assert source in message
    place = "episode 2" if "batch_episodes" in settings else "environment 2"
    assert place in message
    assert "at step 2 of its episode" in message  # which returned it
    newest = RunDirectory(path).newest_checkpoint()
    assert message.endswith(f"{newest}; what led to it: policygrad diagnose {path}")
    assert newest.name not in ("000000000000", "")
    for file, content in kept.items():
        assert not file.exists() or file.read_bytes() == content
    storage.load(newest / "state")


def test_not_finite_successor_of_a_truncated_step_is_an_observation(monkeypatch):
    """The critic reads it, so that it must not pass for a gradient that went wrong by itself."""
    monkeypatch.setattr(Chained, "made", 0)
    with pytest.raises(NonFiniteError) as caught:
        policygrad.train(
            lambda: Chained("nan observation", at=42, terminates=False),
            **(TINY | {"total_steps": 400}),
        )
    assert "observation of environment 2" in str(caught.value)


def test_not_finite_gradient_is_named_and_nothing_is_saved(tmp_path):
    class Explosive(eqx.Module):
        scale: jax.Array

        def __call__(self, observation):
            return Categorical(jnp.array([0.0, 1.0]) * jnp.sqrt(self.scale))

    with pytest.raises(NonFiniteError, match="gradient norm at update 1"):
        policygrad.train(Chain, policy=Explosive(jnp.zeros(())), out=tmp_path / "a", **TINY)
    assert [p.name for p in RunDirectory(tmp_path / "a").checkpoints()] == ["000000000000"]


@every_kind
@pytest.mark.filterwarnings("ignore::UserWarning")  # Gymnasium logs a worker's error as warnings
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_environment_that_raises(processes, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(Chained, "made", 0)
    path = tmp_path / "a"
    with pytest.raises(EnvironmentFailure) as caught:
        policygrad.train(
            "tests.worlds:Chained-v0",
            env_kwargs={"what": "raise", "lane": 0 if processes else 2},
            out=path,
            processes=processes,
            checkpoint_seconds=0.0,
            **(settings | {"total_steps": 400}),
        )
    message = str(caught.value)
    assert "raised ZeroDivisionError at step 2 of its episode" in message
    assert "the pole is not there" in message
    if not processes:
        assert "environment 2" in message
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    newest = RunDirectory(path).newest_checkpoint()
    assert int(newest.name) > 0
    storage.load(newest / "state")


@every_kind
def test_the_newest_policy_outlives_an_environment_that_raises(settings, tmp_path, monkeypatch):
    """No checkpoint is due before it does."""
    monkeypatch.setattr(Chained, "made", 0)
    path, rows = tmp_path / "a", []
    policies = []

    def keep(run):
        rows.append(run["env_steps"])
        policies.append(run.agent)

    with pytest.raises(EnvironmentFailure) as caught:
        policygrad.train(
            lambda: Chained("raise"), out=path, on_update=keep, **(settings | {"total_steps": 400})
        )
    assert [int(p.name) for p in RunDirectory(path).checkpoints()] == [0]
    assert_bitwise(policygrad.load(path), policies[-1])
    summary = RunDirectory(path).read_summary()
    assert summary["env_steps"] == rows[-1] > 0
    assert (summary["stopped_by"], summary["interrupted"]) == ("EnvironmentFailure", True)
    (note,) = caught.value.__notes__
    assert f"after {rows[-1]:,} steps" in note
    assert note.endswith(f"from 0 steps with: policygrad resume {path}")
    assert not (path / "failure.json").exists()


def test_a_mistake_leaves_nothing_behind(tmp_path, monkeypatch):
    path = tmp_path / "a"
    for wrong in (
        {"env": "CartPol-v1"},
        {"env": Chain, "estimator": estimators.total_return(), "critic_epochs": None},
        {"env": lambda: Echo(spaces.Text(3), spaces.Discrete(2))},
    ):
        with pytest.raises(UserError):
            policygrad.train(out=path, **(TINY | wrong))
        assert not path.exists()


@pytest.mark.parametrize("sink", ["tensorboard", "wandb"])
def test_missing_sink_leaves_nothing_behind(tmp_path, monkeypatch, sink):
    import importlib.util

    real = importlib.util.find_spec
    absent = {"tensorboard": "tensorboardX", "wandb": "wandb"}[sink]
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == absent else real(name, *a)
    )
    with pytest.raises(UserError, match="pip install"):
        policygrad.train(Chain, out=tmp_path / "a", **{sink: True}, **TINY)
    assert not (tmp_path / "a").exists()


# ----- Ctrl-C


def start_command(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "policygrad.cli", *arguments]
        if (ROOT / "src/policygrad/cli/__main__.py").exists()
        else [sys.executable, "-c", "from policygrad.cli import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_variables(),
        start_new_session=True,
    )


def wait_for_lines(path, count, process):
    for _ in range(1200):
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail(f"{path} did not get {count} lines")


FLAGS = ["--num-envs", "4", "--batch-steps", "32", "--hidden", "8", "--critic-epochs", "1"]


def interrupt(tmp_path, *flags):
    path = tmp_path / "a"
    process = start_command(
        "train", "CartPole-v1", "--out", str(path), "--total-steps", "100000000", *FLAGS, *flags
    )
    wait_for_lines(path / "metrics.jsonl", 3, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = process.communicate(timeout=60)
    return path, process.returncode, out, err


def assert_saved(path, code, out, err):
    assert code == 130, err
    assert "Traceback" not in err
    assert f"policygrad resume {path}" in err
    rows = RunDirectory(path).read_metrics()
    assert int(RunDirectory(path).newest_checkpoint().name) == rows[-1]["env_steps"]
    summary = json.loads((path / "summary.json").read_text())
    assert summary["interrupted"] is True
    policygrad.load(path)
    total = rows[-1]["env_steps"] + 40
    assert policygrad.resume(path, total_steps=total).summary["resumed_exactly"] is True


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path):
    assert_saved(*interrupt(tmp_path))


@pytest.mark.slow
def test_ctrl_c_with_worker_processes(tmp_path):
    """A terminal's Ctrl-C reaches the workers too."""
    assert_saved(*interrupt(tmp_path, "--processes"))


class Board(gymnasium.Env):
    """Which moves are legal follows from the seed and the position; an illegal one raises."""

    observation_space = gymnasium.spaces.Box(0, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)

    def seen(self):
        self.legal = np.zeros(4, np.int8)
        self.legal[self.np_random.choice(4, 2, replace=False)] = 1
        return np.array([self.moves, self.end], np.float32) / 10, {"action_mask": self.legal}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.moves, self.end = 0, int(self.np_random.integers(3, 40))
        return self.seen()

    def step(self, action):
        if not self.legal[action]:
            raise ValueError(f"illegal move {action}")
        self.moves += 1
        observation, info = self.seen()
        return observation, 1.0, self.moves >= self.end, False, info


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_action_is_repeated_in_an_episode_that_it_was_not_chosen_in(processes, tmp_path):
    settings = TINY | {"batch_steps": 64, "total_steps": 128, "processes": processes}
    more = settings | {"total_steps": 192}
    policygrad.train(Board, out=tmp_path / "a", **settings)
    resumed = policygrad.resume(tmp_path / "a", env=Board, total_steps=192)
    assert resumed.summary["resumed_exactly"]
    assert_bitwise(policygrad.train(Board, **more), resumed)


class BoardsThatWait(gymnasium.vector.SyncVectorEnv):
    """Boards of a vector environment that is not the library's own, with masks in observations."""

    def __init__(self):
        def make():
            return MaskSeen(Board())

        super().__init__([make] * 4, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


class MaskSeen(gymnasium.Wrapper):
    """The mask of actions is a part of the observation."""

    def __init__(self, env):
        super().__init__(env)
        mask = gymnasium.spaces.MultiBinary(4)
        self.observation_space = gymnasium.spaces.Dict(x=env.observation_space, action_mask=mask)

    def reset(self, **kwargs):
        x, info = self.env.reset(**kwargs)
        return {"x": x, "action_mask": info["action_mask"]}, {}

    def step(self, action):
        x, *rest, info = self.env.step(action)
        return {"x": x, "action_mask": info["action_mask"]}, *rest, {}


def test_environments_that_raise_as_they_are_brought_back_begin_fresh_episodes(tmp_path):
    settings = TINY | {"batch_steps": 64, "total_steps": 128}
    policygrad.train(BoardsThatWait(), out=tmp_path / "a", **settings)
    with pytest.warns(UserWarning, match="began fresh episodes"):
        run = policygrad.resume(tmp_path / "a", env=BoardsThatWait(), total_steps=192)
    assert run.summary["resumed_exactly"] is False
    assert run.summary["env_steps"] == 192


def test_ctrl_c_in_python_returns_an_interrupted_run(tmp_path):
    def press(metrics):
        if metrics["update"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    settings = TINY | {"total_steps": 200}
    with pytest.warns(StoppedEarly):
        run = policygrad.train(Chain, out=tmp_path / "a", on_update=press, **settings)
    assert run.interrupted
    assert run.summary["updates"] == 2  # a callback sees each update before the next batch begins
    assert signal.getsignal(signal.SIGINT) is before
    whole = policygrad.train(Chain, **settings)
    assert_bitwise(whole, policygrad.resume(tmp_path / "a", env=Chain))


def test_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), stop_requests() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            if stop.is_set():
                break
            time.sleep(0.01)
        assert stop.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
