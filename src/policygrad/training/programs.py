"""One update from one batch, and any number of them, with their collection, in one program.

Where the batch comes from the host, an update is two programs: the policy's step, and the refit of
critic and baseline, which goes on while the next batch is collected.

Nothing comes back to the host but a `Report` an update. A program of many updates runs the same
loop body for each, and how many is a number and not a shape: neither compiles anew for another
number, and no result depends on how a run was cut into programs.
"""

from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.devices.sharing import AXIS, all_lanes
from policygrad.diagnostics.monitor import GradientMoments, gradient_moments, nothing_measured
from policygrad.rollout.collectors import Same
from policygrad.rollout.segments import LaneState, collect_segment
from policygrad.spaces import Space, clipped_fraction
from policygrad.training.soundness import is_sound
from policygrad.training.tally import EpisodeTally

MOST_UPDATES = 256


class Learner(NamedTuple):
    """Everything that an update carries to the next, but for the environments.

    Attributes:
        state: the algorithm's.
        tally: of episodes.
        last_gradient: that was monitored, in the policy's structure; zeros before the first, None
            where none is.
    """

    state: Any
    tally: EpisodeTally
    last_gradient: PyTree = None

    def with_estimator(self, estimator: Any) -> "Learner":
        """With critic and baseline as they were refitted."""
        return self._replace(state=self.state._replace(estimator=estimator))


class Report(NamedTuple):
    """What an update tells the host.

    Attributes:
        info: what the algorithm logs, and the fraction of clipped action components.
        sound: `[]`, the batch held no NaN, no infinity, and no mask without a permitted action.
        steps: `[]`, transitions in the batch.
        episodes, recent_returns, recent_lengths: of the tally after the batch.
        moments: of the batch's gradient; without a meaning where the update is not monitored, None
            where none is.
    """

    info: dict[str, Float[Array, ""]]
    sound: Bool[Array, ""]
    steps: Int[Array, ""]
    episodes: Int[Array, ""]
    recent_returns: Float[Array, " 100"]
    recent_lengths: Int[Array, " 100"]
    moments: GradientMoments | None = None

    def completed(self, info: dict[str, Any]) -> "Report":
        """With what the refit logs too."""
        return self._replace(info=self.info | info)


class Rolling(NamedTuple):
    """A learner and the lanes of a compiled environment that it learns from."""

    learner: Learner
    lanes: LaneState


class Segments(NamedTuple):
    """How a compiled environment is rolled out; static.

    Attributes:
        environment, steps: what, and how far.
        action_space: of the environment.
        processors: the devices that lanes and rows are shared between; None for one.
    """

    environment: Same
    steps: int
    action_space: Space
    processors: Mesh | None = None


def keys_of(run_key: PRNGKeyArray, update: Int[Array, ""] | int) -> tuple[Any, Any]:
    """The keys of an update's collection, and of the update itself."""
    collect_key, update_key = jax.random.split(jax.random.fold_in(run_key, update))
    return collect_key, update_key


def step(
    algorithm: Any, action_space: Space, learner: Learner, trajectories: Trajectories, key: Any
) -> tuple[Learner, Any, Report]:
    """One update but for its refit, and what that takes. Pure; the key is consumed."""
    state, refit, info = algorithm.step(learner.state, trajectories, key)
    tally = learner.tally.update(trajectories)
    clipped = clipped_fraction(action_space, trajectories.actions, trajectories.valid)
    report = Report(
        info | {"clipped_fraction": clipped},
        is_sound(trajectories),
        jnp.sum(trajectories.valid),
        *tally[:3],
    )
    return learner._replace(state=state, tally=tally), refit, report


def watch(
    algorithm: Any, learner: Learner, trajectories: Trajectories
) -> tuple[PyTree, GradientMoments]:
    """The gradient that a learner is about to learn from, and its moments. Pure.

    It is computed anew, from the record: what an update reads of its own intermediate results would
    compile it otherwise, and so change how it rounds.
    """
    _, _, weights = algorithm.weigh(learner.state, trajectories)
    return gradient_moments(learner.state.policy, trajectories, weights.psi, learner.last_gradient)


def refit(algorithm: Any, estimator: Any, refit: Any) -> tuple[Any, dict[str, Array]]:
    """The rest of an update: the estimator's state, and what is logged of it. Pure."""
    return algorithm.refit(estimator, refit)


# runs of equal shapes in a process share what is compiled, whatever their numbers
step_once, refit_once = eqx.filter_jit(step), eqx.filter_jit(refit)
watch_once = eqx.filter_jit(watch)


