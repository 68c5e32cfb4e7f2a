"""Updates one after the other: each is refitted while the next batch is collected."""

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from policygrad.algorithms.learner import RefitRequest
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import for_another_thread
from policygrad.training.keys import keys_of_update
from policygrad.training.programs import measure_gradient_once, refit_once, step_once
from policygrad.training.report import UpdateReport
from policygrad.training.soundness import first_unsound

if TYPE_CHECKING:
    from policygrad.training.loop import Training


class PendingUpdate(NamedTuple):
    """An update whose critic and baseline are being refitted.

    Attributes:
        report: of the update, still without the results of the refit.
        refit: the refit that is running.
        collected: seconds that its batch took.
        since: when the batch was there, by `time.perf_counter`.
        infos: metrics of the collector, and of the infos that it has tallied, as they were when the
            batch was collected.
    """

    report: UpdateReport
    refit: Future
    collected: float
    since: float
    infos: dict[str, float]


def run(training: "Training") -> None:
    """Train to the last step, or until the run is asked to stop."""
    stop, watched = training.stop, training.watched
    with ThreadPoolExecutor(1) as worker:
        compiling = worker.submit(for_another_thread(partial(_compile_step, training)))
        worker.submit(for_another_thread(partial(_compile_refit, training, compiling)))
        while training.updates_left and not stop.is_set():
            keys = keys_of_update(training.assembly.keys.updates, training.progress.updates)
            collect_key, update_key = keys
            # without an update in the meantime, all since the newest row was for this batch
            pending = training.pending is not None
            started = time.perf_counter() if pending else training.recorder.newest
            try:
                trajectories = training.collect(collect_key)
                _wait_for(training, compiling)
            finally:  # if the environment raises, the update before it is recorded too
                collected = time.perf_counter() - started
                _settle(training, meanwhile=collected)
            _step(training, trajectories, update_key, worker, collected)
            if watched or training.save_is_due:
                # the environments are still where this update left them, as a checkpoint needs
                _settle(training)
                training.save_if_due()
        _settle(training)  # of the last update, whatever has ended the loop


def _compile_step(training: "Training") -> RefitRequest | None:
    """Compile the step of the policy while the first batch is collected; the shapes of what its
    refit reads. None if the batch's shapes are not known before."""
    state, assembly = training.progress.state, training.assembly
    with contextlib.suppress(Exception):  # the step itself fails in the same way, and is heard
        batch = assembly.collector.shapes(state.learner.policy)
        if batch is None:
            return None
        key = assembly.keys.updates
        return step_once.compile_for(assembly.learner, assembly.spaces, state, batch, key)[1]


def _compile_refit(training: "Training", step: "Future[RefitRequest | None]") -> None:
    """Compile the refit, while the first step is made and the second batch is collected.

    Args:
        training: the run.
        step: is done: the one thread of both has compiled the step before.
    """
    request, estimator = step.result(), training.progress.state.learner.estimator
    if request is not None:
        with contextlib.suppress(Exception):  # as above
            refit_once.compile_for(training.assembly.learner, estimator, request)


def _wait_for(training: "Training", compiling: Future) -> None:
    """Wait until the step is compiled, which it is but for the first time."""
    started = time.perf_counter()
    compiling.result()
    training.time_spent(compile=time.perf_counter() - started)


def _step(
    training: "Training",
    trajectories: Trajectories,
    key: PRNGKeyArray,
    worker: ThreadPoolExecutor,
    collected: float,
) -> None:
    """Improve the policy, and let the worker begin with the refit. The key is consumed."""
    started, progress = time.perf_counter(), training.progress
    learner, spaces = training.assembly.learner, training.assembly.spaces
    before = progress.state
    state, request, report = step_once(learner, spaces, before, trajectories, key)
    if training.assembly.config.monitors(progress.updates + 1):
        gradient, moments = measure_gradient_once(learner, before, trajectories)
        state = state._replace(last_gradient=gradient)
        report = report._replace(moments=moments)
    report = jax.device_get(report)
    if first_unsound([report]) is not None:
        training.refuse(report, trajectories)
    progress.state = state
    if progress.batch is not None and report.moments is not None:
        progress.batch = progress.batch.after(report.moments)
    refit = for_another_thread(
        lambda: jax.block_until_ready(refit_once(learner, state.learner.estimator, request))
    )
    collector = training.assembly.collector
    infos = collector.infos() | collector.metrics()
    training.pending = PendingUpdate(report, worker.submit(refit), collected, started, infos)
    training.time_spent(update=time.perf_counter() - started)


def _settle(training: "Training", meanwhile: float = 0.0) -> None:
    """Wait for the refit of the newest update, if one is running, and record the update.

    Args:
        training: the run.
        meanwhile: seconds since the update's batch that the next batch took.
    """
    pending = training.pending
    if pending is None:
        return
    started = time.perf_counter()
    refitted = pending.refit.result()
    report = jax.device_get(pending.report.completed(refitted))
    training.pending = None
    if first_unsound([report]) is not None:
        training.refuse(report, None, update=training.progress.updates - 1)
    training.progress.state = training.progress.state.refitted(refitted.estimator)
    now = time.perf_counter()
    training.time_spent(wait_for_refit=now - started)
    seconds = pending.collected + (now - pending.since) - meanwhile
    training.record([report], seconds, pending.infos)
