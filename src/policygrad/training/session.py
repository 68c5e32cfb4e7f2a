"""A run in progress and its loop: collect a batch, update, record, now and then save."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import policygrad
from policygrad import environments
from policygrad.algorithms import Algorithm
from policygrad.core.errors import NonFiniteError, UserError
from policygrad.core.modules import split
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import for_another_thread, make_room
from policygrad.devices.sharing import processors, whole
from policygrad.diagnostics.monitor import noise_metrics
from policygrad.environments.lanes import Lanes
from policygrad.gradients.estimators import Estimator
from policygrad.policies.agent import Agent
from policygrad.rollout import Collector, make_collector
from policygrad.rollout.collectors import CompiledEpisodes, CompiledSegments, HostEpisodes
from policygrad.runs import MetricsFile, RunDirectory, sinks, storage
from policygrad.runs.directory import CURVE, SUMMARY
from policygrad.runs.policy_files import policy_to_files
from policygrad.spaces import space_of
from policygrad.training import programs as learning
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.building import build_algorithm, build_policy
from policygrad.training.config import TrainConfig
from policygrad.training.programs import (
    Learner,
    Pace,
    Report,
    Rolling,
    Segments,
    first_unsound,
    keys_of,
    refit_once,
    rows_of,
    step_once,
    watch_once,
)
from policygrad.training.soundness import check_finite
from policygrad.training.tally import EpisodeTally, recent_mean

Metrics = dict[str, Any]
OnUpdate = Callable[[Metrics], None]


@dataclass(frozen=True)
class Run:
    """A training run that has ended.

    Attributes:
        path: its directory; None where nothing was written.
        config: what was asked for.
        agent: the trained policy, with the spaces it acts between.
        metrics: one dictionary an update.
        summary: how it ended.
        env: the environment, as it was passed.
        interrupted: it was stopped before its last step.
        env_kwargs: the arguments that the environment was made with from its id.
        engine: what opened it; None for the engine that its id names.
    """

    path: Path | None
    config: TrainConfig
    agent: Agent
    metrics: list[Metrics]
    summary: Metrics
    env: Any
    interrupted: bool = False
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    engine: Any = None

    @property
    def policy(self) -> Any:
        """The trained policy: raw observation -> distribution."""
        return self.agent.policy


class Unsettled(NamedTuple):
    """An update whose critic and baseline are being refitted.

    Attributes:
        report: without what the refit logs.
        refit: the estimator's state, and what is logged of it.
    """

    report: Report
    refit: Future


@dataclass
class Session:
    """A run in progress: the values above, and what changes from update to update."""

    env: Any
    config: TrainConfig
    collector: Collector
    algorithm: Algorithm
    learner: Learner
    objects: list[str]
    env_kwargs: dict[str, Any]
    batch: AdaptiveBatch | None = None
    directory: RunDirectory | None = None
    env_steps: int = 0
    seconds: float = 0.0
    resumed_exactly: bool | None = None
    metrics: list[Metrics] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=lambda: {"save": 0.0})
    last_save: float = field(default_factory=time.perf_counter)
    last_record: float = field(default_factory=time.perf_counter)
    unsettled: Unsettled | None = None

    @classmethod
    def start(
        cls,
        env: Any,
        config: TrainConfig,
        policy: Any,
        estimator: Estimator | None,
        optimiser: optax.GradientTransformation | None,
        env_kwargs: dict[str, Any],
    ) -> "Session":
        """Build everything that a run consists of, without touching the disk."""
        make_room()
        sinks.check(tensorboard=config.tensorboard, wandb=config.wandb)
        objects = [
            name
            for name, value in (
                ("policy", policy), ("estimator", estimator), ("optimiser", optimiser),
            )
            if value is not None
        ]  # fmt: skip
        if environments.describe(env) is None:
            objects.append("env")
        environment = environments.make(
            env, config.num_envs, processes=config.processes, kwargs=env_kwargs
        )
        if isinstance(environment, Lanes) and environment.num_envs != config.num_envs:
            config = _with_num_envs(config, environment.num_envs)
        policy_key, environment_key, state_key = jax.random.split(jax.random.key(config.seed), 3)
        spaces = environment.observation_space, environment.action_space
        if policy is None:
            policy = build_policy(config, policy_key, *spaces)
        algorithm = build_algorithm(
            config,
            environment.observation_space,
            time_limit=environment.time_limit,
            estimator=estimator,
            optimiser=optimiser,
        )
        if algorithm.estimator.whole_episodes and config.batch_episodes is None:
            raise UserError(
                f"the estimator {algorithm.estimator.form} needs whole episodes; give "
                "batch_episodes, or an estimator with a critic"
            )
        collector = make_collector(
            environment,
            policy,
            environment_key,
            num_envs=config.num_envs,
            steps=_rows(config),
            episodes=None if config.batch_episodes is None else config.columns,
            max_episode_steps=config.max_episode_steps,
        )
        example = space_of(environment.observation_space).example()
        state = algorithm.init(state_key, policy, example, config.columns)
        learner = Learner(state, EpisodeTally.init(config.columns))
        if config.measures_noise:
            learner = learner._replace(last_gradient=jax.tree.map(jnp.zeros_like, split(policy)[0]))
        batch = AdaptiveBatch.init() if config.adaptive else None
        return cls(env, config, collector, algorithm, learner, objects, env_kwargs, batch)

    def open_directory(self, directory: RunDirectory) -> None:
        """Begin to write to a directory: the configuration, and a first checkpoint."""
        self.directory = directory
        directory.write_config(self._description())
        self._save_checkpoint()

    @property
    def run_key(self) -> Any:
        """From which the keys of every update follow."""
        return jax.random.fold_in(jax.random.key(self.config.seed), 1)

    @property
    def updates(self) -> int:
        """How many updates were made."""
        return int(self.learner.state.updates)

    @property
    def updates_left(self) -> int:
        """How many more batches the run asks for; at least as many, where batches differ."""
        unrecorded = 0 if self.unsettled is None else int(self.unsettled.report.steps)
        left = max(0, self.config.total_steps - self.env_steps - unrecorded)
        if self.config.batch_episodes is not None:
            return min(left, 1)
        return -(-left // self.config.steps_per_batch)

    def run(self, on_update: OnUpdate | None = None) -> Run:
        """Train to the last step, or to the first Ctrl-C."""
        segments = segments_of(self.collector)
        with self.writers() as writers, stop_requests() as stop:
            if segments is None:
                self._run_overlapped(stop, writers, on_update)
            else:
                self._run_compiled(segments, stop, writers, on_update)
        return self.finish(interrupted=self.updates_left > 0)

    def _run_compiled(self, segments: Segments, stop: threading.Event, *record_to: Any) -> None:
        """Many updates a program."""
        pace = Pace(one_by_one=self.config.checkpoint_seconds == 0)
        while self.updates_left and not stop.is_set():
            started, count = time.perf_counter(), pace.count(self.updates_left)
            reports = self.learn_many(segments, count)
            seconds = time.perf_counter() - started
            pace.took(count, seconds)
            self.record(reports, seconds, *record_to)
            self.save_if_due()

    def _run_overlapped(self, stop: threading.Event, *record_to: Any) -> None:
        """One update after the other; each is refitted while the next batch is collected."""
        with ThreadPoolExecutor(1) as worker:
            while self.updates_left and not stop.is_set():
                try:
                    trajectories = self._collect()
                finally:  # where the environment raises, what came before it is recorded too
                    self._settle(*record_to)
                self._step(trajectories, worker)
                if self._save_is_due or stop.is_set() or not self.updates_left:
                    # the environments are where this update left them: what a checkpoint needs
                    self._settle(*record_to)
                    self.save_if_due()

    def _collect(self) -> Trajectories:
        started = time.perf_counter()
        collect_key, _ = keys_of(self.run_key, self.updates)
        if self.batch is not None:
            assert isinstance(self.collector, (HostEpisodes, CompiledEpisodes))
            self.collector.episodes = int(self.batch.episodes)
        trajectories = self.collector.collect(self.learner.state.policy, collect_key)
        self.time_spent(collect=time.perf_counter() - started)
        return trajectories

    def _step(self, trajectories: Trajectories, worker: ThreadPoolExecutor) -> None:
        """Improve the policy, and let the worker begin with the refit."""
        started = time.perf_counter()
        _, update_key = keys_of(self.run_key, self.updates)
        before = self.learner
        space = space_of(self.collector.action_space)
        learner, rest, report = step_once(self.algorithm, space, before, trajectories, update_key)
        if self.config.monitors(self.updates + 1):
            gradient, moments = watch_once(self.algorithm, before, trajectories)
            learner = learner._replace(last_gradient=gradient)
            report = report._replace(moments=moments)
        report = jax.device_get(report)
        if first_unsound([report]) is not None:
            self._refuse(report, trajectories)
        self.learner = learner
        if self.batch is not None and report.moments is not None:
            self.batch = self.batch.after(report.moments)
        refit = for_another_thread(
            lambda: jax.block_until_ready(refit_once(self.algorithm, learner.state.estimator, rest))
        )
        self.unsettled = Unsettled(report, worker.submit(refit))
        self.time_spent(update=time.perf_counter() - started)

    def _settle(self, *record_to: Any) -> None:
        """Wait for the refit of the newest update, if any is going on, and record the update."""
        if self.unsettled is None:
            return
        started = time.perf_counter()
        estimator, info = self.unsettled.refit.result()
        report = self.unsettled.report.completed(jax.device_get(info))
        self.unsettled, self.learner = None, self.learner.with_estimator(estimator)
        now = time.perf_counter()
        self.time_spent(wait_for_refit=now - started)
        self.record([report], now - self.last_record, *record_to)

    def learn_many(self, segments: Segments, count: int) -> list[Report]:
        """`count` updates in one program."""
        started = time.perf_counter()
        start = Rolling(self.learner, self.collector.snapshot())

        def run(count: int) -> tuple[Rolling, Report]:
            number = jnp.asarray(count, jnp.int32)
            return learning.learn_many(
                self.algorithm, segments, self.run_key, start, number, self.config.monitor_every
            )

        rolling, reports = run(count)
        reports = rows_of(reports, count)
        self.time_spent(collect_and_update=time.perf_counter() - started)
        bad = first_unsound(reports)
        if bad == 0:  # once more, for its batch
            collect_key, _ = keys_of(self.run_key, self.updates)
            policy = self.learner.state.policy
            self._refuse(reports[0], self.collector.collect(policy, collect_key))
        if bad:  # what came before it stands; it is the first of the next program
            (rolling, _), reports = run(bad), reports[:bad]
        self.take(rolling)
        return reports

    def take(self, rolling: Rolling) -> None:
        """Take over what a program of many updates carried on."""
        self.learner = rolling.learner
        self.collector.restore(rolling.lanes)

    def _refuse(self, report: Report, trajectories: Trajectories) -> None:
        try:
            check_finite(trajectories, self.updates, self.env_steps)
            check_info(report.info, self.updates, self.env_steps)
        except NonFiniteError as error:
            if self.directory is None:
                raise
            self.directory.write_failure(str(error), self.env_steps)
            kept = self.directory.newest_checkpoint()
            raise NonFiniteError(f"{error}; the last good checkpoint is {kept}") from None

    def record(
        self,
        reports: list[Report],
        seconds: float,
        writers: list[sinks.Sink],
        on_update: OnUpdate | None,
    ) -> None:
        """Write down what the newest updates reported."""
        first = self.updates - len(reports) + 1
        for number, report in enumerate(reports, first):
            metrics = self._metrics(number, report, seconds / len(reports))
            self.metrics.append(metrics)
            for writer in writers:
                writer.write(metrics)
            if on_update is not None:
                on_update(metrics)
        self.last_record = time.perf_counter()

    @property
    def _save_is_due(self) -> bool:
        return time.perf_counter() - self.last_save >= self.config.checkpoint_seconds

    def save_if_due(self) -> None:
        """Save a checkpoint where the last one is old enough."""
        if self._save_is_due:
            self._save_checkpoint()

    def _metrics(self, update: int, report: Report, seconds: float) -> Metrics:
        steps, episodes = int(report.steps), int(report.episodes)
        self.env_steps += steps
        self.seconds += seconds
        return {
            "update": update,
            "env_steps": self.env_steps,
            "episodes": episodes,
            "return_mean": recent_mean(report.recent_returns, episodes),
            "length_mean": recent_mean(report.recent_lengths, episodes),
            **{name: float(value) for name, value in report.info.items()},
            **self._noise_metrics(update, report, steps),
            "steps_per_second": steps / seconds,
            "seconds": self.seconds,
        }

    def _noise_metrics(self, update: int, report: Report, steps: int) -> Metrics:
        if report.moments is None or not self.config.monitors(update):
            return {}
        metrics: Metrics = dict(noise_metrics(report.moments, steps))
        if self.batch is not None:
            episodes, scale = int(report.moments.columns), self.batch.noise_scale
            smoothed = scale * steps / episodes if np.isfinite(scale) else None
            metrics |= {"batch_episodes": episodes, "noise_scale_smoothed": smoothed}
        return metrics

    def time_spent(self, **seconds: float) -> None:
        """Add to the timings by name; what came first, which compiles, stands apart."""
        for name, value in seconds.items():
            if f"first_{name}" not in self.timings:
                self.timings |= {f"first_{name}": value, name: 0.0}
            else:
                self.timings[name] += value

    @contextlib.contextmanager
    def writers(self) -> Iterator[list[sinks.Sink]]:
        """Where metrics go, for as long as they come; a failure releases the environments."""
        config, path = self.config, None if self.directory is None else self.directory.path
        writers: list[sinks.Sink] = sinks.make_sinks(
            path, tensorboard=config.tensorboard, wandb=config.wandb, config=config.to_json()
        )
        if self.directory is not None:
            keep = None if self.resumed_exactly is None else self.updates
            writers.append(MetricsFile(self.directory.path / "metrics.jsonl", keep))
        try:
            yield writers
        except BaseException:
            self.collector.close()
            raise
        finally:
            for writer in writers:
                writer.close()

    def finish(self, *, interrupted: bool) -> Run:
        """Save everything, and release the environments."""
        episodes = int(self.learner.tally.episodes)
        agent = Agent(
            whole(self.learner.state.policy),
            self.collector.observation_space,
            self.collector.action_space,
        )
        summary = {
            "env": environments.describe(self.env),
            "seed": self.config.seed,
            "env_steps": self.env_steps,
            "updates": self.updates,
            "episodes": episodes,
            "return_mean": recent_mean(self.learner.tally.recent_returns, episodes),
            "length_mean": recent_mean(self.learner.tally.recent_lengths, episodes),
            "seconds": self.seconds,
            "steps_per_second": self.env_steps / self.seconds if self.seconds else None,
            "timings": self.timings,
            "interrupted": interrupted,
            "resumed_exactly": self.resumed_exactly,
            "path": None if self.directory is None else str(self.directory.path),
        }
        if self.directory is not None:
            self._save_checkpoint()
            self.directory.save_policy(*self._policy_files())
            self.directory.write_json(SUMMARY, summary)
            self._plot()
        self.collector.close()
        return Run(
            None if self.directory is None else self.directory.path,
            self.config, agent, self.metrics, summary, self.env, interrupted, self.env_kwargs,
        )  # fmt: skip

    def _plot(self) -> None:
        assert self.directory is not None
        from policygrad.figures.curves import learning_curve, save_figure

        save_figure(learning_curve([self.directory.path]), self.directory.path / CURVE)

    def _policy_files(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return policy_to_files(
            self.learner.state.policy, self.collector.observation_space, self.collector.action_space
        )

    def _description(self) -> dict[str, Any]:
        return {
            "policygrad": policygrad.__version__,
            "env": environments.describe(self.env),
            "env_kwargs": self.env_kwargs,
            "objects": self.objects,
            "config": self.config.to_json(),
            "versions": {"jax": jax.__version__, "numpy": np.__version__},
        }

    def _save_checkpoint(self) -> None:
        if self.directory is None:
            return
        started = time.perf_counter()
        rest = self.learner.state._replace(policy=None)
        arrays, data = self._policy_files()
        arrays |= storage.to_arrays(rest, "state")
        arrays |= storage.to_arrays(self.collector.snapshot(), "environments")
        arrays |= storage.to_arrays(self.learner.tally, "episodes")
        arrays |= storage.to_arrays(self.learner.last_gradient, "last_gradient")
        arrays |= storage.to_arrays(self.batch, "batch")
        data |= {"env_steps": self.env_steps, "seconds": self.seconds}
        self.directory.save_checkpoint(self.env_steps, arrays, data, self.config.keep_checkpoints)
        self.last_save = time.perf_counter()
        self.timings["save"] += self.last_save - started

    def continue_from(self, directory: RunDirectory) -> None:
        """Take over the newest checkpoint of a directory, and go on writing to it."""
        self.directory = directory
        stem = directory.newest_checkpoint() / "state"
        arrays, data = storage.load(stem)

        def read(like: Any, prefix: str, shapes: bool = True) -> Any:
            return storage.from_arrays(like, arrays, prefix, stem, shapes=shapes)

        self.env_steps, self.seconds = int(data["env_steps"]), float(data["seconds"])
        if self.env_steps >= self.config.total_steps:
            raise UserError(
                f"{directory.path} already has {self.env_steps} of "
                f"{self.config.total_steps} steps; raise --total-steps to train on"
            )
        state, tally, last_gradient = self.learner
        policy = read(state.policy, "policy")
        state = read(state._replace(policy=None), "state")._replace(policy=policy)
        tally = read(tally, "episodes")
        last_gradient = read(last_gradient, "last_gradient")
        self.batch = read(self.batch, "batch")
        self.resumed_exactly = self.collector.restore(
            read(self.collector.snapshot(), "environments", shapes=False)
        )
        if not self.resumed_exactly:  # fresh episodes owe nothing to those that were running
            tally = tally.forget_running()
            scale = state.reward_scale
            scale = scale._replace(running=np.zeros_like(scale.running))
            state = state._replace(reward_scale=scale)
        self.learner = Learner(state, tally, last_gradient)
        directory.clear_failure()
        directory.write_config(self._description())


def _rows(config: TrainConfig) -> int | None:
    return None if config.batch_episodes is not None else config.steps_per_batch // config.num_envs


def _with_num_envs(config: TrainConfig, num_envs: int) -> TrainConfig:
    """The configuration for a vector environment that brings its own number of copies."""
    if config.batch_episodes is not None or config.steps_per_batch % num_envs == 0:
        return replace(config, num_envs=num_envs)
    steps = max(1, round(config.steps_per_batch / num_envs)) * num_envs
    return replace(config, num_envs=num_envs, batch_steps=steps)


def segments_of(collector: Collector) -> Segments | None:
    """How a collector's segments are rolled out in a program of many updates, where they can be."""
    if not isinstance(collector, CompiledSegments):
        return None
    lanes, steps = len(collector.lanes.times), collector.steps
    return Segments(
        collector.environment,
        steps,
        space_of(collector.action_space),
        processors(lanes, lanes * steps),
    )


def check_info(info: Metrics, update: int, env_steps: int) -> None:
    """Refuse an update whose gradient, KL or entropy is NaN or infinite."""
    for name in ("gradient_norm", "kl", "entropy"):
        if not np.isfinite(info[name]):
            raise NonFiniteError(
                f"{info[name]} in the {name.replace('_', ' ')} at update {update + 1} "
                f"(environment step {env_steps}), while observations and rewards are finite: "
                "lower the step size, or look at the policy's outputs"
            )


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts at once.

    Only the main thread may handle signals; elsewhere nothing sets the event.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request(signum: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
