"""Rows that are no steps hold what is no observation: zeros, whose mask permits nothing.

A policy may give NaN for them. Gradients are the sums over the steps of each episode by itself.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad.algorithms import PPO, gradient_of_mean
from policygrad.algorithms.policy_change import fisher_product
from policygrad.core.modules import split
from policygrad.gradients import scores
from policygrad.maths.distributions import Categorical
from policygrad.policies import meeting
from tests.records import random_episodes, random_segments

LENGTHS = (3, 5, 1, 4)
N = len(LENGTHS)


class Permitted(eqx.Module):
    """Adds the logarithm of the mask: where nothing is permitted, every probability is NaN."""

    weight: jax.Array

    def __call__(self, seen):
        return Categorical(self.weight @ seen["x"] + jnp.log(seen["mask"]))


class Remembering(Permitted):
    """The same, by the sum of what it saw in its episode."""

    def initial_carry(self):
        return jnp.zeros(2)

    def __call__(self, seen, carry):
        carry = carry + seen["x"]
        return super().__call__({"x": carry, "mask": seen["mask"]}), carry


def masked(record):
    """The record with masks of three actions and permitted actions; zeros where it is no step."""
    rng, valid = np.random.default_rng(3), np.asarray(record.valid)
    actions = rng.integers(3, size=valid.shape)
    mask = (rng.random((*valid.shape, 3)) < 0.5) | (np.arange(3) == actions[..., None])
    seen = {"x": np.asarray(record.observations, np.float32), "mask": mask.astype(np.float32)}
    seen, actions = jax.tree.map(
        lambda x: np.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, x.dtype.type(0)),
        (seen, actions),
    )
    return replace(record, observations=seen, actions=actions)


def by_steps(weight, features, record):
    """p and z of every step, `[T, N, 3]` and `[T, N, 3, 2]`; zero where it is none."""
    x, mask = features.astype(float), np.asarray(record.observations["mask"], float)
    p = mask * np.exp(x @ weight.T)
    p /= np.where(record.valid, p.sum(axis=-1), 1)[..., None]
    taken = np.eye(3)[record.actions] - p
    return p, np.where(record.valid[..., None, None], taken[..., None] * x[..., None, :], 0)


def expected(weight, features, record, psi):
    p, z = by_steps(weight, features, record)
    each, steps, x = np.einsum("tn,tnij->nij", psi, z), record.valid.sum(), features
    log_p = np.log(np.where(p > 0, p, 1))
    entropy = -(p * log_p).sum(axis=-1, keepdims=True)
    moved = x @ np.sin(weight).T  # the logits, along the vector of the Fisher product
    curved = p * (moved - (p * moved).sum(axis=-1, keepdims=True))
    return {
        "batch": each.mean(axis=0),
        "episodes": each,
        "columns": (each.mean(axis=0), (each**2).sum() / N),
        "squares": (z**2).sum(axis=(2, 3)),
        "second form": each.mean(axis=0),  # of rewards whose sums to go are the weights
        "products": np.einsum("tnij,ij->tn", z, np.sin(weight)),
        "ppo": -each.sum(axis=0),  # at the policy that acted
        "entropy": np.einsum("tni,tnj->ij", -p * (log_p + entropy), x) / steps,
        "fisher": np.einsum("tni,tnj->ij", curved, x) / steps,
    }


def found(policy, record, psi, rewards):
    differentiated, rest = split(policy)
    vector = jax.tree.map(jnp.sin, differentiated)
    vectors = jax.tree.map(lambda x: jnp.broadcast_to(x, (N, *x.shape)), vector)
    acted = scores.log_probs_of(policy, record)
    rows = meeting.units(policy, record, record.actions, acted, psi)
    filled = meeting.without_padding(rows)
    return {
        "batch": scores.policy_gradient(policy, record, psi),
        "episodes": scores.episode_gradients(policy, record, psi),
        "columns": scores.column_moments(policy, record, psi),
        "squares": scores.score_squares(policy, record),
        "second form": scores.reward_indexed_gradient(policy, record, rewards),
        "products": scores.score_products(policy, record, vectors),
        "ppo": jax.grad(lambda d: PPO().loss(rest, None, d, filled(rows)))(differentiated),
        "entropy": gradient_of_mean(lambda p: p.entropy(), policy, record),
        "fisher": fisher_product(policy, vector, record),
    }


def compare(ours, theirs):
    for name, numbers in theirs.items():
        for a, b in zip(jax.tree.leaves(ours[name]), jax.tree.leaves(numbers), strict=True):
            assert np.abs(b).max() > 1e-3
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=name)


def given(kind):
    record = random_episodes(lengths=LENGTHS)
    record = masked(replace(record, valid=np.asarray(record.valid)))
    features = record.observations["x"]
    if kind is Remembering:
        features = np.cumsum(features, axis=0)
        record = replace(record, carry=np.zeros((1, N, 2), np.float32))
    policy = kind(jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)), jnp.float32))
    psi = np.where(record.valid, 1 + np.asarray(record.rewards), 0).astype(np.float32)
    rewards = psi - np.concatenate([psi[1:], np.zeros_like(psi[:1])])
    return policy, features, record, psi, rewards


@pytest.mark.parametrize(
    ("kind", "rows"), [(Permitted, 2), (Permitted, 256), (Remembering, 256)],
    ids=["some chunks without a step", "at once", "memory"],
)  # fmt: skip
def test_gradients_are_those_of_the_steps_alone(kind, rows, monkeypatch):
    monkeypatch.setattr(meeting, "chunk_rows", lambda *_: rows)
    policy, features, record, psi, rewards = given(kind)
    weight = np.asarray(policy.weight, float)
    ours = jax.jit(lambda *x: found(*x))(policy, record, psi, rewards)
    compare(ours, expected(weight, features, record, psi))


def test_rows_that_fill_a_chunk_and_columns_without_an_episode_are_no_steps_either(monkeypatch):
    monkeypatch.setattr(meeting, "chunk_rows", lambda *_: 8)
    policy, features, record, psi, rewards = given(Permitted)
    theirs = expected(np.asarray(policy.weight, float), features, record, psi)
    wider, psi, rewards = jax.tree.map(
        lambda x: np.pad(x, [(0, 0), (0, 1)] + [(0, 0)] * (np.ndim(x) - 2)), (record, psi, rewards)
    )
    wider = replace(wider, mostly_padding=True)

    @jax.jit
    def ours(policy, record, psi, rewards):
        return {
            "batch": scores.policy_gradient(policy, record, psi),
            "second form": scores.reward_indexed_gradient(policy, record, rewards),
            "columns": scores.column_moments(policy, record, psi),
            "entropy": gradient_of_mean(lambda p: p.entropy(), policy, record),
        }

    names = "batch", "second form", "columns", "entropy"
    compare(ours(policy, wider, psi, rewards), {name: theirs[name] for name in names})


def test_a_row_on_which_an_environment_resets_may_permit_nothing():
    record = random_segments(steps=6)
    valid = np.ones(record.rewards.shape, bool)
    valid[0, 0] = valid[3, 1:] = False
    record = masked(replace(record, valid=valid))
    policy, psi = given(Permitted)[0], np.asarray(record.rewards, np.float32)
    ours = jax.jit(scores.policy_gradient)(policy, record, psi).weight
    _, z = by_steps(np.asarray(policy.weight, float), record.observations["x"], record)
    np.testing.assert_allclose(
        ours, np.einsum("tn,tnij->ij", psi, z) / valid.sum(), rtol=1e-4, atol=1e-6
    )
