"""Group estimators by brute force: every group and batch of whole trajectories, in order."""

from typing import NamedTuple

import numpy as np

from policygrad.gradients.groups import Groups
from policygrad.tabular import FiniteMDP, FixedPolicy, SoftmaxPolicy, enumerate_trajectories

LARGEST = 400_000


class Trajectories(NamedTuple):
    """Trajectories from one state: probabilities given the state, returns, lengths and scores."""

    p: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray


class Drawn(NamedTuple):
    """Every ordered group: its start, probability, greedy return and trajectories `[U, k]`."""

    start: np.ndarray
    p: np.ndarray
    greedy: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray


def random_task(seed, largest):
    """A random MDP of 2 or 3 living states and an absorbing one, and a policy on 3 features.

    Its horizon is the longest with at most `largest` trajectories from a state.
    """
    rng = np.random.default_rng([seed, 22])
    living, actions = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    states = living + 1
    p = np.zeros((states, actions, states))
    for s in range(living):
        for a in range(actions):
            to = rng.choice(states, size=rng.integers(1, 3), replace=False)
            p[s, a, to] = rng.dirichlet(np.ones(len(to)))
    p[living, :, living] = 1.0
    rewards = rng.choice([-1.0, 0.0, 0.5, 1.0], size=p.shape)
    if seed % 2:
        rewards = rng.normal(size=p.shape)
    variance = np.zeros(p.shape)
    if seed % 5 == 0:
        variance[0, 0] = 0.25
    rewards[living], variance[living] = 0.0, 0.0
    initial = np.append(rng.dirichlet(np.ones(living)), 0.0)
    features = rng.normal(size=(states, actions, 3))
    policy = SoftmaxPolicy(rng.normal(size=3), features)
    for horizon in (3, 2, 1):
        mdp = FiniteMDP(p, rewards, initial, horizon, variance)
        if max(len(x.p) for x in by_start(mdp, policy)) <= largest:
            break
    return mdp, policy


def by_start(mdp, policy, *, discount=1.0):
    """`Trajectories` of every state that an episode may start in."""
    paths = enumerate_trajectories(mdp, policy)
    pi = np.asarray(policy.probabilities_on(mdp), np.float64)
    z = np.zeros((mdp.states, mdp.actions, 1))
    if isinstance(policy, SoftmaxPolicy):
        features = np.asarray(policy.features.value, np.float64)
        logits = features @ np.asarray(policy.theta, np.float64)
        pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        z = features - np.einsum("sa,sad->sd", pi, features)[:, None]
    steps = paths.valid.shape[1]
    returns = (paths.rewards * discount ** np.arange(steps)).sum(1)
    scores = (z[paths.states[:, :-1], paths.actions] * paths.valid[..., None]).sum(1)
    found = []
    for s in np.flatnonzero(mdp.initial_support):
        here = paths.states[:, 0] == s
        p = paths.probabilities[here] / float(mdp.edges.initial[s])
        found.append(Trajectories(p, returns[here], paths.valid[here].sum(1), scores[here]))
    return found


class Oracle:
    """A task whose ordered groups of k trajectories are listed once."""

    def __init__(self, mdp, policy, k, *, discount=1.0):
        pi = np.asarray(policy.probabilities_on(mdp))
        best = FixedPolicy(np.eye(mdp.actions)[pi.argmax(1)])
        self.initial = np.asarray(mdp.edges.initial)[mdp.initial_support]
        self.own = by_start(mdp, policy, discount=discount)
        self.best = by_start(mdp, best, discount=discount)
        self.values = np.array([x.p @ x.returns for x in self.own])
        self.k = k
        self.drawn = {greedy: self._groups(greedy) for greedy in (False, True)}

    def _groups(self, greedy):
        """Every ordered group of k trajectories, with every greedy trajectory if asked for."""
        columns = []
        for s, (own, best) in enumerate(zip(self.own, self.best, strict=True)):
            which = np.indices((len(own.p),) * self.k).reshape(self.k, -1).T
            rest = own.returns[which], own.lengths[which].astype(float), own.scores[which]
            pairs = zip(best.p, best.returns, strict=True) if greedy else [(1.0, 0.0)]
            for share, paid in pairs:
                p = own.p[which].prod(1) * share
                columns.append((np.full(len(p), s), p, np.full(len(p), paid), *rest))
        return Drawn(*(np.concatenate(x) for x in zip(*columns, strict=True)))

    def moments(self, estimator, count):
        """Mean, covariance and power of ĝ over `count` groups, every batch by itself."""
        drawn = self.drawn["greedy" in estimator.reads]
        which = np.indices((len(drawn.p),) * count).reshape(count, -1).T
        assert len(which) <= LARGEST, (len(which), self.k, count)
        returns, start = drawn.returns[which], drawn.start[which]
        given = Groups(returns, drawn.lengths[which], drawn.greedy[which], self.values[start])
        weights = np.broadcast_to(estimator.weights(given), returns.shape)
        weighted = weights[..., None] * drawn.scores[which]
        estimate = weighted.sum((1, 2)) / (count * self.k)
        shares = (self.initial[drawn.start] * drawn.p)[which].prod(1)
        mean = shares @ estimate
        off = estimate - mean
        power = shares @ (weighted**2).sum((1, 2, 3)) / (count * self.k)
        return mean, (shares[:, None] * off).T @ off, power
