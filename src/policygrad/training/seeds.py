"""The same run for many seeds at once, each as if it were trained alone.

JAX-native environments: vmapped over the seeds, one program a processor, on a GPU one for all.
Others: side by side in spawned worker processes. Every seed writes a run directory of its own.
"""

import contextlib
import itertools
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from policygrad.core.errors import NonFiniteError, PolicygradError, UserError
from policygrad.core.modules import is_array
from policygrad.devices.compiled_code import for_another_thread
from policygrad.runs import RunDirectory, sinks
from policygrad.training import entry
from policygrad.training.config import TrainConfig
from policygrad.training.programs import Pace, Report, Rolling, Segments, first_unsound, learn_many
from policygrad.training.session import Run, Session, segments_of, stop_requests
from policygrad.training.workers import OnSeedUpdate, SideBySide


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in their seed alone.

    Attributes:
        path: the directory that holds `seed-0`, `seed-1` and so on; None where nothing was written.
        runs: by seed, those that ended or were interrupted.
        failures: by seed, why the others did not end.
    """

    path: Path | None
    runs: dict[int, Run] = field(default_factory=dict)
    failures: dict[int, PolicygradError] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether any run was stopped before its last step."""
        return any(run.interrupted for run in self.runs.values())


def train_seeds(
    env: Any,
    seeds: Iterable[int] = range(5),
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    policy: Any = None,
    estimator: Any = None,
    optimiser: Any = None,
    env_kwargs: dict[str, Any] | None = None,
    on_update: OnSeedUpdate | None = None,
    config: TrainConfig | None = None,
    **settings: Any,
) -> SeedRuns:
    """Train with several seeds at once, each as `train` would alone.

    Args:
        env, policy, estimator, optimiser, env_kwargs, config, settings: as `train` takes them,
            without a seed. What is passed as an object must be picklable where the environment is
            not JAX-native, as it goes to worker processes.
        seeds: distinct.
        out: directory in which each seed gets one of its own, `seed-0` and so on.
        jobs: worker processes at a time; None for as many as there are processors. Vmapped seeds
            need none.
        on_update: called with a seed and the metrics of every update of it.

    Returns:
        The runs. A seed that fails does not end the others; its error is in `failures`.

    Raises:
        UserError: a setting, or a seed that is out of range or given twice; nothing was trained.

    Bias: side by side, each seed's weights equal those of `train` bit for bit. Vmapped, batched
    matrix products may round differently, by a relative 1e-6 in length after one update.
    """
    seeds = checked_seeds(seeds)
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    if config is not None and settings:
        raise UserError(f"give config or settings, not both; got config and {sorted(settings)}")
    for name, value in (("estimator", estimator), ("optimiser", optimiser)):
        if isinstance(value, str):
            settings[name] = value
    estimator = None if isinstance(estimator, str) else estimator
    optimiser = None if isinstance(optimiser, str) else optimiser
    config = config or entry.make_config(settings)
    configs = [replace(config, seed=seed) for seed in seeds]
    result = SeedRuns(None if out is None else Path(out))
    if result.path is not None:
        RunDirectory.check_free(result.path)
        for seed in seeds:
            RunDirectory.check_free(result.path / f"seed-{seed}")

    first = Session.start(env, configs[0], policy, estimator, optimiser, env_kwargs or {})
    segments = segments_of(first.collector)
    objects = (policy, estimator, optimiser, env_kwargs or {})
    if segments is None:
        first.collector.close()
        workers = SideBySide(
            env, configs, objects, result.path, jobs or os.cpu_count() or 1, on_update
        )
        workers.run()
        result = replace(result, runs=workers.runs, failures=workers.failures)
    else:
        rest = [Session.start(env, c, *objects) for c in configs[1:]]
        _vmapped([first, *rest], segments._replace(processors=None), result, on_update)
    order = {seed: result.runs[seed] for seed in seeds if seed in result.runs}
    return replace(result, runs=order)


def checked_seeds(seeds: Iterable[int]) -> list[int]:
    """Seeds in the order given; UserError where there is none, or one twice."""
    seeds = list(seeds)
    if not seeds:
        raise UserError("--seeds names no seed; give some, such as 0..4 or 0,3,7")
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise UserError(f"--seeds names {twice[0]} twice")
    return seeds


