"""The oracle: every trajectory of a small MDP, one after another, with its probability.

It is slow, simple and independent of the recursions elsewhere. The tests compare everything else
with it.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from policygrad.core.trajectories import Trajectories
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy


@dataclass(frozen=True)
class Enumeration:
    """All trajectories of an MDP under a policy.

    Attributes:
        probabilities: `[N]`, summing to 1.
        states: `[N, T + 1]`; actions, rewards, valid: `[N, T]`. Steps after absorption are not
            valid: they stay in the absorbing state, with action 0 and reward 0.
        log_probs: `[N, T]`, log π(a_t|s_t); 0 for steps that are not valid.
        terminated: `[N, T]`, True at the last step of the episode.
    """

    probabilities: Float[np.ndarray, " N"]
    states: Int[np.ndarray, "N T1"]
    actions: Int[np.ndarray, "N T"]
    rewards: Float[np.ndarray, "N T"]
    valid: Bool[np.ndarray, "N T"]
    log_probs: Float[np.ndarray, "N T"]

    @property
    def terminated(self) -> Bool[np.ndarray, "N T"]:
        """The last valid step of each trajectory."""
        following = np.concatenate([self.valid[:, 1:], np.zeros_like(self.valid[:, :1])], axis=1)
        return self.valid & ~following

    def trajectories(self) -> Trajectories:
        """The trajectories as a rollout's record: column n is trajectory n."""
        steps = self.valid.shape[1]
        nothing = np.zeros_like(self.valid.T)
        times = np.broadcast_to(np.arange(steps)[:, None], nothing.shape)
        columns = self.states[:, :steps], self.actions, self.rewards, self.terminated
        observations, actions, rewards, terminated = (jnp.asarray(x.T) for x in columns)
        return Trajectories(
            observations=observations,
            actions=actions,
            rewards=rewards,
            terminated=terminated,
            truncated=jnp.asarray(nothing),
            valid=jnp.asarray(self.valid.T),
            times=jnp.asarray(times),
            log_probs=jnp.asarray(self.log_probs.T),
            cut_observations=observations[:1],
            cut_times=jnp.asarray(times[:1]),
            whole_episodes=True,
        )


def enumerate_trajectories(
    mdp: FiniteMDP, policy: TabularPolicy, *, limit: int = 2_000_000
) -> Enumeration:
    """Every trajectory of positive probability. A random reward takes two values.

    p(τ) = p_0(s_0) Π_t π(a_t|s_t) P(s_{t+1}|s_t, a_t).  [E2]

    Args:
        mdp: with a horizon.
        policy: anything that can be tabulated.
        limit: the largest number of trajectories.

    Returns:
        NumPy arrays, float64.

    Raises:
        ValueError: no horizon, or more trajectories than `limit`.

    Bias: none; the probabilities sum to 1.
    """
    if mdp.horizon is None:
        raise ValueError("enumeration needs a horizon, and this MDP has none")
    pi = np.asarray(policy.tabulate(mdp).probabilities)
    absorbing, successors = mdp.absorbing, mdp.successors
    weights, mean = np.asarray(mdp.edges.weights), np.asarray(mdp.edges.rewards)
    std = np.sqrt(np.asarray(mdp.edges.variances))

    starts = [int(s) for s in np.flatnonzero(mdp.initial_support)]
    paths = [(float(mdp.edges.initial[s]), [s], [], [], [], []) for s in starts]
    for _ in range(mdp.horizon):
        longer = []
        for p, states, actions, rewards, valid, logs in paths:
            s = states[-1]
            if absorbing[s]:
                longer.append(
                    (p, [*states, s], [*actions, 0], [*rewards, 0.0], [*valid, False], [*logs, 0.0])
                )
                continue
            for a in np.flatnonzero(pi[s] > 0):
                for k in np.flatnonzero(weights[s, a] > 0):
                    spread = std[s, a, k]
                    for sign in (-1.0, 1.0) if spread > 0 else (0.0,):
                        share = 0.5 if spread > 0 else 1.0
                        longer.append(
                            (
                                p * pi[s, a] * weights[s, a, k] * share,
                                [*states, int(successors[s, a, k])],
                                [*actions, int(a)],
                                [*rewards, mean[s, a, k] + sign * spread],
                                [*valid, True],
                                [*logs, np.log(pi[s, a])],
                            )
                        )
            if len(longer) > limit:
                raise ValueError(
                    f"more than {limit} trajectories over {mdp.horizon} steps of {mdp.states} "
                    f"states: too many to enumerate (limit={limit})"
                )
        paths = longer
    probabilities, states, actions, rewards, valid, logs = zip(*paths, strict=True)
    return Enumeration(
        np.array(probabilities),
        np.array(states),
        np.array(actions),
        np.array(rewards),
        np.array(valid),
        np.array(logs),
    )
