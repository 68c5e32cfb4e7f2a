"""What is passed to `resume` and `load` again is compared with what the run was trained with."""

import json
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import policygrad
from policygrad.core.describing import is_of_class
from policygrad.core.errors import RunError, UserError
from policygrad.maths.distributions import Categorical
from policygrad.runs import storage
from policygrad.training.checkpoint import owner_of
from tests.slow import slow
from tests.worlds import DUCK, PLAIN, TINY, Chain

LONGER = {"total_steps": 96}


class A(eqx.Module):
    weight: jax.Array
    activation: Callable = eqx.field(static=True, default=jax.nn.relu)
    scale: float = eqx.field(static=True, default=1.0)
    log_std: jax.Array = eqx.field(default_factory=lambda: jnp.zeros(()))

    def __call__(self, observation):
        return Categorical(self.scale * self.activation(self.weight @ observation))


class B(A):
    def __call__(self, observation):
        return Categorical(-self.weight @ observation)


WEIGHT = jnp.zeros((2, 2))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A run of a policy of the class A."""
    path = tmp_path_factory.mktemp("own") / "a"
    policygrad.train(DUCK, policy=A(WEIGHT), out=path, **TINY)
    return path


def optimised(optimiser, path, **more):
    policygrad.train(DUCK, optimiser=optimiser, out=path, **TINY | more)
    return path


def warned(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in found]


# ----- the class of a policy


def test_a_policy_of_another_class_is_refused_by_both_names(own):
    of_a, of_b = (f"{__name__}.{name}" for name in "AB")
    for call in (
        lambda: policygrad.load(own, like=B(WEIGHT)),
        lambda: policygrad.resume(own, env=DUCK, policy=B(WEIGHT), **LONGER),
    ):
        with pytest.raises(RunError) as error:
            call()
        message = str(error.value)
        assert f"the class {of_a}, got one of {of_b}" in message
        assert f"B.__module__, B.__qualname__ = {__name__!r}, 'A'" in message
        assert "can be read" not in message


def test_a_class_that_was_renamed_is_read_under_its_name_of_then(own):
    class Renamed(A):
        pass

    with pytest.raises(RunError, match="moved or renamed"):
        policygrad.load(own, like=Renamed(WEIGHT))
    Renamed.__module__, Renamed.__qualname__ = __name__, "A"
    assert isinstance(policygrad.load(own, like=Renamed(WEIGHT)).policy, Renamed)


@pytest.mark.parametrize(
    ("module", "name", "same"),
    [
        (__name__, f"{__name__}.A", True),
        (__name__, "__main__.A", True),
        (__name__, "__mp_main__.A", True),
        ("__main__", f"{__name__}.A", True),
        ("__main__", "__mp_main__.A", True),
        (__name__, "elsewhere.A", False),
        (__name__, f"{__name__}.B", False),
        ("__main__", "elsewhere.BA", False),
    ],
)
def test_further_a_class_of_a_script_is_found_under_both_its_names(module, name, same, monkeypatch):
    monkeypatch.setattr(A, "__module__", module)
    assert is_of_class(A(WEIGHT), name) is same


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (A(WEIGHT, activation=jnp.tanh), ["activation was relu and is tanh"]),
        (A(WEIGHT, scale=2.0), ["scale was 1.0 and is 2.0"]),
        (A(WEIGHT, jnp.tanh, 2.0), ["activation was relu and is tanh", "scale was 1.0 and is 2"]),
        (A(WEIGHT), []),
        (A(WEIGHT + 1), []),
        (A(WEIGHT, log_std=jnp.ones(())), []),  # an array, which is read from the file
    ],
)
def test_other_settings_of_a_policy_are_said(own, policy, words):
    told = warned(lambda: policygrad.load(own, like=policy))
    assert len(told) == bool(words)
    for word in words:
        assert word in told[0]


def test_other_settings_of_a_policy_are_said_at_resume(own, tmp_path):
    import shutil

    shutil.copytree(own, tmp_path / "a")
    policy = A(WEIGHT, activation=jnp.tanh)
    told = warned(lambda: policygrad.resume(tmp_path / "a", env=DUCK, policy=policy, **LONGER))
    assert [t for t in told if "activation was relu and is tanh" in t]


def test_a_policy_of_an_earlier_version_tells_no_settings(own, tmp_path):
    arrays, data = storage.load(own / "policy")
    keys = ("values", "format", "sha256", "checksum")
    storage.save(tmp_path / "policy", arrays, {k: v for k, v in data.items() if k not in keys})
    assert not warned(
        lambda: policygrad.load(tmp_path / "policy.json", like=A(WEIGHT, activation=jnp.tanh))
    )


# ----- the steps of an optimiser


@pytest.mark.slow
@pytest.mark.parametrize(
    ("was", "now", "differs"),
    [
        (optax.adam(1e-3), optax.adam(1e-3), False),
        pytest.param(optax.adam(1e-3), optax.adam(3e-3), True, marks=slow),
        (
            optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
            optax.inject_hyperparams(optax.adam)(learning_rate=1e-4),
            True,
        ),
    ],
    ids=["same", "rate", "injected"],
)
def test_an_optimiser_of_other_numbers_is_said_at_resume(tmp_path, was, now, differs):
    path = optimised(was, tmp_path / "a")
    told = warned(lambda: policygrad.resume(path, env=DUCK, optimiser=now, **LONGER))
    assert any("takes other steps than the run's did" in t for t in told) is differs
    again = warned(lambda: policygrad.resume(path, env=DUCK, optimiser=now, total_steps=128))
    assert not any("takes other steps" in t for t in again)


@pytest.mark.slow
def test_an_optimiser_in_a_record_is_compared_too_and_an_earlier_run_is_not(tmp_path):
    path = tmp_path / "a"
    record = policygrad.algorithms.Vanilla(optimiser=optax.sgd(0.1))
    policygrad.train(DUCK, algorithm=record, out=path, **TINY)
    config = json.loads((path / "config.json").read_text())
    assert len(config["optimiser_steps"]) == 8
    told = warned(lambda: policygrad.resume(path, env=DUCK, optimiser=optax.sgd(0.2), **LONGER))
    assert any("takes other steps" in t for t in told)
    config = {k: v for k, v in config.items() if k not in ("optimiser_steps", "checksum")}
    (path / "config.json").write_text(json.dumps(storage.signed(config)))
    told = warned(
        lambda: policygrad.resume(path, env=DUCK, optimiser=optax.sgd(0.1), total_steps=128)
    )
    assert not any("takes other steps" in t for t in told)


def test_an_optimiser_by_name_has_no_steps_of_its_own(trained):
    assert json.loads((trained.path / "config.json").read_text())["optimiser_steps"] is None


# ----- another structure


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (optax.sgd(0.1), optax.adam(1e-3)),
        (optax.adam(1e-3), optax.sgd(0.1)),
        pytest.param(optax.adam(1e-3), optax.scale_by_adam(), marks=slow),
    ],
    ids=["lacks", "holds", "step size"],
)
def test_an_optimiser_of_another_structure_is_named(tmp_path, was, now):
    path = optimised(was, tmp_path / "a", checkpoint_seconds=0.0)
    with pytest.raises(RunError, match="saved from another optimiser; resume the run with") as e:
        policygrad.resume(path, env=DUCK, optimiser=now, **LONGER)
    assert "can be read" not in str(e.value)


def test_a_policy_of_another_structure_is_named(own):
    other = A(WEIGHT, log_std=jnp.zeros(3))
    with pytest.raises(RunError, match=r"policy/log_std has the shape \[\].*another policy or ne"):
        policygrad.resume(own, env=DUCK, policy=other, **LONGER)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("policy/network/0", "policy or network"),
        ("state/improver/optimiser/0/count", "optimiser"),
        ("state/improver/step_size", "optimiser"),
        ("state/improver/moments", "algorithm"),
        ("state/estimator/critic/network/0", "critic"),
        ("state/estimator/baseline/value", "baseline"),
        ("environments/lanes/log", "environment"),
        ("episodes/running", "environment"),
        ("infos/sums", "environment"),
        ("state/reward_scale/running", "environment"),
    ],
)
def test_further_what_an_array_of_a_checkpoint_is_of(name, owner):
    assert owner_of(name) == owner
    with pytest.raises(RunError) as error:
        like, saved = np.zeros(1, np.float32), {"x": np.zeros(1, np.int64)}
        storage.from_arrays({"x": like}, {"a/x": saved["x"]}, "a", "f", owner=lambda _: owner)  # pyright: ignore
    assert f"the {owner} that it was saved from computes in other types" in str(error.value)
    assert "another" not in str(error.value)


def test_of_a_damaged_checkpoint_the_others_are_still_named(tmp_path):
    path = optimised(optax.adam(1e-3), tmp_path / "a", checkpoint_seconds=0.0)
    newest = sorted((path / "checkpoints").iterdir())[-1]
    (newest / "state.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="can be read"):
        policygrad.resume(path, env=DUCK, optimiser=optax.adam(1e-3), **LONGER)


# ----- where a run begins


@pytest.fixture(scope="module")
def argued(tmp_path_factory):
    """A run in an environment with arguments."""
    path = tmp_path_factory.mktemp("argued") / "a"
    policygrad.train("CartPole-v1", env_kwargs={"max_episode_steps": 20}, out=path, **TINY)
    return path


SHORT = PLAIN | {"total_steps": 32}
NONE, TWENTY = {}, {"max_episode_steps": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "kwargs", "told"),
    [
        ({"env": "CartPole-v1"}, TWENTY, False),
        ({}, TWENTY, False),
        ({"env": None}, TWENTY, False),
        ({"env": "CartPole-v1", "env_kwargs": {}}, NONE, False),
        ({"env_kwargs": {"max_episode_steps": 7}}, {"max_episode_steps": 7}, False),
        ({"env": "gymnax/CartPole-v1"}, NONE, True),
        ({"env": "gymnax/CartPole-v1", "env_kwargs": {}}, NONE, False),
    ],
)
def test_arguments_of_the_environment_are_those_of_the_run_to_begin_from(
    argued, tmp_path, given, kwargs, told
):
    found = warned(lambda: policygrad.train(start=argued, out=tmp_path / "b", **given, **SHORT))
    assert any("are not passed to gymnax/CartPole-v1" in t for t in found) is told
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["env_kwargs"] == kwargs
    assert config["env"] == (given.get("env") or "CartPole-v1")


def test_without_an_environment_and_a_run_there_is_none(own, tmp_path):
    with pytest.raises(UserError, match="no environment to train in; name one"):
        policygrad.train(**TINY)
    with pytest.raises(UserError, match="no environment to train in; name one"):
        policygrad.train_seeds(**TINY)
    trained = policygrad.train(Chain, out=tmp_path / "a", **TINY)
    with pytest.raises(UserError, match=r"in one that was passed as an object.*pass env="):
        policygrad.train(start=trained, **SHORT)


@pytest.mark.parametrize(
    ("name", "value"),
    [("env_kwargs", {"a": 1}), ("out", "b"), ("start", "c"), ("config", policygrad.TrainConfig())],
)
def test_what_a_resumed_run_keeps_is_said(argued, name, value):
    with pytest.raises(UserError, match=rf"a resumed run keeps .* leave {name}= out"):
        policygrad.resume(argued, env="CartPole-v1", total_steps=96, **{name: value})
