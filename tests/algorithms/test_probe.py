"""Whether an optimiser descends is found by asking it, whatever it is made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from policygrad.algorithms import SGD, Adam, RMSprop
from policygrad.algorithms.optimisers import transformation
from policygrad.algorithms.probe import first_steps, same_steps, takes_own_steps
from policygrad.algorithms.step_size import size_of_own_steps, start_step_size, step_along
from policygrad.core.errors import UserError


class Parameters(NamedTuple):
    weight: jax.Array
    bias: jax.Array
    carried: None = None


PARAMETERS = Parameters(jnp.ones((4, 3)), jnp.ones(3))
LABELS = Parameters("a", "b")  # pyright: ignore[reportArgumentType]
WARM_UP = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)
LATE = optax.join_schedules([lambda _: 0.0, lambda _: 1e-3], [40])  # zero for forty steps
contrib = optax.contrib

DESCEND = {
    "adam": optax.adam(1e-3),
    "adamw": optax.adamw(1e-3),
    "sgd": optax.sgd(1e-2),
    "sgd with momentum": optax.sgd(1e-2, momentum=0.9, nesterov=True),
    "lion": optax.lion(1e-4),
    "adabelief": optax.adabelief(1e-3),
    "rmsprop": optax.rmsprop(1e-3),
    "lamb": optax.lamb(1e-3),
    "lars": optax.lars(1e-3),
    "adafactor": optax.adafactor(1e-3),
    "yogi": optax.yogi(1e-3),
    "a tiny learning rate": optax.adam(1e-12),
    "chain(clip, adam)": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3)),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=WARM_UP),
    "warm-up from 0": optax.adam(WARM_UP),
    "zero for 40 steps": optax.sgd(LATE),
    "multi_transform": optax.multi_transform({"a": optax.adam(1e-3), "b": optax.sgd(1.0)}, LABELS),
    "a frozen part": optax.multi_transform(
        {"a": optax.adam(1e-3), "b": optax.set_to_zero()}, LABELS
    ),
    "apply_if_finite": optax.apply_if_finite(optax.adam(1e-3), 3),
    "MultiSteps": optax.MultiSteps(optax.adam(1e-3), 16),
    "decay of some weights": optax.chain(
        optax.masked(optax.add_decayed_weights(0.1), Parameters(True, False)),  # pyright: ignore
        optax.sgd(0.1),
    ),
    "centralised": optax.chain(optax.centralize(), optax.adam(1e-3)),
    "scale(-1)": optax.chain(optax.scale_by_adam(), optax.scale(-1.0)),
    "schedule_free": contrib.schedule_free_adamw(1e-3),
    "prodigy": contrib.prodigy(),
    "muon": contrib.muon(1e-3),
    "mechanize": contrib.mechanize(optax.adam(1e-3)),
}
DIRECTIONS = {
    "scale_by_adam": optax.scale_by_adam(),
    "identity": optax.identity(),
    "clip": optax.clip_by_global_norm(1.0),
    "chain": optax.chain(optax.clip(1.0), optax.scale_by_lion()),
    "trace": optax.trace(0.9),
    "ema": optax.ema(0.9),
    "scale_by_schedule": optax.scale_by_schedule(WARM_UP),
    "turned": optax.chain(optax.adam(1.0), optax.scale(-1.0)),
}


@pytest.mark.parametrize("name", [*DESCEND, *DIRECTIONS])
def test_case_02_the_sign_of_an_optimiser_is_found_by_asking_it(name):
    assert takes_own_steps((DESCEND | DIRECTIONS)[name], PARAMETERS) is (name in DESCEND)


REFUSED = {
    "set_to_zero": (optax.set_to_zero(), "updates are zero in each of its first 512 steps"),
    "a learning rate of 0": (optax.adam(0.0), "the policy would not be trained"),
    "not a number": (optax.adam(float("nan")), "updates are not finite"),
    "masked alone": (
        optax.masked(optax.adam(1e-3), Parameters(True, False)),  # pyright: ignore
        "moves weight against the gradient and bias along it; optax.masked hands on",
    ),
    "two kinds": (
        optax.multi_transform({"a": optax.scale_by_adam(), "b": optax.adam(1e-3)}, LABELS),
        "moves bias against the gradient and weight along it",
    ),
    "needs a loss": (contrib.reduce_on_plateau(), "raised TypeError: .*'value'"),
    "needs a function": (optax.lbfgs(), "without a loss or other arguments"),
    "of other parameters": (
        optax.multi_transform({"a": optax.sgd(1.0)}, {"w": "a"}),
        "cannot be used for this policy",
    ),
    "lookahead": (
        optax.lookahead(optax.sgd(0.1), 5, 0.5),
        "reads 'fast' of them, which a Parameters does not have.*LookaheadParams.*not supported",
    ),
    "reads a field": (
        optax.GradientTransformation(lambda p: p.slow, lambda g, s, p=None: (g, s)),
        "parameters of a structure of its own: it reads 'slow'",
    ),
    "reads a key": (
        optax.GradientTransformation(lambda p: p["fast"], lambda g, s, p=None: (g, s)),
        "parameters of a structure of its own is not supported",
    ),
    "returns a list": (
        optax.GradientTransformation(lambda p: (), lambda g, s, p=None: (jax.tree.leaves(g), s)),
        "of another structure or other shapes than the gradient",
    ),
    "returns other shapes": (
        optax.GradientTransformation(
            lambda p: (), lambda g, s, p=None: (jax.tree.map(jnp.sum, g), s)
        ),
        "of another structure or other shapes than the gradient",
    ),
    "a bool": (True, "optimiser=True is no optimiser; pass an optax"),
    "a number": (1e-3, "optimiser=0.001 is no optimiser"),
    "a name in a record": ("adam", "optimiser='adam' is no optimiser"),
    "None in a record": (None, "optimiser=None is no optimiser"),
    "a function": (optax.adam, "optimiser=adam is a function that makes an optimiser; call it"),
    "a schedule": (optax.linear_schedule(1.0, 0.0, 3), "is a function that makes an optimiser"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_further_optimisers_that_cannot_train_are_refused(name):
    optimiser, words = REFUSED[name]
    with pytest.raises(UserError, match=words):
        takes_own_steps(optimiser, PARAMETERS)


def test_records_and_policies_without_parameters_are_not_asked():
    for record in (Adam(), RMSprop(), SGD()):
        assert not takes_own_steps(record, PARAMETERS)
    assert not takes_own_steps(optax.set_to_zero(), Parameters(None, None))  # pyright: ignore


def test_asking_leaves_no_state_and_works_inside_a_program():
    optimiser = optax.adam(WARM_UP)

    @jax.jit
    def start(parameters):
        return start_step_size(optimiser, 0.1, parameters)

    for state in (start(PARAMETERS), start_step_size(optimiser, 0.1, PARAMETERS)):
        assert state.step_size is None
        assert all(not np.any(x) for x in jax.tree.leaves(state.optimiser))
    assert float(start_step_size(optax.identity(), 0.1, PARAMETERS).step_size) == np.float32(0.1)


def test_a_step_of_its_own_is_optax_step_as_it_is():
    gradient = Parameters(jnp.full((4, 3), 2.0), jnp.arange(3.0))
    for optimiser in (optax.sgd(0.25), optax.adam(1e-2), SGD()):
        made = transformation(optimiser)
        expected, _ = made.update(gradient, made.init(PARAMETERS), PARAMETERS)
        size = jnp.float32(0.25) if optimiser == SGD() else None
        step, _ = step_along(optimiser, gradient, made.init(PARAMETERS), PARAMETERS, size)
        if size is not None:
            expected = jax.tree.map(lambda g: -0.25 * g, gradient)
        for a, b in zip(jax.tree.leaves(step), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_logged_step_size():
    def logged(optimiser, steps, gradients):
        state = optimiser.init(PARAMETERS)
        return float(size_of_own_steps(state, jnp.array(steps), jnp.array(gradients)))

    adam = optax.inject_hyperparams(optax.adam)(learning_rate=0.125)
    assert logged(adam, [9.0], [1.0]) == 0.125
    assert logged(optax.chain(optax.clip(1.0), adam), [9.0], [1.0]) == 0.125
    two = optax.chain(adam, adam)  # no one learning rate
    assert logged(two, [9.0], [3.0]) == 3.0
    assert logged(optax.sgd(0.1), [1.0, 3.0], [2.0, 6.0]) == 0.5
    assert logged(optax.sgd(0.1), [0.0], [0.0]) == 0.0


STEPS = {
    "the rate": (optax.adam(1e-3), optax.adam(1.01e-3)),
    "b1": (optax.adam(1e-3), optax.adam(1e-3, b1=0.91)),
    "b2": (optax.adam(1e-3), optax.adam(1e-3, b2=0.99)),
    "epsilon": (optax.adam(1e-3), optax.adam(1e-3, eps=1e-5)),
    "momentum": (optax.sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.95)),
    "decay of weights": (optax.adamw(1e-3), optax.adamw(1e-3, weight_decay=2e-4)),
    "a limit of lengths": (
        optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3)),
        optax.chain(optax.clip_by_global_norm(0.6), optax.adam(1e-3)),
    ),
    "a schedule": (
        optax.sgd(optax.linear_schedule(1e-3, 0.0, 1000)),
        optax.sgd(optax.linear_schedule(1e-3, 0.0, 2000)),
    ),
    "exchanged": (
        optax.multi_transform({"a": optax.sgd(1.0), "b": optax.sgd(2.0)}, LABELS),
        optax.multi_transform({"a": optax.sgd(2.0), "b": optax.sgd(1.0)}, LABELS),
    ),
    "gathered": (optax.MultiSteps(optax.adam(1e-3), 4), optax.MultiSteps(optax.adam(1e-3), 8)),
    "a direction": (optax.scale_by_adam(), optax.scale_by_adam(b1=0.8)),
}


@pytest.mark.parametrize("name", list(STEPS))
def test_further_other_numbers_of_an_optimiser_are_seen_in_its_first_steps(name):
    was, now = (first_steps(optimiser, PARAMETERS) for optimiser in STEPS[name])
    assert len(was) == 8
    assert np.all(np.isfinite(was))
    assert same_steps(was, was)
    assert same_steps(was, [x * (1 + 1e-5) for x in was])
    assert not same_steps(was, now)


def test_first_steps_are_the_same_in_another_precision():
    double = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMETERS)
    with jax.enable_x64(True):
        found = first_steps(optax.adam(1e-3), double)
    assert same_steps(found, first_steps(optax.adam(1e-3), PARAMETERS))
    assert first_steps(optax.adam(1e-3), ()) == ()
