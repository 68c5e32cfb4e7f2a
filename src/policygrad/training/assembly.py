"""The values that a run consists of: put together once, before it begins."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

import policygrad
from policygrad import environments
from policygrad.algorithms import PPO, Learner
from policygrad.core.describing import described
from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.core.settings import flag
from policygrad.core.usual import BATCH_STEPS, longest_episode
from policygrad.devices.compiled_code import free_compiled_code
from policygrad.devices.sharing import Sharing, parts_for, sharing_of
from policygrad.devices.starting import show_processors
from policygrad.environments.atari import is_atari, with_preprocessing
from policygrad.evaluating import Place, check_watching
from policygrad.gradients.weights import Estimator
from policygrad.policies.meeting import Policy, WithMemory
from policygrad.rollout.block_source import BlockSource
from policygrad.rollout.blocks import Elsewhere, Lanes, usual_lanes
from policygrad.rollout.collectors import Collector
from policygrad.rollout.engines import Engine, open_source
from policygrad.rollout.source import Source, episodes_of
from policygrad.runs import sinks
from policygrad.spaces import action_space_of, observation_space_of
from policygrad.training import own_policy
from policygrad.training.adaptive_batch import AdaptiveBatch
from policygrad.training.building import build_learner, build_policy
from policygrad.training.built_in import ValueNetworkSettings
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given
from policygrad.training.history import History, rebuilds_policy
from policygrad.training.keys import RunKeys
from policygrad.training.own_steps import asked_about_steps, first_steps_of, without_step_size
from policygrad.training.own_values import DESCRIBED
from policygrad.training.programs import TrainState
from policygrad.training.resolve import Resolved, asked_settings, resolve
from policygrad.training.soundness import TaskSpaces
from policygrad.training.tally import EpisodeTally
from policygrad.training.versions import versions

MINIBATCHES = {
    "ppo_minibatches": PPO.minibatches,
    "critic_minibatches": ValueNetworkSettings.critic_minibatches,
}

CollectorMaker = Callable[[Source, Policy, PRNGKeyArray, TrainConfig], Collector]


@dataclass(frozen=True)
class Task:
    """The environment of a run, as it was passed.

    Attributes:
        env: an id or an object.
        env_kwargs: arguments of the environment.
        engine: what opens the environment; None for the library's own engines.
        collector: (source, policy, key, config) -> a collector; None for the source's own.
        elsewhere: where blocks of lanes are collected, which no record depends on; None for this
            process.
    """

    env: Any
    env_kwargs: dict[str, Any]
    engine: Engine | None = None
    collector: CollectorMaker | None = None
    elsewhere: Elsewhere | None = None

    @classmethod
    def of(
        cls,
        env: Any,
        env_kwargs: dict[str, Any],
        engine: Engine | None = None,
        collector: CollectorMaker | Elsewhere | None = None,
        *,
        processes: bool = False,
        groups: bool = False,
    ) -> "Task":
        """The environment, and what collects from it, as `train` takes them.

        An id without an engine gets the one that a new run takes, and an Atari game its
        preprocessing.
        """
        if engine is None:
            env = environments.choose_engine(
                env, processes=processes, kwargs=env_kwargs, groups=groups
            )
            env_kwargs = with_preprocessing(env, env_kwargs)
        if isinstance(collector, Elsewhere):
            return cls(env, env_kwargs, engine, None, collector)
        return cls(env, env_kwargs, engine, collector)

    @property
    def names(self) -> list[str]:
        """The names of what was passed as an object, and so is in no file."""
        found = ["env"] if self.engine is None and environments.describe(self.env) is None else []
        return found + [n for n in ("engine", "collector") if getattr(self, n) is not None]


@dataclass(frozen=True)
class Assembly:
    """A run's values.

    Attributes:
        task: the run's environment.
        resolved: the value of every setting.
        given: values that were passed in place of names.
        policy: the policy before the first update.
        learner: computes an update.
        collector: fills batches.
        keys: the random keys of the run.
        spaces: of one environment, by which records are checked.
        sharing: the parts that a batch is cut into.
        source: the environments.
        history: where the policy came from, and what was changed since.
    """

    task: Task
    resolved: Resolved
    given: Given
    policy: Policy
    learner: Learner
    collector: Collector
    keys: RunKeys
    spaces: TaskSpaces
    sharing: Sharing
    source: Source
    history: History = field(default_factory=History)

    @property
    def config(self) -> TrainConfig:
        """The value of every setting."""
        return self.resolved.config

    @property
    def info_names(self) -> tuple[str, ...]:
        """The names of the numbers in the infos of records."""
        return tuple(getattr(self.source, "info_names", ()))

    @property
    def longest_episode(self) -> int:
        """Steps of the longest whole episode that is collected."""
        return longest_episode(self.config.max_episode_steps, self.source.time_limit)

    @property
    def schedule(self) -> str | None:
        """How steps shrink over the run; None if the optimiser takes steps of its own."""
        own = self.given.algorithm is not None
        return self.resolved.algorithm.step_size_schedule if own else self.config.step_size_schedule

    def description(self) -> dict[str, Any]:
        """What `config.json` holds."""
        passed = [n for n in self.given.names if n != "policy" or not self.begins_from_a_policy]
        return {
            "policygrad": policygrad.__version__,
            "env": environments.describe(self.task.env),
            "env_kwargs": self.task.env_kwargs,
            "objects": passed + self.task.names,
            "begins_from_a_policy": self.begins_from_a_policy,
            "values": self._values(),
            "optimiser_steps": self.optimiser_steps,
            "config": self.config.to_json(),
            "versions": versions(),
            **self.history.to_json(),
        }

    @property
    def optimiser_steps(self) -> list[float] | None:
        """What tells an optax optimiser that was passed from others; None without one."""
        return first_steps_of(self.resolved.algorithm, self.policy)

    def _values(self) -> dict[str, Any]:
        """What was passed as objects, as far as JSON tells it from others."""
        found = {n: described(getattr(self.given, n)) for n in self.given.names if n in DESCRIBED}
        env = environments.qualified_name(self.task.env) if "env" in self.task.names else None
        return found if env is None else found | {"env": env}

    @property
    def begins_from_a_policy(self) -> bool:
        """Whether a policy was passed that a resumed run rebuilds from its own files."""
        return rebuilds_policy(self.given)

    def close(self) -> None:
        """Release the environments, also those that a collector of the user's own has not."""
        self.collector.close()
        if self.task.collector is not None:
            self.source.close()

    def fresh(self) -> TrainState:
        """The state before the first update."""
        space, columns = self.source.observation_space, self.config.columns
        example = observation_space_of(space).example()
        learner = self.learner.init(self.keys.learner, self.policy, example, columns)
        gradient = None
        if self.config.measures_noise:
            gradient = jax.tree.map(jnp.zeros_like, split(self.policy)[0])
        return TrainState(learner, EpisodeTally.init(columns, len(self.info_names)), gradient)

    def fresh_batch(self) -> AdaptiveBatch | None:
        """The size of the first batch, if sizes adapt."""
        return AdaptiveBatch.init() if self.config.adaptive else None


