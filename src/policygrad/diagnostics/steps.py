"""The variance of one step, split by its source: what follows, the action, the state."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.usual import longest_episode
from policygrad.devices.compiled_code import compiled_for_modules
from policygrad.diagnostics.intervals import GROUPS, GroupSums, Measured
from policygrad.diagnostics.streaming import flatten
from policygrad.environments.protocol import ById, CompiledEnvironment
from policygrad.gradients import scores
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.rollout.acting import lane_keys
from policygrad.rollout.collectors import require_finished
from policygrad.rollout.engines import open_source
from policygrad.rollout.episodes import collect_episodes
from policygrad.rollout.play import EpisodeStep, run_episodes
from policygrad.rollout.segments import LaneState, act_in_lanes, choose, start_lanes

BRANCHES = 4  # two actions, two continuations of each


@dataclass(frozen=True)
class StepSplit:
    """The variance of one step's term g = Ψ z, over all steps that the policy visits.

    Attributes:
        states: the number of states that were branched from.
        trajectory: Σ_τ = E Var_τ(g), from what follows the action.
        action: Σ_a = E_s Var_a(E_τ g), from the choice of the action.
        state: Σ_s = Var_s(E_{a,τ} g), from the state of the step. The estimate may be below zero.
        variance: their sum.
    """

    states: int
    trajectory: Measured
    action: Measured
    state: Measured
    variance: Measured

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)


def split_by_step(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    environment: Any,
    key: PRNGKeyArray,
    *,
    states: int = 1024,
    max_steps: int | None = None,
    batch: int = 256,
) -> StepSplit:
    """Var g = Σ_τ + Σ_a + Σ_s of one step, by returning to states and continuing again.

    In each state two actions are drawn, and each is followed twice. The product of two independent
    continuations has the square of their conditional mean as its expectation.

    Args:
        policy, estimator, state: as in `gradient_noise`.
        environment: compiled, or the id of one. Its state is a value, so that it can be returned
            to.
        key: consumed.
        states: how many, at least 2; rounded up to whole batches. Each state is drawn uniformly
            from the steps of a separate episode.
        max_steps: cap on an episode; None for the environment's time limit, else 10,000.
        batch: states at a time; memory holds four times as many episodes.

    Returns:
        `StepSplit`; intervals over states.

    Raises:
        UserError: fewer than 2 states; a Gymnasium environment, which cannot be reset to a state;
            an estimator whose weights depend on more than what follows the step.

    Bias: only that of a quotient, O(1/states).

    Source: Tucker et al. 2018, eq. 4.
    """
    for name, count in (("states", states), ("batch", batch)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise UserError(f"{name} must be a whole number, at least 2, got {count!r}")
    pure = _pure(environment)
    _check(estimator)
    limit = longest_episode(max_steps, pure.time_limit)
    by_id, total = ById(pure), None
    batch = min(batch, states)
    batches = -(-states // batch)
    for k in jax.random.split(key, batches):
        found, unfinished = _branch(by_id, policy, estimator, state, k, batch, limit)
        require_finished(np.asarray(unfinished), limit)
        counts = np.bincount(np.arange(batch) % GROUPS, minlength=GROUPS).astype(float)
        part = GroupSums(counts, {name: np.asarray(x, np.float64) for name, x in found.items()})
        total = part if total is None else total + part
    assert total is not None
    return _split(total.folded())


def _pure(environment: Any) -> CompiledEnvironment:
    source = open_source(environment, 1)
    if source.pure is None:
        source.close()
        raise UserError(
            f"the split by step returns to earlier states, and {environment} cannot be reset to a "
            "state; use a compiled environment, such as gymnax/CartPole-v1"
        )
    return source.pure


def _check(estimator: Estimator) -> None:
    own_batch = estimator.baseline is not None and estimator.baseline.couples_episodes
    if estimator.form.whole_episodes or own_batch or estimator.normalise_advantages:
        raise UserError(
            f"the split by step needs weights that depend only on what follows a step; "
            f"{estimator.form} with these options reads the whole episode or batch; use "
            "reward_to_go or gae"
        )


@compiled_for_modules
def _branch(
    env: ById, policy: Any, estimator: Any, state: Any, key: Any, batch: int, limit: int
) -> tuple[dict[str, Array], Array]:
    """Sums over groups of steps, each step weighted by the length of its episode."""
    visit_key, act_key, go_key = jax.random.split(key, 3)
    visited, lengths, running = _visit(env.value, policy, visit_key, batch, limit)
    twice: LaneState = jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), visited)
    actions, _, _ = act_in_lanes(policy, twice, lane_keys(act_key, 0, 2 * batch))
    again = partial(jax.tree.map, lambda x: jnp.repeat(x, 2, axis=0))
    batch_of_four = collect_episodes(
        env.value,
        policy,
        go_key,
        episodes=BRANCHES * batch,
        max_steps=limit,
        start=(again(twice), again(actions)),
    )
    record = batch_of_four.trajectories
    psi = estimator.weights(state, record).psi[0].reshape(batch, 2, 2)
    first = jax.tree.map(lambda x: x[:1, ::2], record)
    z = flatten(scores.trajectory_score(policy, first)).reshape(batch, 2, -1)
    squares, product = jnp.sum(z**2, axis=2), jnp.sum(z[:, 0] * z[:, 1], axis=1)
    mean = psi.mean(axis=2)
    found = {
        "length": 1.0 * lengths,
        "trajectory": lengths * jnp.mean(squares * (psi[..., 0] - psi[..., 1]) ** 2 / 2, axis=1),
        "given_action": lengths * jnp.mean(squares * psi[..., 0] * psi[..., 1], axis=1),
        "given_state": lengths * product * mean[:, 0] * mean[:, 1],
        "gradient": lengths[:, None] * jnp.mean(mean[..., None] * z, axis=1),
    }
    member = 1.0 * (jnp.arange(batch) % GROUPS == jnp.arange(GROUPS)[:, None])
    sums = {k: member @ x for k, x in found.items()}
    return sums, jnp.append(batch_of_four.unfinished, running)


def _visit(
    environment: CompiledEnvironment, policy: Any, key: PRNGKeyArray, batch: int, limit: int
) -> tuple[LaneState, Array, Array]:
    """One uniformly drawn step of each episode, the lengths, and which episodes did not end."""
    reset_key, act_key, environment_key, keep_key = jax.random.split(key, 4)
    lanes = start_lanes(environment, policy, reset_key, batch)

    def keep(kept: tuple[LaneState, Array], step: EpisodeStep) -> tuple[LaneState, Array]:
        visited, lengths = kept
        # step number t + 1 replaces the kept one with probability 1/(t + 1)
        chance = jax.random.uniform(jax.random.fold_in(keep_key, step.t), (batch,))
        replaces = step.alive & (chance * (step.t + 1) < 1)
        return choose(replaces, step.lanes, visited), lengths + step.alive

    nothing = lanes, jnp.zeros(batch, jnp.int32)
    (visited, lengths), unfinished = run_episodes(
        environment, policy, lanes, (act_key, environment_key), keep, nothing, max_steps=limit
    )
    return visited, lengths, unfinished


def _split(sums: GroupSums) -> StepSplit:
    m = sums.means()
    length = m["length"]
    trajectory, action, state = (
        m[k] / length for k in ("trajectory", "given_action", "given_state")
    )
    # ‖E g‖² from pairs of different groups
    x = sums.sums["gradient"] / sums.counts[:, None]
    present = np.concatenate([np.ones((1, len(x))), 1 - np.eye(len(x))])
    k = present.sum(axis=1)
    whole = np.sum((present @ x) ** 2, axis=1) - present @ np.sum(x**2, axis=1)
    squared_mean = whole / (k * (k - 1)) / length**2
    return StepSplit(
        states=sums.episodes,
        trajectory=m.interval(trajectory, "positive"),
        action=m.interval(action - state),
        state=m.interval(state - squared_mean),
        variance=m.interval(trajectory + action - squared_mean, "positive"),
    )
