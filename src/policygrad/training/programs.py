"""The compiled programs of training: one update, and many updates with their collection.

If the batch comes from the host, an update is two programs: the step of the policy, and the refit
of critic and baseline. The refit runs while the next batch is collected.

The host receives one `UpdateReport` an update. A program of many updates runs the same loop body
for each of them. The number of updates is a traced number, not a shape: another number compiles
nothing, and no result depends on how a run was cut into programs.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

from policygrad.algorithms import Learner, LearnerState
from policygrad.algorithms.learner import RefitRequest, all_finite
from policygrad.core.modules import in_types_of, narrowed, split
from policygrad.core.trajectories import Trajectories, environment_steps, greedy_steps
from policygrad.devices.compiled_code import compiled_for_modules
from policygrad.devices.parts import roll_parts
from policygrad.devices.sharing import BY_LANE, EVERYWHERE, Part, Sharing, shared
from policygrad.diagnostics.monitor import GradientMoments, gradient_moments, nothing_measured
from policygrad.gradients.weights import EstimatorState
from policygrad.rollout.collectors import SegmentProgram
from policygrad.spaces import clipped_fraction
from policygrad.training.keys import keys_of_update
from policygrad.training.report import GreedyReport, UpdateReport
from policygrad.training.soundness import TaskSpaces, is_sound
from policygrad.training.tally import EpisodeTally

MOST_UPDATES = 256


class TrainState(NamedTuple):
    """Everything that an update passes to the next one, except the environments.

    Attributes:
        learner: the state of the learner.
        tally: counts of episodes.
        last_gradient: the last monitored gradient, in the policy's structure; zeros before the
            first, None if no update is monitored.
    """

    learner: LearnerState
    tally: EpisodeTally
    last_gradient: PyTree = None

    def refitted(self, estimator: EstimatorState) -> "TrainState":
        """The learner with this state of critic and baseline."""
        return self._replace(learner=self.learner._replace(estimator=estimator))

    def forget_running(self, lanes: Bool[Array, " B"]) -> "TrainState":
        """The state where lanes have begun fresh episodes, which must not continue the sums of old
        ones."""
        scale = self.learner.reward_scale.forget_running(lanes)
        learner = self.learner._replace(reward_scale=scale)
        return self._replace(learner=learner, tally=self.tally.forget_running(lanes))


class StateAndLanes(NamedTuple):
    """A state of training, and the lanes of a compiled environment that it learns from."""

    state: TrainState
    lanes: PyTree


def step(
    learner: Learner,
    spaces: TaskSpaces,
    state: TrainState,
    trajectories: Trajectories,
    key: PRNGKeyArray,
) -> tuple[TrainState, RefitRequest, UpdateReport]:
    """One update without its refit, and the refit's inputs. Pure; the key is consumed."""
    after, request, info = learner.step(state.learner, replace(trajectories, infos=None), key)
    tally = in_types_of(state.tally, state.tally.update(trajectories))
    carried = split(after.policy)[1]
    begun_with = split(state.learner.policy)[1]  # a policy may carry an infinity of its own
    report = UpdateReport(
        info,
        clipped_fraction(spaces.actions, trajectories.actions, trajectories.valid),
        is_sound(trajectories, *spaces) & jnp.isfinite(after.reward_scale.mean_square),
        all_finite(carried) | ~all_finite(begun_with),
        environment_steps(trajectories),
        *tally[:3],
        infos=None if tally.infos is None else tally.infos.means(),
        greedy=_of_greedy(trajectories),
    )
    return state._replace(learner=after, tally=tally), request, report


def _of_greedy(trajectories: Trajectories) -> GreedyReport | None:
    greedy = trajectories.greedy
    if greedy is None:
        return None
    return_mean = jnp.mean(jnp.sum(greedy.rewards, axis=0))
    return GreedyReport(return_mean, greedy_steps(trajectories))


def measure_gradient(
    learner: Learner, state: TrainState, trajectories: Trajectories
) -> tuple[PyTree, GradientMoments]:
    """The gradient that a learner is about to learn from, and its moments. Pure.

    The gradient is computed again, from the record. Reading an intermediate result of the update
    would make XLA compile the update differently, and so change its rounding.
    """
    trajectories = replace(trajectories, infos=None)
    *_, weights = learner.weigh(state.learner, trajectories)
    policy = state.learner.policy
    return narrowed(gradient_moments(policy, trajectories, weights.psi, state.last_gradient))


