"""A policy that a user passes: trained, or refused with what is wrong; never trained in vain."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UserError
from policygrad.core.modules import Carried
from policygrad.maths.distributions import Bernoulli, Categorical, DiagonalGaussian, Joint
from policygrad.policies import Agent, mlp, network_policy
from policygrad.training.own_policy import Spaces, taken
from tests.worlds import TINY, Chain

KEY = jax.random.key(0)
OWN = {k: v for k, v in TINY.items() if k != "hidden"}
BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)
TWO = spaces.Discrete(2)
THERE = Spaces(BOX, TWO)
W = jnp.zeros((2, 2))


class Linear(eqx.Module):
    """W x as what the static field says."""

    w: Any
    give: Any = eqx.field(static=True, default=Categorical)

    def __call__(self, observation):
        return self.give(self.w @ observation)


class Activated(Linear):
    activation: Any = jnp.tanh

    def __call__(self, observation):
        return self.give(self.activation(self.w @ observation))


class Remembers(eqx.Module):
    w: jax.Array
    turns: Any = eqx.field(static=True, default=lambda carry: carry)

    def initial_carry(self):
        return jnp.zeros(2)

    def __call__(self, observation, carry):
        return Categorical(self.w @ observation + carry), self.turns(carry)


@dataclass(frozen=True)
class NoPytree:
    """A distribution that JAX does not know."""

    logits: Any

    def log_prob(self, action):
        return self.logits[action]

    sample = mode = entropy = kl = log_prob


def refused(policy, told, there=THERE):
    with pytest.raises(UserError, match=told):
        taken(policy, there)


# ----- what is taken


@pytest.fixture(scope="module")
def run():
    return policygrad.train(Chain, **TINY)


@pytest.mark.parametrize("of", [lambda run: run, lambda run: run.agent, lambda run: run.policy])
def test_case_13_agents_and_runs_are_taken_by_their_policy(run, of):
    after = policygrad.train(Chain, policy=of(run), **OWN)
    assert after.metrics[-1]["gradient_norm"] > 0
    before, now = (jax.tree.leaves(x.policy.network) for x in (run, after))
    assert not np.array_equal(before[0], now[0])


@pytest.mark.parametrize(
    "policy",
    [
        Linear(W),
        Linear(np.zeros((2, 2))),
        Activated(W),
        Activated(W, activation=jax.nn.gelu),
        Remembers(W),
    ],
    ids=["arrays", "NumPy", "tanh as a leaf", "gelu as a leaf", "memory"],
)
def test_own_policies_with_arrays_are_trained(policy):
    after = policygrad.train(Chain, policy=policy, **OWN)
    assert after.metrics[-1]["gradient_norm"] > 0
    assert not np.array_equal(after.policy.w, policy.w)
    assert after.policy.w.dtype == jnp.asarray(policy.w).dtype


# ----- what is refused

NOTHING = {
    "case 13: a lambda": lambda observation: Categorical(jnp.zeros(2)),
    "a partial": partial(lambda w, x: Categorical(w @ x), W),
    "a compiled function": jax.jit(lambda x: Categorical(W @ x)),
    "a bound method": Linear(W).__call__,
    "whole numbers": Linear(jnp.zeros((2, 2), int)),
    "flags": Linear(jnp.zeros((2, 2), bool)),
    "plain numbers": Linear(3.0),
    "carried alone": Linear(Carried(W)),
    "no entries": Linear(jnp.zeros((2, 0))),
    "no leaf": Linear(None),
}


@pytest.mark.parametrize("policy", NOTHING.values(), ids=NOTHING)
def test_further_policies_without_anything_to_train_are_refused(policy):
    refused(policy, "nothing in it can be trained")


def test_case_13_a_function_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="nothing in it can be trained"):
        policygrad.train(Chain, policy=NOTHING["case 13: a lambda"], out=tmp_path / "run", **OWN)
    assert not (tmp_path / "run").exists()


ELSE = {
    "case 09: a name": ("MlpPolicy", "'MlpPolicy' is no policy"),
    "case 12: a path": ("runs/a", r"policygrad\.load\('runs/a'\)"),
    "a class": (Linear, "pass an instance"),
    "a number": (3, "cannot be called"),
    "a dict": ({"w": W}, "cannot be called"),
    "a network": (mlp(KEY, 2, 2, (4,)), "returned an array of shape .*must return a distribution"),
    "an array": (Linear(W, give=lambda y: y), "returned an array"),
    "a tuple": (Linear(W, give=lambda y: (Categorical(y), 0)), "returned a tuple"),
    "None": (Linear(W, give=lambda y: None), "returned None"),
    "a distribution that is no pytree": (Linear(W, give=NoPytree), "is no pytree"),
    "an exception": (Linear(W, give=lambda y: {}["a"]), "raised KeyError on an observation of Box"),
    "other inputs": (Linear(jnp.zeros((2, 3))), "raised TypeError on an observation of Box"),
    "NaN": (Linear(W * jnp.nan), r"\.w holds NaN or infinity"),
    "half precision": (Linear(W.astype(jnp.bfloat16)), r"\.w holds bfloat16"),
    "complex": (Linear(W * 1j), r"\.w is complex"),
    "objects": (Linear(np.array([None, 1.0])), "is an array of objects"),
    "a part without a hash": (Activated(W, activation={1}), "neither an array nor hashable"),
    "a carry of another shape": (Remembers(W, turns=lambda c: c[:1]), "carry after a step"),
    "a carry of another type": (Remembers(W, turns=lambda c: c.astype(int)), "carry after a step"),
}


@pytest.mark.parametrize(("policy", "told"), ELSE.values(), ids=ELSE)
def test_further_values_that_are_no_policies_are_refused(policy, told):
    refused(policy, told)


def policy_for(observation, action):
    return network_policy(KEY, observation, action, hidden=(4,))


OTHER = {
    "case 12: fewer actions": (Linear(W), Spaces(BOX, spaces.Discrete(3)), "among 2 actions.*3"),
    "more actions": (Linear(jnp.zeros((5, 2))), THERE, "among 5 actions.*2"),
    "a Gaussian for a choice": (
        Linear(W, give=lambda y: DiagonalGaussian(y, y)), THERE, "expected whole numbers",
    ),
    "a choice for a Box": (
        Linear(W), Spaces(BOX, spaces.Box(-1, 1, (1,))), r"int32\[\], expected floats.*\[1\]",
    ),
    "a Box of another shape": (
        Linear(W, give=lambda y: DiagonalGaussian(y, y)),
        Spaces(BOX, spaces.Box(-1, 1, (2, 1))),
        r"float32\[2\], expected floats of the shape \[2, 1\]",
    ),
    "another number of flags": (
        Linear(W, give=Bernoulli), Spaces(BOX, spaces.MultiBinary(3)), "2 flags, and there are 3",
    ),
    "a part too few": (
        Linear(W, give=lambda y: Joint({"a": Categorical(y)})),
        Spaces(BOX, spaces.Dict({"a": TWO, "b": TWO})),
        "without the parts",
    ),
    "a part of another size": (
        Linear(W, give=lambda y: Joint({"a": Categorical(y)})),
        Spaces(BOX, spaces.Dict({"a": spaces.Discrete(4)})),
        "among 2 actions.*4",
    ),
    "a network for other observations": (
        policy_for(spaces.Box(-1, 1, (4,)), TWO), THERE, r"observation space.*\(4,\).*\(2,\)",
    ),
    "a network for other actions": (
        policy_for(BOX, spaces.Discrete(3)), THERE, r"action space is Discrete\(3\).*Discrete\(2\)",
    ),
    "a network that counts from elsewhere": (
        policy_for(BOX, spaces.Discrete(2, start=1)), THERE, "action space is Discrete",
    ),
    "an agent of one's own with other spaces": (
        Agent(Linear(W), BOX, spaces.Discrete(3)), THERE, r"Discrete\(3\), the environment's",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("policy", "there", "told"), OTHER.values(), ids=OTHER)
def test_further_policies_for_other_spaces_are_refused_with_both(policy, there, told):
    refused(policy, told, there)


def test_case_12_training_on_elsewhere_names_both_spaces(run):
    class Wider(Chain):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)

        def observe(self):
            return np.zeros(3, np.float32)

    with pytest.raises(UserError, match=r"\(2,\).*environment's.*\(3,\)"):
        policygrad.train(Wider, policy=run, **OWN)


def test_an_exception_of_the_policy_is_the_cause():
    with pytest.raises(UserError) as caught:
        taken(ELSE["an exception"][0], THERE)
    assert isinstance(caught.value.__cause__, KeyError)
