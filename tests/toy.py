"""A small finite-horizon MDP in plain NumPy, small enough to enumerate every trajectory of it.

Its objective and its values come from forward and backward sums over states, its gradient from a
complex step, so that nothing here shares code with what is tested. Arrays are made inside the
caller's precision: enter `jax.enable_x64(True)` first.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.trajectories import Trajectories
from policygrad.maths.distributions import Categorical


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Softmax:
    """A tabular policy: one logit for every state and action."""

    logits: jax.Array

    def __call__(self, state):
        return Categorical(self.logits[state])


class Toy(NamedTuple):
    """S states, A actions; `transitions`, `rewards`: [S, A, S+1], where successor S is the end."""

    start: np.ndarray
    transitions: np.ndarray
    rewards: np.ndarray
    horizon: int

    @classmethod
    def random(cls, horizon, states=2, actions=2, seed=0):
        rng = np.random.default_rng(seed)
        shape = states, actions, states + 1
        return cls(
            rng.dirichlet(np.ones(states)),
            rng.dirichlet(np.ones(states + 1), size=(states, actions)),
            rng.normal(1.0, 2.0, shape),
            horizon,
        )


def random_logits(toy, seed=1):
    return np.random.default_rng(seed).normal(size=toy.transitions.shape[:2])


def softmax(logits):
    e = np.exp(logits)
    return e / e.sum(axis=-1, keepdims=True)


def objective(toy, logits, discount):
    """J = Σ_t γ^t Σ_s p_t(s) Σ_a π(a|s) Σ_s' P r, forwards in time."""
    pi, p, total = softmax(logits), toy.start, 0.0
    for t in range(toy.horizon):
        joint = p[:, None, None] * pi[:, :, None] * toy.transitions
        total = total + discount**t * (joint * toy.rewards).sum()
        p = joint.sum(axis=(0, 1))[:-1]
    return total


def true_gradient(toy, logits, discount):
    """∇J by a complex step, exact to rounding: J(θ + ih) has imaginary part h ∂J."""
    gradient = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        step = np.zeros_like(logits, complex)
        step[index] = 1e-30j
        gradient[index] = objective(toy, logits + step, discount).imag / 1e-30
    return gradient


def exact_values(toy, logits, discount):
    """V_t(s), `[horizon + 1, S]`, backwards in time; the last row, at the horizon, is zero."""
    pi = softmax(logits)
    values = np.zeros((toy.horizon + 1, len(toy.start)))
    for t in reversed(range(toy.horizon)):
        ahead = np.append(values[t + 1], 0.0)
        values[t] = (pi[:, :, None] * toy.transitions * (toy.rewards + discount * ahead)).sum(
            (1, 2)
        )
    return values


def paths(toy, logits):
    """Every trajectory: (probability, [(state, action, successor), …])."""
    pi, end = softmax(logits), len(toy.start)
    unfinished = [(p, s, []) for s, p in enumerate(toy.start)]
    for _ in range(toy.horizon):
        longer = []
        for p, s, path in unfinished:
            if s == end:
                yield p, path
                continue
            for a, following in np.ndindex(*toy.transitions.shape[1:]):
                likelihood = p * pi[s, a] * toy.transitions[s, a, following]
                longer.append((likelihood, following, [*path, (s, a, following)]))
        unfinished = longer
    for p, _, path in unfinished:
        yield p, path


def enumerate_trajectories(toy, logits):
    """Every trajectory as a column of one record, and the probability of each column.

    A path that ends in state S is terminated; one that reaches the horizon is truncated.
    """
    probabilities, all_paths = zip(*paths(toy, logits), strict=True)
    shape = toy.horizon, len(all_paths)
    states, actions = np.zeros(shape, int), np.zeros(shape, int)
    rewards = np.zeros(shape)
    terminated, truncated, valid = np.zeros((3, *shape), bool)
    final = np.zeros((1, len(all_paths)), int)
    for n, path in enumerate(all_paths):
        for t, (s, a, following) in enumerate(path):
            states[t, n], actions[t, n], valid[t, n] = s, a, True
            rewards[t, n] = toy.rewards[s, a, following]
            terminated[t, n] = following == len(toy.start)
        if not terminated[t, n]:
            truncated[t, n], final[0, n] = True, following
    record = Trajectories(
        observations=jnp.asarray(states),
        actions=jnp.asarray(actions),
        rewards=jnp.asarray(rewards),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        valid=jnp.asarray(valid),
        times=jnp.asarray(np.where(valid, np.arange(toy.horizon)[:, None], 0)),
        log_probs=jnp.asarray(np.where(valid, np.log(softmax(logits)[states, actions]), 0.0)),
        cut_observations=jnp.asarray(final),
        cut_times=jnp.full(final.shape, toy.horizon),
        whole_episodes=True,
    )
    return record, np.array(probabilities)