def assemble(
    task: Task, config: TrainConfig, given: Given, history: History | None = None
) -> Assembly:
    """Put a run together, without touching the disk.

    Args:
        task: its environment.
        config: the settings that were asked for.
        given: values that were passed in place of names.
        history: where a policy that was passed came from, and what was changed since.

    Raises:
        UserError: an argument or a setting is out of range, unknown or unsupported.
    """
    show_processors()
    free_compiled_code()
    asked = asked_about_steps(config, given)
    history = history or History()
    if history.asked is None:
        history = replace(history, asked=asked_settings(config, given))
    config = _in_blocks(config, task)
    before = resolve(config, given)[0].config  # the environment is opened with
    sinks.check(tensorboard=before.tensorboard, wandb=before.wandb)
    if before.video_every:
        check_watching(Place(task.env, task.env_kwargs, task.engine))
    source = _opened(task, before)
    opened = source is not task.env
    with closing_on_failure(source) if opened else contextlib.nullcontext():
        spaces = (
            observation_space_of(source.observation_space),
            action_space_of(source.action_space),
        )
        resolved, given = resolve(config, given, *spaces)
        return _around(source, task, resolved, given, asked, history)


def _in_blocks(config: TrainConfig, task: Task) -> TrainConfig:
    """The configuration with blocks of lanes, if they are collected elsewhere."""
    if task.elsewhere is None or config.lanes_per_block is not None:
        return config
    return replace(config, lanes_per_block=usual_lanes(config.num_envs))


def _opened(task: Task, config: TrainConfig) -> Source:
    """The environments of a run."""
    env, kwargs, step_timeout = task.env, task.env_kwargs, config.step_timeout
    lanes = config.lanes_per_block
    if lanes is None:
        return open_source(
            env, config.num_envs, engine=task.engine, processes=config.processes, kwargs=kwargs,
            step_timeout=step_timeout,
        )  # fmt: skip
    if task.engine is not None:
        raise UserError(
            f"engine={type(task.engine).__name__} opens all environments at once, and blocks of "
            f"{lanes} of them are opened one by one; leave lanes_per_block and workers out"
        )
    places = None if task.elsewhere is None else task.elsewhere.places()
    return BlockSource(Lanes(env, config.num_envs, lanes, kwargs, step_timeout), places)