def collect_and_learn(
    algorithm: Any,
    segments: Segments,
    run_key: PRNGKeyArray,
    rolling: Rolling,
    monitored: Bool[Array, ""],
) -> tuple[Rolling, Report]:
    """A segment and an update from it. Pure."""
    learner, lanes = rolling
    collect_key, update_key = keys_of(run_key, learner.state.updates)
    lanes, trajectories = collect_segment(
        segments.environment.environment,
        learner.state.policy,
        lanes,
        collect_key,
        steps=segments.steps,
    )
    trajectories = all_lanes(trajectories)
    before = learner
    learner, rest, report = step(
        algorithm, segments.action_space, learner, trajectories, update_key
    )
    if before.last_gradient is not None:
        gradient, moments = jax.lax.cond(
            monitored,
            lambda: watch(algorithm, before, trajectories),
            lambda: (before.last_gradient, nothing_measured()),
        )
        learner = learner._replace(last_gradient=gradient)
        report = report._replace(moments=moments)
    estimator, info = refit(algorithm, learner.state.estimator, rest)
    return Rolling(learner.with_estimator(estimator), lanes), report.completed(info)


@eqx.filter_jit
def learn_many(
    algorithm: Any,
    segments: Segments,
    run_keys: PRNGKeyArray,
    rolling: Rolling,
    count: Int[Array, ""],
    monitor_every: int = 0,
) -> tuple[Rolling, Report]:
    """`count` updates, at most 256, each from a segment of its own.

    Args:
        algorithm: shared by all seeds.
        segments: static.
        run_keys: `[S]`, one a seed; or `[]`.
        rolling: with a leading axis S where there are S keys: seeds side by side, none of which
            reads another's numbers.
        count: `[]`.
        monitor_every: of how many updates one is monitored; 0 for none. Static.

    Returns:
        What is carried on, and the reports with leading axes 256 (of which `count` are filled), S.
    """
    one = partial(collect_and_learn, algorithm, segments)
    body = jax.vmap(one, (0, 0, None)) if run_keys.ndim else one
    arrays, rest = eqx.partition(rolling, eqx.is_array)

    def monitored(rolling: Rolling) -> Bool[Array, ""]:
        update = jnp.ravel(rolling.learner.state.updates)[0] + 1  # seeds make equally many
        return (update % monitor_every == 0) if monitor_every else jnp.bool_(False)

    def many(run_keys: PRNGKeyArray, arrays: PyTree, count: Array) -> tuple[PyTree, Report]:
        def once(arrays: PyTree) -> tuple[Rolling, Report]:
            rolling = eqx.combine(arrays, rest)
            return body(run_keys, rolling, monitored(rolling))

        def one_more(i: Array, carry: PyTree) -> PyTree:
            arrays, reports = carry
            rolling, report = once(arrays)
            reports = jax.tree.map(lambda rows, row: rows.at[i].set(row), reports, report)
            return eqx.filter(rolling, eqx.is_array), reports

        shapes = eqx.filter_eval_shape(lambda: once(arrays)[1])
        empty = jax.tree.map(lambda x: jnp.zeros((MOST_UPDATES, *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, one_more, (arrays, empty))

    if segments.processors is not None:
        everywhere, by_lane = PartitionSpec(), PartitionSpec(AXIS)
        specs: Any = everywhere, by_lane
        carried = Rolling(*specs)
        many = jax.shard_map(
            many,
            mesh=segments.processors,
            in_specs=(everywhere, carried, everywhere),
            out_specs=(carried, everywhere),
            check_vma=False,
        )
    arrays, reports = many(run_keys, arrays, count)
    return eqx.combine(arrays, rest), reports


class Pace:
    """How many updates to run in one program, so that it takes about half a second.

    Ctrl-C, checkpoints and progress wait for a program to end, and every one of them costs a
    little: results do not depend on the number.
    """

    def __init__(self, *, one_by_one: bool = False, seconds: float = 0.5) -> None:
        self._most = 1 if one_by_one else MOST_UPDATES
        self._seconds, self._programs, self._next = seconds, 0, 1

    def count(self, wanted: int) -> int:
        """How many updates to run next, of those that are wanted."""
        return max(1, min(wanted, self._next))

    def took(self, count: int, seconds: float) -> None:
        """Learn how long a program took; the first one, which compiles, teaches nothing."""
        self._programs += 1
        if self._programs > 1:
            fitting = int(self._seconds * count / max(seconds, 1e-9))
            self._next = max(1, min(self._most, fitting, 8 * count))


def rows_of(reports: Report, count: int) -> list[Report]:
    """The filled rows, on the host."""
    reports = jax.device_get(reports)
    return [jax.tree.map(lambda x, i=i: x[i], reports) for i in range(count)]


def first_unsound(reports: list[Report]) -> int | None:
    """The first update whose batch or whose result holds a NaN or an infinity."""
    for i, report in enumerate(reports):
        watched = [report.info[name] for name in ("gradient_norm", "kl", "entropy")]
        if not (report.sound and np.all(np.isfinite(watched))):
            return i
    return None
