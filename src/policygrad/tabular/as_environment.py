"""Conversions: a Gymnasium environment's model to an MDP, and an MDP to an environment."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from policygrad.tabular.mdp import Edges, FiniteMDP, Sparse


def from_gymnasium(env: Any, *, horizon: int | None = None) -> FiniteMDP:
    """The MDP of a Gymnasium environment with a model: FrozenLake, CliffWalking, Taxi.

    Args:
        env: an environment, wrapped or not, with `P[s][a] = [(p, s', r, terminated), …]` and
            `initial_state_distrib`.
        horizon: of the MDP; None for no limit. A `TimeLimit` wrapper is not read: the caller
            decides whether the limit is part of the task.

    Returns:
        A sparse `FiniteMDP` with the environment's states. A state that is entered by terminated
        transitions only becomes absorbing. If a state is entered both by terminated and by other
        transitions, an absorbing state is added, to which its terminated transitions lead.

    Raises:
        ValueError: the environment has no model.

    >>> from_gymnasium(gymnasium.make("FrozenLake-v1")).absorbing.sum().item()
    5
    """
    inner = getattr(env, "unwrapped", env)
    model, initial = getattr(inner, "P", None), getattr(inner, "initial_state_distrib", None)
    if model is None or initial is None:
        raise ValueError(
            f"{type(inner).__name__} carries no model: it lacks P or initial_state_distrib"
        )
    rows = [[_merged(model[s][a]) for a in sorted(model[s])] for s in sorted(model)]
    initial = np.asarray(initial, np.float64)
    ending, living = _entered(rows, initial)
    both, over = ending & living, ending - living
    states = len(rows) + bool(both)
    slots = max(len(row) for actions in rows for row in actions)
    shape = states, len(rows[0]), slots
    successors, probabilities = np.zeros(shape, int), np.zeros(shape)
    rewards = np.zeros(shape)
    for s, actions in enumerate(rows):
        for a, row in enumerate(actions):
            if s in over:
                row = [(1.0, s, 0.0, True)]
            for k, (p, to, r, terminated) in enumerate(row):
                successors[s, a, k] = len(rows) if terminated and to in both else to
                probabilities[s, a, k], rewards[s, a, k] = p, r
    if both:
        successors[-1], probabilities[-1, :, 0] = len(rows), 1.0
        initial = np.append(initial, 0.0)
    spec = getattr(env, "spec", None)
    name = spec.id if spec is not None else type(inner).__name__
    return FiniteMDP(Sparse(successors, probabilities), rewards, initial, horizon, name=name)


Row = list[tuple[float, int, float, bool]]


def _merged(row: Any) -> Row:
    """The transitions, with those that differ in their probability alone merged."""
    merged: dict[tuple[int, float, bool], float] = {}
    for p, successor, reward, terminated in row:
        key = int(successor), float(reward), bool(terminated)
        merged[key] = merged.get(key, 0.0) + float(p)
    return [(p, *key) for key, p in merged.items() if p > 0]


def _entered(rows: list[list[Row]], initial: np.ndarray) -> tuple[set[int], set[int]]:
    """States that a terminated transition enters, and states from which an episode goes on."""
    living = {int(s) for s in np.flatnonzero(initial)}
    ending: set[int] = set()
    waiting = list(living)
    while waiting:
        for row in rows[waiting.pop()]:
            for _, to, _, terminated in row:
                if terminated:
                    ending.add(to)
                elif to not in living:
                    living.add(to)
                    waiting.append(to)
    return ending, living


class TabularState(NamedTuple):
    """State and time of a running episode."""

    state: Int[Array, ""]
    time: Int[Array, ""]


@dataclass(frozen=True, eq=False)
class TabularEnvironment:
    """An MDP as a compiled environment: pure, unbatched, no auto-reset. Made by `as_environment`.

    The horizon is part of the task: its last step is terminated, never truncated.

    Attributes:
        observation_space: the state's index.
        action_space: the action's index.
        time_limit: the horizon.
    """

    mdp: FiniteMDP
    observation_space: gymnasium.spaces.Discrete
    action_space: gymnasium.spaces.Discrete
    time_limit: int | None

    @property
    def _edges(self) -> Edges:
        """Copies of the MDP's arrays.

        JAX 0.9 remembers a NumPy array that a float32 program holds as a constant, and then takes
        its float32 numbers in float64 too. The laboratory reads the MDP's own arrays.
        """
        return jax.tree.map(np.array, self.mdp.edges)

    def reset(self, key: PRNGKeyArray) -> tuple[TabularState, Int[Array, ""]]:
        """A state drawn from the initial distribution, and its observation. Consumes the key."""
        logits = jnp.log(jnp.asarray(self._edges.initial))
        state = jax.random.categorical(key, logits).astype(jnp.int32)
        return TabularState(state, jnp.zeros((), jnp.int32)), state

    def step(
        self, key: PRNGKeyArray, state: TabularState, action: Int[Array, ""]
    ) -> tuple[TabularState, Int[Array, ""], Float[Array, ""], Bool[Array, ""], Bool[Array, ""]]:
        """One transition: state, observation, reward, terminated, truncated. Consumes the key."""
        edges = self._edges
        for_edge, for_reward = jax.random.split(key)
        place = state.state, action
        k = jax.random.categorical(for_edge, jnp.log(jnp.asarray(edges.weights)[place]))
        successor = k if edges.successors is None else jnp.asarray(edges.successors)[place][k]
        std = jnp.sqrt(jnp.asarray(edges.variances)[place][k])
        sign = jax.random.rademacher(for_reward, (), std.dtype)
        reward = jnp.asarray(edges.rewards)[place][k] + sign * std
        successor, time = successor.astype(jnp.int32), state.time + 1
        terminated = jnp.asarray(edges.alive)[successor] == 0
        if self.time_limit is not None:
            terminated = terminated | (time >= self.time_limit)
        after = TabularState(successor, time)
        return after, successor, reward, terminated, jnp.zeros_like(terminated)


def as_environment(mdp: FiniteMDP) -> TabularEnvironment:
    """An MDP as an environment in JAX, for rollouts and trainers.

    Args:
        mdp: no episode may start in an absorbing state.

    Returns:
        An environment with `reset(key)` and `step(key, state, action)`. A random reward is its mean
        plus or minus its standard deviation, with probability one half each, as in enumeration.

    Raises:
        ValueError: an episode may start in an absorbing state.
    """
    over = np.flatnonzero(mdp.initial_support & mdp.absorbing)
    if over.size:
        raise ValueError(f"an episode may start in state {over[0]}, which is absorbing")
    observations, actions = (gymnasium.spaces.Discrete(n) for n in (mdp.states, mdp.actions))
    return TabularEnvironment(mdp, observations, actions, mdp.horizon)
