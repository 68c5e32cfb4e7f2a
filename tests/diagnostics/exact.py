"""The split by step of a finite MDP, by recursion over dense tables."""

import numpy as np


def exact_split(task, b):
    """Σ_τ, Σ_a, Σ_s of rewards to go (γ = 1) less b, a step drawn from those that are visited."""
    mdp = task.mdp
    probabilities, rewards = dense(mdp)
    table = task.policy.tabulate(mdp)
    pi, z = np.asarray(table.probabilities), np.asarray(table.scores.z)
    alive = np.asarray(mdp.edges.alive)
    z2, horizon = (z**2).sum(-1), mdp.horizon or 16
    h, h2, q, q2 = np.zeros(mdp.states), np.zeros(mdp.states), [], []
    for _ in range(horizon):
        q.append((probabilities * (rewards + h * alive)).sum(-1))
        second = rewards**2 + 2 * rewards * (h * alive) + h2 * alive
        q2.append((probabilities * second).sum(-1))
        h, h2 = (pi * q[-1]).sum(-1), (pi * q2[-1]).sum(-1)
    p = np.asarray(mdp.edges.initial) * alive
    steps = trajectory = action = squares = 0.0
    mean = np.zeros(z.shape[-1])
    for t in range(horizon):
        gain, second = q[horizon - 1 - t], q2[horizon - 1 - t]
        steps += p.sum()
        trajectory += (p[:, None] * pi * z2 * (second - gain**2)).sum()
        here = np.einsum("sa,sad->sd", pi * (gain - b[:, None]), z)
        given_state = (p * (here**2).sum(-1)).sum()
        action += (p[:, None] * pi * z2 * (gain - b[:, None]) ** 2).sum() - given_state
        squares += given_state
        mean = mean + p @ here
        p = np.einsum("s,sa,sat->t", p, pi, probabilities) * alive
    parts = {
        "trajectory": trajectory / steps,
        "action": action / steps,
        "state": squares / steps - ((mean / steps) ** 2).sum(),
    }
    return parts | {"variance": sum(parts.values())}


def dense(mdp):
    """P and r as `[S, A, S]`."""
    weights, rewards = np.asarray(mdp.edges.weights), np.asarray(mdp.edges.rewards)
    shape = mdp.states, mdp.actions, mdp.states
    probabilities, earned = np.zeros(shape), np.zeros(shape)
    for s, a, k in np.ndindex(weights.shape):
        to = mdp.successors[s, a, k]
        probabilities[s, a, to] += weights[s, a, k]
        earned[s, a, to] += weights[s, a, k] * rewards[s, a, k]
    return probabilities, np.divide(earned, probabilities, out=earned, where=probabilities > 0)