def _vmapped(
    sessions: list[Session], segments: Segments, result: SeedRuns, on_update: OnSeedUpdate | None
) -> None:
    """Train all sessions, which differ in their seeds, in one program a processor, or GPU."""
    leader = sessions[0]
    if result.path is not None:
        for session in sessions:
            path = result.path / f"seed-{session.config.seed}"
            session.open_directory(RunDirectory.create(path))
    # a GPU fills itself from one program
    at_once = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    programs = [_Program.of(some) for some in dealt(sessions, at_once)]
    pace = Pace(one_by_one=leader.config.checkpoint_seconds == 0)
    alive, stopped = {session.config.seed: session for session in sessions}, False
    with (
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(len(programs)) as threads,
        stop_requests() as stop,
    ):
        writers = {s.config.seed: stack.enter_context(s.writers()) for s in sessions}
        while alive and not stopped:
            wanted = next(iter(alive.values())).updates_left
            if not wanted:
                break
            started, count = time.perf_counter(), pace.count(wanted)
            run = for_another_thread(lambda program, n=count: program.run(segments, n))
            reports = list(threads.map(run, programs))
            seconds = time.perf_counter() - started
            pace.took(count, seconds)
            for program, rows in zip(programs, reports, strict=True):
                carried = on_host(program.rolling)
                for i, session in enumerate(program.sessions):
                    seed = session.config.seed
                    if seed not in alive:
                        continue
                    mine = [jax.tree.map(lambda x, i=i, n=n: x[n, i], rows) for n in range(count)]
                    rolling = one_of(carried, i)
                    try:
                        _take(session, segments, mine, seconds, rolling, writers[seed], on_update)
                    except NonFiniteError as error:
                        result.failures[seed] = error
                        del alive[seed]
            stopped = stop.is_set()
    for program in programs:
        carried = on_host(program.rolling)
        for i, session in enumerate(program.sessions):
            session.take(on_device(one_of(carried, i)))
    for session in alive.values():
        run = session.finish(interrupted=stopped and session.updates_left > 0)
        result.runs[session.config.seed] = run


@dataclass
class _Program:
    """Seeds that are trained in one program, on one processor.

    Chunks that fit the near cache leave a program no use for a second processor: another program,
    in a thread of its own, has.
    """

    sessions: list[Session]
    run_keys: Any
    rolling: Rolling

    @classmethod
    def of(cls, sessions: list[Session]) -> "_Program":
        run_keys = jnp.stack([session.run_key for session in sessions])
        rolling = stacked([Rolling(s.learner, s.collector.snapshot()) for s in sessions])
        return cls(sessions, run_keys, rolling)

    def run(self, segments: Segments, count: int) -> Report:
        """`count` updates of every seed; their reports, on the host."""
        self.rolling, reports = learn_many(
            self.sessions[0].algorithm,
            segments,
            self.run_keys,
            self.rolling,
            jnp.asarray(count, jnp.int32),
            self.sessions[0].config.monitor_every,
        )
        return jax.device_get(reports)


def dealt(items: list[Any], parts: int) -> list[list[Any]]:
    """Items in order, in at most so many runs of nearly equal length."""
    parts = min(parts, len(items))
    edges = [len(items) * i // parts for i in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(edges)]


def _take(
    session: Session,
    segments: Segments,
    reports: list[Report],
    seconds: float,
    rolling: Rolling,
    writers: list[sinks.Sink],
    on_update: OnSeedUpdate | None,
) -> None:
    """Hand one seed what a program reported of it."""
    seed = session.config.seed
    report = on_update and (lambda metrics: on_update(seed, metrics))
    session.time_spent(collect_and_update=seconds)
    if first_unsound(reports) is not None:
        # by itself from where the program began; the second time it fails at its first update
        for _ in range(2):
            alone = session.learn_many(segments, len(reports))
            session.record(alone, seconds, writers, report)
        raise NonFiniteError(f"NaN or infinity after update {session.updates}")
    session.take(rolling)
    session.record(reports, seconds, writers, report)
    session.save_if_due()


def stacked(trees: list[Any]) -> Any:
    """Pytrees of one structure as one, with a leading axis over them."""
    arrays, rest = zip(*[eqx.partition(tree, eqx.is_array) for tree in trees], strict=True)

    def stack(*x: Any) -> Any:  # on the host: a dispatch for every leaf of every seed adds up
        return jnp.stack(x) if is_key(x[0]) else jnp.asarray(np.stack(x))

    return eqx.combine(jax.tree.map(stack, *arrays), rest[0])


def one_of(tree: Any, i: int) -> Any:
    """The i-th of stacked pytrees."""
    return jax.tree.map(lambda x: x[i, ...] if is_array(x) else x, tree)


def on_host(tree: Any) -> Any:
    """Arrays as NumPy's, of which thousands of slices cost nothing; but for random keys."""
    return jax.tree.map(lambda x: np.asarray(x) if eqx.is_array(x) and not is_key(x) else x, tree)


def on_device(tree: Any) -> Any:
    """NumPy's arrays as JAX's."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)


def is_key(x: Any) -> bool:
    """Whether an array is of typed random keys, which NumPy has not."""
    return jnp.issubdtype(x.dtype, jax.dtypes.extended)
