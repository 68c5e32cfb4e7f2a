"""The same run with many seeds at once, each as if it were trained alone.

JAX-native environments are vmapped over the seeds: one program for each processor, or one on a GPU.
Other environments run side by side in spawned worker processes. Each seed writes its own run
directory.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import jax
import optax

from policygrad.algorithms import Algorithm
from policygrad.core.errors import NonFiniteError, PolicygradError, UserError
from policygrad.core.shell import user_path
from policygrad.devices.compiled_code import for_another_thread
from policygrad.gradients.weights import Estimator
from policygrad.machines.remote import Remote
from policygrad.policies.architectures import Architecture
from policygrad.policies.meeting import Policy
from policygrad.processes.scripts import end_where_the_script_runs_again
from policygrad.rollout.blocks import Elsewhere
from policygrad.rollout.collectors import SegmentProgram
from policygrad.rollout.engines import Engine
from policygrad.runs import RunDirectory
from policygrad.training import entry, named_estimators
from policygrad.training.assembly import Assembly, CollectorMaker, Task
from policygrad.training.beginning import place, trained_in
from policygrad.training.config import TrainConfig
from policygrad.training.ending import warn_of_a_signal
from policygrad.training.history import begin_from
from policygrad.training.loop import Training
from policygrad.training.own_values import check_arguments
from policygrad.training.pace import Pace
from policygrad.training.programs import StateAndLanes
from policygrad.training.recipe import Recipe
from policygrad.training.report import UpdateReport
from policygrad.training.resolve import asked_settings
from policygrad.training.result import Run
from policygrad.training.seed_callback import OnSeedUpdate, check_seed_callback, of_seed
from policygrad.training.seeds_elsewhere import SeedsElsewhere
from policygrad.training.signals import StopRequest, stop_requests
from policygrad.training.soundness import first_unsound
from policygrad.training.together import Group, dealt
from policygrad.training.workers import SideBySide

SeedMap = Callable[[Callable[[TrainConfig], Run], Iterable[TrainConfig]], Iterable[Run]]


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ only in their seed. Iterating gives the runs in the order of the seeds, and
    `runs[seed]` the run of a seed.

    Attributes:
        path: the directory that holds `seed-0`, `seed-1` and so on; None if nothing was written.
        runs: by seed, those that ended or were interrupted.
        failures: by seed, why the others did not end.
    """

    path: Path | None
    runs: dict[int, Run] = field(default_factory=dict)
    failures: dict[int, PolicygradError] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs.values())

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, seed: int) -> Run:
        """The run of a seed; the error of one that failed."""
        if seed in self.failures:
            raise self.failures[seed]
        if seed not in self.runs:
            there = ", ".join(map(str, self.runs)) or "none"
            raise UserError(f"there is no run of seed {seed!r}; there are {there}")
        return self.runs[seed]

    @property
    def interrupted(self) -> bool:
        """Whether any run was stopped before its last step."""
        return any(run.interrupted for run in self.runs.values())

    @property
    def exit_code(self) -> int:
        """As of `Run`, of the first run that was interrupted; 0 if none was."""
        return next((run.exit_code for run in self.runs.values() if run.interrupted), 0)