# runs of equal shapes in a process share compiled programs, whatever their numbers
step_once, refit_once = compiled_for_modules(step), compiled_for_modules(Learner.refit)


measure_gradient_once = compiled_for_modules(measure_gradient)


def collect_and_learn(
    learner: Learner,
    program: SegmentProgram,
    spaces: TaskSpaces,
    updates_key: PRNGKeyArray,
    start: StateAndLanes,
    monitored: Bool[Array, ""],
) -> tuple[StateAndLanes, UpdateReport]:
    """A segment and an update from it. Pure."""
    state, lanes = start
    collect_key, update_key = keys_of_update(updates_key, state.learner.updates)

    def collect(part: Part, lanes: PyTree) -> tuple[PyTree, Trajectories]:
        first = part.number * jax.tree.leaves(lanes)[0].shape[0]
        return program.collect(state.learner.policy, lanes, collect_key, first)

    lanes, trajectories = roll_parts(collect, lanes)
    after, request, report = step(learner, spaces, state, trajectories, update_key)
    if state.last_gradient is not None:
        gradient, moments = jax.lax.cond(
            monitored,
            lambda: measure_gradient(learner, state, trajectories),
            lambda: (state.last_gradient, nothing_measured()),
        )
        after = after._replace(last_gradient=gradient)
        report = report._replace(moments=moments)
    refitted = learner.refit(after.learner.estimator, request)
    return StateAndLanes(after.refitted(refitted.estimator), lanes), report.completed(refitted)


@compiled_for_modules
def run_updates(
    learner: Learner,
    program: SegmentProgram,
    spaces: TaskSpaces,
    sharing: Sharing,
    updates_keys: PRNGKeyArray,
    start: StateAndLanes,
    count: Int[Array, ""],
    monitor_every: int = 0,
) -> tuple[StateAndLanes, UpdateReport]:
    """`count` updates, at most 256, each from its own segment.

    Args:
        learner: shared by all seeds.
        program: how segments are collected; static.
        spaces: of one environment; static.
        sharing: the parts that a batch is cut into; static.
        updates_keys: `[S]`, one a seed; or `[]`.
        start: with a leading axis S if there are S keys; no seed reads another's numbers.
        count: `[]`.
        monitor_every: monitor every K-th update, with K this number; 0 for none. Static.

    Returns:
        The state afterwards, and the reports with leading axes 256 (`count` are filled), S.
    """
    arrays, rest = eqx.partition(start, eqx.is_array)

    def one(key: PRNGKeyArray, arrays: PyTree, monitored: Array) -> tuple[PyTree, UpdateReport]:
        carried = eqx.combine(arrays, rest)
        carried, report = collect_and_learn(learner, program, spaces, key, carried, monitored)
        return eqx.filter(carried, eqx.is_array), report

    body = jax.vmap(one, (0, 0, None)) if updates_keys.ndim else one

    def monitored(arrays: StateAndLanes) -> Bool[Array, ""]:
        update = jnp.ravel(arrays.state.learner.updates)[0] + 1  # seeds make equally many
        return (update % monitor_every == 0) if monitor_every else jnp.bool_(False)

    def many(keys: PRNGKeyArray, arrays: PyTree, count: Array) -> tuple[PyTree, UpdateReport]:
        def once(arrays: PyTree) -> tuple[PyTree, UpdateReport]:
            return body(keys, arrays, monitored(arrays))

        def one_more(i: Array, carry: PyTree) -> PyTree:
            arrays, reports = carry
            arrays, report = once(arrays)
            return arrays, jax.tree.map(lambda rows, row: rows.at[i].set(row), reports, report)

        shapes = eqx.filter_eval_shape(lambda: once(arrays)[1])
        empty = jax.tree.map(lambda x: jnp.zeros((MOST_UPDATES, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, one_more, (arrays, empty))

    carried: Any = StateAndLanes(EVERYWHERE, BY_LANE)  # pyright: ignore[reportArgumentType]
    many = shared(many, sharing, (EVERYWHERE, carried, EVERYWHERE), (carried, EVERYWHERE))
    arrays, reports = many(updates_keys, arrays, count)
    return eqx.combine(arrays, rest), reports


def rows_of(reports: UpdateReport, count: int) -> list[UpdateReport]:
    """The filled rows, on the host."""
    reports = jax.device_get(reports)
    return [jax.tree.map(lambda x, i=i: x[i], reports) for i in range(count)]
