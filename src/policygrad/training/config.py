"""The configuration of a run: one frozen record, for Python, the command and the run's files.

It is plain data without JAX, so that the command can show its help at once.
"""

import dataclasses
import difflib
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin

from policygrad.core.errors import UserError

ALGORITHMS = ("vanilla", "natural", "trpo", "ppo")
ESTIMATORS = ("gae", "td", "n-step", "reward-to-go", "reward-indexed", "total-return")
BASELINES = (
    "value-network",
    "linear-features",
    "variance-optimal",
    "time-dependent",
    "constant",
    "leave-one-out",
    "none",
)
OPTIMISERS = ("adam", "rmsprop", "sgd")
SCHEDULES = ("constant", "linear")
TIME_LIMITS = ("bootstraps", "terminates")
FIRST_EPISODES = 32  # of a batch that adapts


@dataclass(frozen=True)
class In:
    """A range, closed unless said otherwise, that a number must lie in."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, x: object) -> bool:
        if not isinstance(x, Real) or not math.isfinite(x):
            return False
        number = float(x)
        above = number > self.low if self.open_low else number >= self.low
        return above and number <= self.high

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return f"{'above' if self.open_low else 'from'} {self.low:g} to {self.high:g}"


# Of natural and trpo, which differ by a line search alone.
NATURAL: dict[str, Any] = {
    "discount": 0.995,
    "step_size": 1.0,
    "log_std_step": 1.0,
    "target_kl": 0.03,
    "max_global_norm": 0.0,
    "step_size_schedule": "linear",
    "critic_epochs": 20,
    "clipped_gaussian": True,
}

# What a setting is where nobody gave it, by algorithm. Each holds for all environments; how they
# were found stands in docs/training.md.
DEFAULTS: dict[str, dict[str, Any]] = {
    "vanilla": {
        "discount": 0.99,
        "step_size": 1e-3,
        "log_std_step": 10.0,
        "target_kl": 0.01,
        "max_global_norm": 0.0,
        "step_size_schedule": "constant",
        "critic_epochs": 10,
        "clipped_gaussian": False,
    },
    "natural": NATURAL,
    "trpo": NATURAL,
    "ppo": {
        "discount": 0.99,
        "step_size": 3e-4,
        "log_std_step": 1.0,
        "target_kl": 0.0,
        "max_global_norm": 0.5,
        "step_size_schedule": "linear",
        "critic_epochs": 10,
        "clipped_gaussian": False,
    },
}

Count = Annotated[int, In(1)]
Unit = Annotated[float, In(0, 1)]
Positive = Annotated[float, In(0, open_low=True)]
NonNegative = Annotated[float, In(0)]


@dataclass(frozen=True)
class TrainConfig:
    """What determines a run, together with the environment and the seed.

    Every default holds for all environments.
    """

    seed: Annotated[int, In(0, 2**31 - 1)] = 0
    """Of everything random. Same seed, same machine: the same weights, bit for bit."""
    total_steps: Count = 250_000
    """Environment steps to train for; the last batch may overshoot by less than its own size."""
    num_envs: Count = 16
    """Environments stepped together."""
    batch_steps: Count | None = None
    """Steps of all environments together in one batch of segments; a multiple of num-envs.
    Default 2048, unless batch-episodes is given."""
    batch_episodes: Count | Literal["adaptive"] | None = None
    """Whole episodes in one batch, in place of segments: no bootstrapping at cuts is needed.
    adaptive: as many as the measured noise scale of the gradient, from 8 to 512."""
    max_episode_steps: Count | None = None
    """With batch-episodes: an episode that runs longer is an error. Default: the environment's own
    time limit, else 10000."""
    processes: bool = False
    """Step Gymnasium environments in spawned worker processes."""
    monitor_every: Annotated[int, In(0)] = 0
    """Of how many updates one also measures the noise of its gradient; 0: none. With adaptive
    batches every update does."""

    algorithm: str = "vanilla"
    """vanilla, natural (natural policy gradient), trpo or ppo."""
    estimator: str = "gae"
    """What multiplies each score: gae, td, n-step, reward-to-go, reward-indexed or total-return."""
    baseline: str | None = None
    """What is subtracted: value-network, linear-features, variance-optimal, time-dependent,
    constant, leave-one-out or none. Default: value-network."""
    discount: Unit | None = None
    """γ. Default: 0.995 for natural and trpo, else 0.99."""
    gae_lambda: Unit = 0.95
    """λ of gae."""
    n: Count = 5
    """Number of rewards of n-step."""
    discounted_states: bool = False
    """Keep the factor γ^t, which makes the gradient that of the discounted objective."""
    time_limit: str | None = None
    """What a time limit means: bootstraps (it is no part of the task) or terminates. Default:
    bootstraps where the estimator has a critic."""
    normalise_advantages: bool = True
    """Centre and scale the advantages of each batch; a departure from the gradient."""

    hidden: tuple[Count, ...] = (64, 64)
    """Sizes of the tanh layers of policy and critic."""
    tanh_gaussian: bool = False
    """Squash the Gaussian of continuous actions into the bounds in place of clipping."""
    clipped_gaussian: bool | None = None
    """Give a draw that is clipped to a bound the probability of its tail in place of its density:
    the same gradient with less noise. Default: True for natural and trpo, else False."""
    log_std: Annotated[float, In(-20, 10)] = -0.5
    """Initial log standard deviation of continuous actions, in units of half their range."""
    normalise_observations: bool = True
    """Normalise observations by running statistics, which are saved with the policy."""
    scale_rewards: bool = True
    """Divide rewards by the running root mean square of the discounted return."""

    optimiser: str = "adam"
    """adam, rmsprop or sgd."""
    adam_epsilon: Positive = 1e-5
    """What adam adds to the root mean square of each gradient component before it divides by it;
    components far below it move little."""
    log_std_step: Positive | None = None
    """How many times as long as the other parameters' a step of log-std is, with adam and rmsprop.
    Default: 10 for vanilla, else 1."""
    step_size: Positive | None = None
    """Initial step size of the policy; natural and trpo size their steps by target-kl alone.
    Default: by algorithm."""
    step_size_schedule: str | None = None
    """constant, or linear: down to zero over the run, and for natural and trpo the square of the
    step. Default: constant for vanilla, else linear."""
    target_kl: NonNegative | None = None
    """KL between old and new policy (nats) of one update: the size of the step for natural and
    trpo; for the others the step size is adapted to hold it, 0: fixed step. Default: by algorithm.
    """
    entropy_coefficient: NonNegative = 0.0
    """Weight of the policy's entropy in what is maximised."""
    max_global_norm: NonNegative | None = None
    """The gradient is shortened to this length (vanilla, ppo); 0: no limit. Default: by algorithm.
    """
    cg_iterations: Count = 10
    """Conjugate-gradient iterations of natural and trpo."""
    damping: NonNegative = 0.1
    """Added to the Fisher information's diagonal by natural and trpo."""
    fisher_share: Annotated[float, In(0, 1, open_low=True)] = 1.0
    """Share of a batch's rows that natural and trpo estimate the Fisher information on; less is
    faster, and noisier."""
    clip_ratio: Positive = 0.2
    """PPO's bound on how far a probability ratio pays."""
    ppo_epochs: Count = 10
    """Passes of PPO over each batch."""
    ppo_minibatches: Count = 32
    """Parts that each of PPO's passes is cut into."""
    critic_step_size: Positive = 1e-3
    """Step size of the value network's Adam."""
    critic_epochs: Count | None = None
    """Passes of the value network over each batch. Default: 20 for natural and trpo, else 10."""
    critic_minibatches: Count = 8
    """Parts that each pass is cut into."""

    checkpoint_seconds: NonNegative = 30.0
    """Save a checkpoint after so many seconds; 0: after every update."""
    keep_checkpoints: Count = 3
    """How many of the newest checkpoints to keep."""
    tensorboard: bool = False
    """Write TensorBoard events into the run directory too (extra: tensorboard)."""
    wandb: bool = False
    """Log to Weights & Biases too (extra: wandb)."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            check_range(f, getattr(self, f.name))
        for name, choices in (
            ("algorithm", ALGORITHMS),
            ("estimator", ESTIMATORS),
            ("baseline", BASELINES),
            ("optimiser", OPTIMISERS),
            ("step_size_schedule", SCHEDULES),
            ("time_limit", TIME_LIMITS),
        ):
            object.__setattr__(self, name, chosen(name, getattr(self, name), choices))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.tanh_gaussian:
            if self.clipped_gaussian:
                raise UserError(
                    "--tanh-gaussian and --clipped-gaussian exclude each other: squashed actions "
                    "are never clipped; give one"
                )
            object.__setattr__(self, "clipped_gaussian", False)
        for name, default in DEFAULTS[self.algorithm].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        self._check_batch()
        self._check_estimator()

    def _check_batch(self) -> None:
        if self.batch_steps is not None and self.batch_episodes is not None:
            raise UserError(
                f"--batch-steps {self.batch_steps} and --batch-episodes {self.batch_episodes} "
                "exclude each other; give one"
            )
        if self.batch_episodes is None and self.steps_per_batch % self.num_envs:
            raise UserError(
                f"--batch-steps {self.steps_per_batch} is not a multiple of --num-envs "
                f"{self.num_envs}; every environment makes the same number of steps a batch"
            )
        if self.monitor_every and self.columns == 1:
            what = "num-envs" if self.batch_episodes is None else "batch-episodes"
            raise UserError(
                f"--monitor-every {self.monitor_every} compares the gradients of a batch's parts, "
                f"and --{what} 1 leaves one; give at least 2"
            )

    def _check_estimator(self) -> None:
        whole = self.batch_episodes is not None
        needs = self.estimator in ("total-return", "reward-indexed") or (
            self.estimator == "reward-to-go"
            and self.baseline not in (None, "value-network", "linear-features")
        )
        if (needs or self.baseline == "leave-one-out") and not whole:
            what = f"--estimator {self.estimator}"
            if self.baseline is not None:
                what += f" --baseline {self.baseline}"
            raise UserError(
                f"{what} needs whole episodes, and segments of {self.steps_per_batch} steps are "
                "collected; add --batch-episodes N"
            )
        if self.baseline == "leave-one-out" and self.batch_episodes == 1:
            raise UserError(
                "--baseline leave-one-out needs at least 2 episodes a batch, got --batch-episodes 1"
            )
        monte_carlo = self.estimator in ("total-return", "reward-indexed")
        if monte_carlo and self.time_limit == "bootstraps":
            raise UserError(
                f"--estimator {self.estimator} sums an episode's own rewards and cannot bootstrap, "
                "got --time-limit bootstraps; leave it out, or choose an estimator with a critic"
            )

    @property
    def steps_per_batch(self) -> int:
        """Steps in a batch of segments, all environments together."""
        return 2048 if self.batch_steps is None else self.batch_steps

    @property
    def columns(self) -> int:
        """Columns of a batch, of the first where it adapts: environments, or episodes."""
        if self.batch_episodes is None:
            return self.num_envs
        return FIRST_EPISODES if self.batch_episodes == "adaptive" else self.batch_episodes

    @property
    def adaptive(self) -> bool:
        """Whether the size of a batch follows from the noise of those before it."""
        return self.batch_episodes == "adaptive"

    @property
    def measures_noise(self) -> bool:
        """Whether the gradient of any update is measured."""
        return self.adaptive or self.monitor_every > 0

    def monitors(self, update: int) -> bool:
        """Whether the gradient of an update, counted from 1, is measured."""
        return self.adaptive or (self.monitor_every > 0 and update % self.monitor_every == 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str) -> "TrainConfig":
        """Read back what `to_json` wrote; `source` is named in errors."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise UserError(f"{source}: unknown setting {', '.join(unknown)}")
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**settings)