def train_seeds(
    env: Any = None,
    seeds: Iterable[int] = range(5),
    *,
    out: str | Path | None = None,
    jobs: int | Remote | None = None,
    policy: Policy | None = None,
    algorithm: Algorithm | str | None = None,
    estimator: Estimator | str | None = None,
    optimiser: optax.GradientTransformation | str | None = None,
    network: Architecture | str | None = None,
    engine: Engine | None = None,
    collector: CollectorMaker | None = None,
    env_kwargs: dict[str, Any] | None = None,
    on_update: OnSeedUpdate | None = None,
    map: SeedMap | None = None,  # noqa: A002
    config: TrainConfig | None = None,
    start: Any = None,
    **settings: Any,
) -> SeedRuns:
    """Train with several seeds at once, each as `train` would alone.

    What is not named below is as `train` takes it, without a seed. If the environment is not
    JAX-native, objects must be picklable, because they are sent to worker processes; a function
    that makes the environment may be a lambda or stand inside of another function.

    Args:
        seeds: distinct.
        out: directory that holds one directory for each seed, `seed-0` and so on.
        jobs: number of worker processes; None for as many as there are processors. Vmapped seeds
            use none. Or `policygrad.remote(workers=4)`: each seed is trained by one of Ray's
            workers, here or on a cluster that shares the file system, and is trained on by another
            one where its own dies.
        on_update: called with a seed and the metrics of every update of it, in this process. It
            sees no policy and stops no seed. Where it raises, all seeds are saved and end.
        map: (function, configurations) -> results in order. It is used in place of worker processes
            and vmap, and takes neither jobs nor on_update. The function trains one configuration
            and returns its `Run`; an error that it raises is not caught.

    Returns:
        The runs. A seed that fails does not end the others; its error is in `failures`.

    Raises:
        UserError: a setting, or a seed that is out of range or given twice; nothing was trained.

    Bias: side by side, each seed's weights equal those of `train` bit for bit. Vmapped, batched
    matrix products may round differently, by a relative 1e-6 in length after one update.
    """
    end_where_the_script_runs_again()
    check_arguments(out=out, collector=collector, env_kwargs=env_kwargs, config=config)
    check_seed_callback(on_update)
    seeds = checked_seeds(seeds)
    if "seed" in settings:
        raise UserError(f"seed={settings['seed']!r} was given beside seeds={seeds}; give one")
    _check_jobs(jobs)
    for name, value in (("jobs", jobs), ("on_update", on_update)):
        if map is not None and value is not None:
            raise UserError(
                f"{name}={value!r} is not read beside map, which runs the seeds by itself; leave "
                "one of them out"
            )
    if isinstance(collector, Elsewhere):
        raise UserError(
            f"collector={collector!r} would start workers for the lanes of every seed; give the "
            "workers the seeds: jobs=policygrad.remote(…)"
        )
    config, given = entry.asked_for(
        config, settings, policy=policy, algorithm=algorithm, estimator=estimator,
        optimiser=optimiser, network=network,
    )  # fmt: skip
    given, history = begin_from(start, given)
    env, env_kwargs = place(env, env_kwargs, trained_in(start))
    if out is None:
        entry.refuse_files(config)
    configs = [replace(config, seed=seed) for seed in seeds]
    result = SeedRuns(None if out is None else user_path(out))
    if result.path is not None:
        RunDirectory.check_free(result.path)
        for seed in seeds:
            RunDirectory.check_free(result.path / f"seed-{seed}")
    task = Task.of(
        env, env_kwargs, engine, collector, processes=config.processes,
        groups=named_estimators.starts_alike(config, given),
    )  # fmt: skip
    recipe = Recipe(task, given, history)
    if map is not None:
        train_one = partial(_train_one, recipe, result.path)
        runs = dict(zip(seeds, map(train_one, configs), strict=True))
        return replace(result, runs=runs)
    _train_at_once(recipe, configs, result, jobs, on_update)
    order = {seed: result.runs[seed] for seed in seeds if seed in result.runs}
    for run in order.values():
        warn_of_a_signal(run)
    return replace(result, runs=order)


def _train_at_once(
    recipe: Recipe,
    configs: list[TrainConfig],
    result: SeedRuns,
    jobs: int | Remote | None,
    on_update: OnSeedUpdate | None,
) -> None:
    """Train all seeds, vmapped where segments are compiled, else in worker processes; fill in the
    result."""
    # asks for as many processors as `train` would, and is refused where `train` would be
    first = recipe.assemble(configs[0])
    program = first.collector.program()
    if program is None or isinstance(jobs, Remote):
        first.close()
        if isinstance(jobs, Remote):
            if program is not None:  # a worker has fewer processors than this process
                recipe, configs = _cut_into(first.config.processors, recipe, configs)
            pool = SeedsElsewhere(recipe, configs, result.path, on_update, jobs)
        else:
            pool = SideBySide(recipe, configs, result.path, on_update, jobs or os.cpu_count() or 1)
        pool.run()
        result.runs.update(pool.runs)
        result.failures.update(pool.failures)
        return
    recipe, configs = _cut_into(1, recipe, configs)
    _vmapped([recipe.assemble(config) for config in configs], program, result, on_update)


def _cut_into(
    parts: int | None, recipe: Recipe, configs: list[TrainConfig]
) -> tuple[Recipe, list[TrainConfig]]:
    """Runs whose batches are cut into so many parts, which nobody asked for."""
    asked = asked_settings(configs[0], recipe.given)
    recipe = replace(recipe, history=replace(recipe.history, asked=asked))
    return recipe, [replace(config, processors=parts) for config in configs]


def _train_one(recipe: Recipe, out: Path | None, config: TrainConfig) -> Run:
    """One seed, as `train` trains it."""
    return recipe.train(config, _path_of(config, out))


def _path_of(config: TrainConfig, out: Path | None) -> Path | None:
    """The directory of a seed's run."""
    return None if out is None else out / f"seed-{config.seed}"


