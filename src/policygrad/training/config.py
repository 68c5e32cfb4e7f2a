"""The configuration of a run: one frozen record of settings, for Python, the command and files.

A `TrainConfig` holds what the user gave: a setting that only some choices read is None if it was
not given. `training.resolve` alone fills in the other values.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from policygrad.core.errors import UserError
from policygrad.core.reflection import settings_of
from policygrad.core.settings import (
    Bits,
    Count,
    In,
    LongCount,
    NonNegative,
    Positive,
    Timeout,
    check_setting,
    chosen,
    plain_value,
)
from policygrad.core.usual import BATCH_STEPS
from policygrad.policies.memory import Kind as MemoryKind
from policygrad.spaces.pictures import Channels
from policygrad.training.built_in import (
    ALGORITHMS,
    BASELINES,
    ESTIMATORS,
    OPTIMISERS,
    AlgorithmName,
    BaselineName,
    EstimatorName,
    NetworkName,
    OptimiserName,
)

FIRST_EPISODES = 32  # in the first batch, if sizes adapt


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The length and the seed of a run."""

    seed: Annotated[int, In(0, 2**31 - 1)] = 0
    """Seed of all random numbers. The same seed on the same machine gives the same weights."""
    total_steps: LongCount = 250_000
    """Environment steps to train for; the last batch may overshoot by less than its own size."""
    monitor_every: Annotated[int, In(0), Bits(32)] = 0
    """Measure the noise of the gradient in every K-th update, with K this number; 0: never. With
    adaptive batches it is measured in every update."""


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How batches are collected."""

    num_envs: Count = 16
    """Number of environments that are stepped together."""
    batch_steps: Count | None = None
    """Size of a batch of segments, in steps of all environments together; a multiple of num-envs.
    Default: 2048, unless batch-episodes is given."""
    batch_episodes: Count | Literal["adaptive"] | None = None
    """Collect batches of this many whole episodes, in place of segments. adaptive: as many episodes
    as the measured noise scale of the gradient, from 8 to 512."""
    max_episode_steps: Count | None = None
    """With batch-episodes: the greatest length of an episode; a longer one is an error. Default:
    the environment's time limit, or 10000 if it has none."""
    group_size: Annotated[int, In(1), Bits(32)] = 1
    """With batch-episodes: start every so many episodes from the same reset, as several answers to
    one prompt. Actions are drawn for each by itself. batch-episodes is a multiple of it."""
    processes: bool = False
    """Step Gymnasium environments in spawned worker processes."""
    step_timeout: Timeout | None = None
    """Seconds that a step or a reset of a Gymnasium environment may take; a longer one ends the run
    with an error that names the environment. Default: no limit."""
    lanes_per_block: Count | None = None
    """Collect the environments in blocks of this many, each by itself; it must divide num-envs.
    With another number, results round differently. Default: none; with workers, an eighth of
    num-envs."""
    processors: Count | None = None
    """Number of parts that a batch is cut into, one for each processor. With another number,
    results round differently. Default: as many as there are processors, fewer for small batches."""
    scale_rewards: bool = True
    """Divide rewards by the running root mean square of the discounted sum of past rewards."""
    clip_rewards: bool | None = None
    """Learn from the sign of each reward alone. It changes what is optimised. Evaluation counts the
    rewards themselves. Default: True for Atari games, False for all others."""


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """What the default policy reads."""

    network: NetworkName | None = None
    """The kind of network of policy and critic. Default: fully-connected, and where an observation
    is a picture the first of small and minatar that can read it."""
    hidden: tuple[Count, ...] | None = None
    """Sizes of the dense layers of policy and critic. Default: those of the network, 64 64 for
    fully-connected."""
    channels: Channels | None = None
    """Which axis of a picture holds its channels. Default: read from the picture's shape."""
    memory: MemoryKind | None = None
    """What policy and critic remember of an episode: gru, or lstm. Default: nothing."""
    memory_size: Count | None = None
    """How many numbers the memory gives. Default: 64."""
    shared_trunk: bool = False
    """The critic is one more output of the policy's network, and is fitted with the policy (vanilla
    and ppo). Default: a network of its own, but for ppo where an observation is a picture."""
    value_coefficient: Annotated[float, In(0)] | None = None
    """With shared-trunk: weight of the value's squared error beside the surrogate. Default: 0.5."""
    tanh_gaussian: bool = False
    """For continuous actions: squash the Gaussian into the bounds by tanh, instead of clipping."""
    clipped_gaussian: bool = False
    """For continuous actions: score an action that is clipped to a bound by the probability of the
    whole tail, not by its density. The mean gradient is the same, with less noise. Default: True
    for natural and trpo, False for vanilla and ppo."""
    log_std: Annotated[float, In(-20, 10)] | Literal["shared"] = -0.5
    """Initial log standard deviation of continuous actions, in units of half their range. shared:
    -0.5 up to 3 actions, and ln(2/k) for k actions from 4 on, whose standard deviations sum to the
    range of one."""
    normalise_observations: bool = True
    """Normalise observations by running statistics, which are saved with the policy."""
    clip_observations: Positive = 10.0
    """Bound of normalised observations, in standard deviations, for policy and critic."""


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """What is written, and how often."""

    checkpoint_seconds: NonNegative = 30.0
    """Seconds between two checkpoints; 0 saves one after every update."""
    keep_checkpoints: Count = 3
    """How many of the newest checkpoints to keep."""
    tensorboard: bool = False
    """Write TensorBoard events into the run directory too (extra: tensorboard)."""
    wandb: bool = False
    """Log to Weights & Biases too (extra: wandb)."""
    video_every: Annotated[int, In(0), Bits(32)] = 0
    """Film an episode every so many environment steps, into videos/ in the run directory; 0: never
    (extra: video)."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What is chosen by name. The choices decide which other settings are read."""

    algorithm: AlgorithmName | None = "vanilla"
    """The algorithm that improves the policy. Its defaults differ where an observation is a picture
    (docs/pictures-and-memory.md)."""
    estimator: EstimatorName | None = "gae"
    """The estimator of the gradient, which says what multiplies each score."""
    baseline: BaselineName | None = None
    """What is subtracted from the returns."""
    optimiser: OptimiserName | None = None
    """The optimiser that gives the direction of each step."""