def flag(name: str) -> str:
    """The command-line spelling of a setting."""
    return "--" + name.replace("_", "-")


def check_range(f: dataclasses.Field, value: Any) -> None:
    """Raise UserError unless a setting's value lies in the range that its type names."""
    optional = type(None) in getattr(f.type, "__args__", ())
    if value is None and optional:
        return
    kinds = [f.type, *getattr(f.type, "__args__", ())]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if isinstance(value, str) and value in words:
        return
    ranges = [m for kind in kinds for m in getattr(kind, "__metadata__", ())]
    values = value if isinstance(value, (tuple, list)) else (value,)
    for item in values:
        for allowed in ranges:
            whole = any(getattr(kind, "__origin__", None) is int for kind in kinds)
            integral = isinstance(item, Integral) and not isinstance(item, bool)
            if item not in allowed or (whole and not integral):
                number = "a whole number " if whole else ""
                choice = "".join(f"{word}, or " for word in words)
                raise UserError(f"{flag(f.name)} must be {choice}{number}{allowed}, got {item}")


def chosen(name: str, value: str | None, choices: tuple[str, ...]) -> str | None:
    """The choice that a user named, with _ or -; UserError with the nearest otherwise."""
    if value is None:
        return None
    spelled = str(value).replace("_", "-").lower()
    if spelled in choices:
        return spelled
    close = difflib.get_close_matches(spelled, choices, n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(choices)}"
    raise UserError(f"{flag(name)}: unknown value {value!r}; {hint}")