def _check_jobs(jobs: int | Remote | None) -> None:
    if jobs is None or isinstance(jobs, Remote):
        return
    if isinstance(jobs, bool) or not isinstance(jobs, Integral):
        raise UserError(
            f"--jobs must be a whole number, or policygrad.remote(workers=N), got {jobs!r}"
        )
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds in the order given; UserError if there is none, or one twice, or no list of them."""
    if not isinstance(seeds, Iterable) or isinstance(seeds, str):
        raise UserError(f"seeds must list numbers, such as range(5) or [0, 3, 7]; got {seeds!r}")
    seeds = list(seeds)
    if not seeds:
        raise UserError("--seeds names no seed; give some, such as 0..4 or 0,3,7")
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise UserError(f"--seeds names {twice[0]} twice")
    return seeds


def _vmapped(
    assemblies: list[Assembly],
    program: SegmentProgram,
    result: SeedRuns,
    on_update: OnSeedUpdate | None,
) -> None:
    """Train all seeds, in one program for each processor or one on a GPU; fill in the result."""
    with contextlib.ExitStack() as held, stop_requests() as stop:
        _train_together(assemblies, program, result, on_update, stop, held)


def _train_together(
    assemblies: list[Assembly],
    program: SegmentProgram,
    result: SeedRuns,
    on_update: OnSeedUpdate | None,
    stop: StopRequest,
    held: contextlib.ExitStack,
) -> None:
    """Train all seeds until they end or are asked to stop; fill in the result.

    Args:
        assemblies: one a seed.
        program: how segments are collected.
        result: what is filled in.
        on_update: called with a seed and the metrics of every update of it.
        stop: asks all to stop.
        held: keeps the seeds' directories for this process.
    """
    trainings = {a.config.seed: _begin(a, result.path, held) for a in assemblies}
    # one program fills a GPU
    at_once = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    groups = [Group.of(some, program) for some in dealt(list(trainings.values()), at_once)]
    config = assemblies[0].config
    pace = Pace(one_by_one=config.checkpoint_seconds == 0 or config.video_every > 0)
    alive, stopped = dict(trainings), False
    with (
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(len(groups)) as threads,
        _saving_on_errors(alive),
    ):
        for seed, training in trainings.items():
            report = None if on_update is None else of_seed(on_update, seed)
            stack.enter_context(training.recording(report))
            training.stop = stop
        while alive and not stopped:
            wanted = next(iter(alive.values())).updates_left
            if not wanted:
                break
            started, count = time.perf_counter(), pace.count(wanted)
            run = for_another_thread(lambda group, n=count: group.run(n))
            reports = list(threads.map(run, groups))
            seconds = time.perf_counter() - started
            pace.took(count, seconds)
            for group, rows in zip(groups, reports, strict=True):
                for training, after, mine in group.dealt_out(rows, count):
                    seed = training.assembly.config.seed
                    if seed not in alive:
                        continue
                    try:
                        _take(training, program, mine, seconds, after)
                    except NonFiniteError as error:
                        result.failures[seed] = error
                        del alive[seed]
            stopped = stop.is_set()
    for group in groups:
        group.hand_back()
    for training in alive.values():
        run = training.finish(interrupted=stopped and training.updates_left > 0)
        result.runs[run.config.seed] = run


def _begin(assembly: Assembly, out: Path | None, held: contextlib.ExitStack) -> Training:
    path = _path_of(assembly.config, out)
    return Training.begin(assembly, held.enter_context(entry.begun_directory(path)))


@contextlib.contextmanager
def _saving_on_errors(alive: dict[int, Training]) -> Iterator[None]:
    """Save every seed where something ends them all, such as an error of the callback."""
    try:
        yield
    except BaseException:
        for training in alive.values():
            with contextlib.suppress(Exception):  # report the first failure only
                training.save()
        raise


def _take(
    training: Training,
    program: SegmentProgram,
    reports: list[UpdateReport],
    seconds: float,
    after: StateAndLanes,
) -> None:
    """Give one seed its results of a program."""
    training.time_spent(collect_and_update=seconds)
    bad = first_unsound(reports)
    if bad is None:
        training.take(after)
        training.record(reports, seconds)
        training.save_if_due()
        return
    if bad:  # alone, from the state before the program
        training.record(training.updates(program, bad), seconds)
    alone = training.updates(program, 1)  # raises, and says what is not finite
    training.record(alone, seconds)
    training.save()  # what was trained alone is good, and a resumed run goes on from it
    raise training.failed(
        NonFiniteError(
            f"NaN or infinity in update {training.progress.updates} when seeds are trained "
            "together, but not when this seed is trained alone; resume it, or train it, alone"
        )
    )
