"""From units of fresh episodes, here or in workers, to what is measured of all of them."""

import contextlib
import copy
from collections.abc import Generator, Sequence
from dataclasses import replace

from policygrad.diagnostics.comparison import comparison_of_sums
from policygrad.diagnostics.decomposition import decomposition_of_sums
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.groups import noise_in_groups_of_sums
from policygrad.diagnostics.noise import noise_of_sums
from policygrad.diagnostics.streaming import parts_of
from policygrad.doctor.fitted_estimator import reference_among
from policygrad.doctor.units import Open, Say, Sums, Unit, Work, reduce_unit, silent
from policygrad.machines.remote import Remote
from policygrad.machines.worker import Worker
from policygrad.rollout.blocks import Lanes

Each = Generator[Sums, None, None]  # the sums of each unit, in order


def here(opened: Open, units: Sequence[Unit], say: Say) -> Each:
    """Units that are collected one after the other in this process."""
    for unit in units:
        yield reduce_unit(opened, unit, say if len(units) == 1 else silent)


def elsewhere(remote: Remote, lanes: Lanes, work: Work, units: Sequence[Unit]) -> Each:
    """Units that are collected by workers, which end with the last one.

    Args:
        remote: the workers that were asked for.
        lanes: what opens the environments in each.
        work: what is done with every unit.
        units: dealt out one by one.
    """
    from policygrad.machines.cluster import Cluster
    from policygrad.machines.crew import Crew

    with contextlib.ExitStack() as opened:
        cluster = Cluster(remote.address)
        opened.callback(cluster.close)
        crew = Crew(cluster, remote)
        opened.callback(crew.close)
        sent = cluster.ray.put((lanes, work))
        for sums in crew.map(reduce_in_worker, ((sent, unit) for unit in units)):
            yield copy.deepcopy(sums)  # what Ray returned are views of its store


def reduce_in_worker(worker: Worker, job: tuple[Lanes, Work], unit: Unit) -> Sums:
    """`reduce_unit` in a worker, which keeps its environments open from unit to unit."""
    if "opened" not in worker.held:
        lanes, work = job
        worker.held["opened"] = work.begin(lanes.open(0))
    return reduce_unit(worker.held["opened"], unit)


def add_up(units: Sequence[Unit], each: Each, say: Say) -> Sums:
    """The sums over all units, added in their order."""
    total, done = None, 0
    episodes = sum(unit.episodes for unit in units)
    with contextlib.closing(each):
        for unit, sums in zip(units, each, strict=True):
            placed = sums.placed(unit)
            total = placed if total is None else total + placed
            done += unit.episodes
            if len(units) > 1:
                say(f"{done:,} of {episodes:,} episodes are examined")
    assert total is not None
    return total


def examined(found: Examination, work: Work, units: Sequence[Unit], sums: Sums) -> Examination:
    """The examination with all that follows from the sums over fresh episodes."""
    found = replace(found, sample=sums.sample.sample(), predicted_returns=sums.predicted)
    if sums.predicted is not None and len(units) > 1:
        shown, episodes = units[0].episodes, sum(unit.episodes for unit in units)
        found = found.noted(
            f"the picture of predicted returns: it shows the first {shown} of {episodes:,} episodes"
        )
    if not sums.sample.sound:
        return found
    if sums.failure is not None:
        return found.noted(f"gradients: {sums.failure}")
    return _with_gradients(found, work, sums)


def _with_gradients(found: Examination, work: Work, sums: Sums) -> Examination:
    if sums.gradients is None or work.fitted is None:
        return found
    of, parts = sums.gradients, parts_of(work.policy)
    found = replace(found, noise=noise_of_sums(of["noise"], parts), allocation=sums.allocation)
    if "starts" in of and work.group_size > 1:
        estimator, _, together = work.fitted.split_in_groups(work.group_size)
        split = noise_in_groups_of_sums(of["starts"], together, greedy=estimator.reads_greedy)
        found = replace(found, groups=split)
        if estimator.group is not None and together == 1 and not estimator.reads_greedy:
            found = found.noted(
                f"noise in groups of the estimator in use: groups of {work.group_size} cannot "
                "tell; it was measured of returns less the mean of the other groups"
            )
    if "decomposition" in of:
        found = replace(found, decomposition=decomposition_of_sums(of["decomposition"], parts))
    batch = found.batch_episodes
    if not batch >= 1:
        return found
    candidates = work.fitted.candidates(wide=work.pictures)
    comparison = comparison_of_sums(
        of["comparison"], tuple(candidates), reference_among(candidates), round(batch)
    )
    return replace(found, comparison=comparison)