TABLES: Mapping[str, Mapping[str, type]] = {
    "algorithm": ALGORITHMS,
    "estimator": ESTIMATORS,
    "baseline": BASELINES,
    "optimiser": OPTIMISERS,
}


def _sometimes() -> dict[str, Any]:
    """Settings that only some choices read: name -> kind, or None if it was not given."""
    records = [PolicySettings, *(r for table in TABLES.values() for r in table.values())]
    return {s.name: s.kind | None for record in records for s in settings_of(record)}


@dataclass(frozen=True, kw_only=True)
class _Asked(RunSettings, BatchSettings, FileSettings, Choices):
    """What every run reads, and how a configuration is checked, saved and read."""

    def __post_init__(self) -> None:
        for name, table in TABLES.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, chosen(name, value, table))
        for name, kind in _kinds(type(self)).items():
            value = plain_value(kind, getattr(self, name))
            object.__setattr__(self, name, value)
            check_setting(name, kind, value)
        self._check_batch()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def _check_batch(self) -> None:
        if self.batch_steps is not None and self.batch_episodes is not None:
            raise UserError(
                f"--batch-steps {self.batch_steps} and --batch-episodes {self.batch_episodes} "
                "exclude each other; give one"
            )
        if self.num_envs != type(self).num_envs:  # the default gives way to an environment's own
            self.check_rows(self.num_envs)
        if self.lanes_per_block is not None:
            self._check_blocks(self.lanes_per_block)
        if self.max_episode_steps is not None and self.batch_episodes is None:
            raise UserError(
                f"--max-episode-steps {self.max_episode_steps} is read only with --batch-episodes; "
                "add --batch-episodes N, or leave it out"
            )
        if self.group_size > 1:
            self._check_groups()
        if self.monitor_every and self.columns == self.group_size:
            what = "num-envs" if self.batch_episodes is None else "batch-episodes"
            raise UserError(
                f"--monitor-every {self.monitor_every} compares the gradients of a batch's parts, "
                f"and --{what} {self.columns} leaves only one; give at least {2 * self.group_size}"
            )

    def check_rows(self, num_envs: int) -> None:
        """UserError unless so many environments can make equally many steps for a batch."""
        if self.batch_episodes is None and self.steps_per_batch % num_envs:
            raise UserError(
                f"--batch-steps {self.steps_per_batch} is not a multiple of --num-envs {num_envs}; "
                "every environment makes the same number of steps"
            )

    def _check_groups(self) -> None:
        size, episodes = self.group_size, self.batch_episodes
        if episodes is None:
            raise UserError(
                f"--group-size {size} starts whole episodes in groups, and segments of "
                f"{self.steps_per_batch} steps are collected; add --batch-episodes N"
            )
        if episodes == "adaptive":
            raise UserError(
                f"--group-size {size} and --batch-episodes adaptive exclude each other: the size "
                "adapts to the noise of episodes that start independently; give a number"
            )
        if episodes % size:
            raise UserError(
                f"--batch-episodes {episodes} is not a multiple of --group-size {size}; every "
                "group has the same size"
            )

    def _check_blocks(self, lanes: int) -> None:
        if self.num_envs % lanes:
            raise UserError(f"--lanes-per-block {lanes} must divide --num-envs {self.num_envs}")
        if self.processes:
            raise UserError(
                f"--processes steps all environments together, and --lanes-per-block {lanes} each "
                "block by itself; leave --processes out. --workers N collects the blocks in N "
                "processes"
            )

    @property
    def given(self) -> dict[str, Any]:
        """The settings that only some choices read, and that were given."""
        values = {name: getattr(self, name) for name in SOMETIMES}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def whole_episodes(self) -> bool:
        """Whether batches hold whole episodes."""
        return self.batch_episodes is not None

    @property
    def steps_per_batch(self) -> int:
        """Steps in a batch of segments, all environments together."""
        return BATCH_STEPS if self.batch_steps is None else self.batch_steps

    @property
    def rows(self) -> int:
        """Steps of each environment in a batch of segments."""
        return self.steps_per_batch // self.num_envs

    @property
    def columns(self) -> int:
        """Number of columns of a batch, of the first if sizes adapt: environments, or episodes."""
        if self.batch_episodes is None:
            return self.num_envs
        return FIRST_EPISODES if self.batch_episodes == "adaptive" else self.batch_episodes

    @property
    def adaptive(self) -> bool:
        """Whether the size of a batch follows from the noise of the batches before it."""
        return self.batch_episodes == "adaptive"

    @property
    def measures_noise(self) -> bool:
        """Whether the gradient of any update is measured."""
        return self.adaptive or self.monitor_every > 0

    def monitors(self, update: int) -> bool:
        """Whether the gradient of an update, counted from 1, is measured."""
        return self.adaptive or (self.monitor_every > 0 and update % self.monitor_every == 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back; settings that were not given are left out."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if v is not None or k not in SOMETIMES}

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str) -> "TrainConfig":
        """Read back what `to_json` wrote; `source` is named in errors."""
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise UserError(f"{source}: unknown setting {', '.join(unknown)}")
        if "hidden" in data:  # a run of before networks had names
            data = {"network": "fully-connected", **data}
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return TrainConfig(**settings)


SOMETIMES: dict[str, Any] = _sometimes()

if TYPE_CHECKING:

    class TrainConfig(_Asked):
        """The settings of a run; see `policygrad train --help`."""

        def __init__(self, **settings: Any) -> None: ...
else:
    TrainConfig = make_dataclass(
        "TrainConfig",
        [(name, kind, field(default=None)) for name, kind in SOMETIMES.items()],
        bases=(_Asked,),
        frozen=True,
        kw_only=True,
    )
    TrainConfig.__module__ = __name__  # so that another process finds the class
    TrainConfig.__doc__ = """The settings of a run. Together with the environment they determine it.

    Its fields are the settings of `policygrad train --help`. One that only some choices read is
    None if it was not given.
    """


def _kinds(config: type) -> dict[str, Any]:
    return {**get_type_hints(_Asked, include_extras=True), **SOMETIMES}