def _around(
    source: Source,
    task: Task,
    resolved: Resolved,
    given: Given,
    asked: dict[str, Any],
    history: History,
) -> Assembly:
    """The run around environments that are open."""
    config = _in_environment(resolved.config, source, history.asked or ())
    if config.clip_rewards is None:
        config = replace(config, clip_rewards=is_atari(task.env))
    resolved = replace(resolved, config=config)
    keys = RunKeys.of(config.seed)
    spaces = source.observation_space, source.action_space
    if given.policy is not None:
        given = replace(given, policy=own_policy.taken(given.policy, own_policy.Spaces(*spaces)))
    policy = build_policy(resolved, given, keys.policy, *spaces)
    config = without_step_size(config, resolved.algorithm, asked, policy)
    learner = build_learner(resolved, given, spaces[0], source.time_limit)
    if learner.estimator.whole_episodes and not config.whole_episodes:
        raise UserError(
            f"the estimator {learner.estimator.form} needs whole episodes: "
            f"{learner.estimator.why_whole_episodes}; give batch_episodes, or another estimator"
        )
    _check_groups(learner.estimator, config)
    _check_minibatches(config, policy)
    collector = _collector(
        task, source, policy, keys, config, with_greedy=learner.estimator.reads_greedy
    )
    parts = _parts(config, collector)
    resolved = replace(resolved, config=replace(config, processors=parts))
    in_programs = source.pure is not None and task.collector is None  # else read on the host
    checked = TaskSpaces(
        action_space_of(spaces[1]), observation_space_of(spaces[0]) if in_programs else None
    )
    return Assembly(
        task, resolved, given, policy, learner, collector, keys, checked,
        sharing_of(parts, config.num_envs), source, history,
    )  # fmt: skip


def _check_groups(estimator: Estimator, config: TrainConfig) -> None:
    """Raise UserError for groups whose size or number does not suit the estimator."""
    if estimator.group is None:
        return
    if config.adaptive:
        raise UserError(
            "--batch-episodes adaptive weighs episodes that start independently, and the estimator "
            "weighs them in groups; give a number"
        )
    size, episodes = config.group_size, config.columns
    try:
        estimator.group.check_size(episodes // size, size)
    except ValueError as error:
        raise UserError(f"{error}; --batch-episodes is {episodes}, --group-size {size}") from error


def _check_minibatches(config: TrainConfig, policy: Policy) -> None:
    """Raise UserError for a pass with more minibatches than a batch has parts. The usual numbers
    are of any batch, and hold as far as it goes."""
    memory = isinstance(policy, WithMemory)
    if config.adaptive or (config.whole_episodes and not memory):
        return  # batches differ
    parts, unit = config.steps_per_batch, "steps"
    if memory:
        parts, unit = config.columns, "episodes" if config.whole_episodes else "environments"
    for name, usual in MINIBATCHES.items():
        asked = getattr(config, name)
        if asked is not None and asked != usual and asked > parts:
            why = ", whose steps stay together for a policy with memory" if memory else ""
            raise UserError(
                f"{flag(name)} is {asked}, and a batch has {parts} {unit}{why}; give at most that"
            )


@contextlib.contextmanager
def closing_on_failure(environments: Assembly | Source) -> Iterator[None]:
    """Release environments where something fails; the first failure is reported."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            environments.close()
        raise


def _collector(
    task: Task,
    source: Source,
    policy: Policy,
    keys: RunKeys,
    config: TrainConfig,
    *,
    with_greedy: bool,
) -> Collector:
    if task.collector is not None:
        return task.collector(source, policy, keys.environments, config)
    if not config.whole_episodes:
        return source.segments(policy, keys.environments, config.rows)
    limit = longest_episode(config.max_episode_steps, source.time_limit)
    return episodes_of(
        source, policy, keys.environments, config.columns, limit, group_size=config.group_size,
        with_greedy=with_greedy,
    )  # fmt: skip


def _parts(config: TrainConfig, collector: Collector) -> int:
    """The number of parts that a batch is cut into: the setting, or else `parts_for`."""
    if collector.program() is None:  # the host collects, and one processor updates
        if config.processors not in (None, 1):
            raise UserError(
                f"--processors {config.processors} is read only if segments of a JAX-native "
                "environment are collected; leave it out"
            )
        return 1
    if config.processors is None:
        return parts_for(config.num_envs, config.steps_per_batch)
    return config.processors


def _in_environment(config: TrainConfig, source: Source, asked: Collection[str]) -> TrainConfig:
    """The configuration with the number of lanes that the environment has, if it has its own
    number; a size of a batch of segments that nobody asked for is rounded to a multiple of it."""
    num_envs = source.num_envs
    if config.num_envs not in (num_envs, TrainConfig.num_envs):  # so it was asked for
        raise UserError(
            f"--num-envs {config.num_envs} was given, and the environment that was passed steps "
            f"{num_envs} together; leave it out"
        )
    if config.whole_episodes:
        return replace(config, num_envs=num_envs)
    steps = config.steps_per_batch
    if "batch_steps" not in asked and steps == BATCH_STEPS and num_envs != config.num_envs:
        steps = max(1, round(steps / num_envs)) * num_envs
    config = replace(config, batch_steps=steps)
    config.check_rows(num_envs)
    return replace(config, num_envs=num_envs)
