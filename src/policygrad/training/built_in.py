"""The built-in choices by name: the one module that turns names into values.

The command line uses names and flags; Python may use them too. The rest of the library takes
values: an algorithm's record, an `Estimator`, a baseline, an optimiser, an architecture.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from policygrad.algorithms import PPO, SGD, TRPO, Adam, Algorithm, Natural, RMSprop, Vanilla
from policygrad.core.errors import UserError
from policygrad.core.settings import Count, Positive, Unit
from policygrad.gradients import baselines, estimators, groups
from policygrad.gradients.baselines import Baseline, Critic
from policygrad.gradients.baselines.network import ValueNetwork
from policygrad.gradients.baselines.recurrent import RecurrentValueNetwork
from policygrad.gradients.weights import Estimator, TimeLimit
from policygrad.policies.architectures import Architecture, FullyConnected
from policygrad.policies.memory import Memory
from policygrad.policies.pictures import Convolutional, Impala, impala, minatar, nature, small
from policygrad.spaces.pictures import Channels

ALGORITHMS: dict[str, type[Algorithm]] = {
    "vanilla": Vanilla,
    "natural": Natural,
    "trpo": TRPO,
    "ppo": PPO,
}


OPTIMISERS: dict[str, type] = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


@dataclass(frozen=True, kw_only=True)
class Returns:
    """What every estimator reads."""

    discount: Unit = 0.99
    """The discount γ."""

    bootstraps: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class GroupReturns(Returns):
    """What estimators of episodes that start in groups read."""

    discount: Unit = 1.0
    """The discount γ."""


@dataclass(frozen=True, kw_only=True)
class EpisodeReturns(Returns):
    """What estimators over whole episodes read."""

    normalise_advantages: bool = True
    """Scale the advantages of each batch to unit size, and centre them if there is a baseline. This
    departs from the true gradient."""


@dataclass(frozen=True, kw_only=True)
class ReturnsToGo(EpisodeReturns):
    """What estimators with one return a step read."""

    discounted_states: bool = False
    """Keep the factor γ^t of each score. The gradient is then that of the discounted objective."""
    time_limit: TimeLimit | None = None
    """What a time limit means. bootstraps: it is not part of the task, and the critic's value
    follows the last step. terminates: it ends the task. Default: bootstraps if the estimator has a
    critic."""
    resets_at_rewards: bool = False
    """End the return of a step at the first reward that is not zero, as in a game of points. It
    changes what is optimised: an action then counts for its own point alone."""


@dataclass(frozen=True, kw_only=True)
class OneStep(ReturnsToGo):
    """What estimators with a critic read."""

    bootstraps: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Lambda(OneStep):
    """What gae reads."""

    gae_lambda: Unit = 0.95
    """λ of GAE. 0 takes one reward and then the critic, 1 takes all rewards."""


@dataclass(frozen=True, kw_only=True)
class Steps(OneStep):
    """What n-step reads."""

    n: Count = 5
    """How many rewards n-step sums before it bootstraps."""


# name -> its settings
ESTIMATORS: dict[str, type[Returns]] = {
    "gae": Lambda,
    "td": OneStep,
    "n-step": Steps,
    "reward-to-go": ReturnsToGo,
    "reward-indexed": EpisodeReturns,
    "total-return": EpisodeReturns,
    "group-mean": GroupReturns,
    "rloo": GroupReturns,
    "grpo": GroupReturns,
    "dr-grpo": GroupReturns,
    "dapo": GroupReturns,
    "remax": GroupReturns,
    "opo": GroupReturns,
    "reinforce++": GroupReturns,
    "reinforce++-baseline": GroupReturns,
    "shrinkage": GroupReturns,
}


@dataclass(frozen=True, kw_only=True)
class ValueNetworkSettings:
    """What the value network reads."""

    critic_step_size: Positive = 1e-3
    """Step size of the value network's Adam."""
    critic_epochs: Count = 10
    """Passes of the value network over each batch."""
    critic_minibatches: Count = 8
    """Minibatches in each pass of the value network: of steps, or of lanes with memory."""
    critic_hidden: tuple[Count, ...] | None = None
    """Sizes of the value network's dense layers, where they differ from the policy's. Default:
    those of hidden."""
    critic_layer_norm: bool = False
    """Normalise each dense layer of the value network before its activation."""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """The settings of a choice that reads none."""


# name -> its settings
BASELINES: dict[str, type] = {
    "value-network": ValueNetworkSettings,
    "value-classifier": ValueNetworkSettings,
    "linear-features": NoSettings,
    "variance-optimal": NoSettings,
    "time-dependent": NoSettings,
    "constant": NoSettings,
    "leave-one-out": NoSettings,
    "none": NoSettings,
}


# name -> what makes the architecture with its own defaults
NETWORKS: dict[str, Callable[[], FullyConnected | Convolutional | Impala]] = {
    "fully-connected": FullyConnected,
    "nature": nature,
    "small": small,
    "minatar": minatar,
    "impala": impala,
}


AlgorithmName = Literal["vanilla", "natural", "trpo", "ppo"]


EstimatorName = Literal[
    "gae", "td", "n-step", "reward-to-go", "reward-indexed", "total-return", "group-mean", "rloo",
    "grpo", "dr-grpo", "dapo", "remax", "opo", "reinforce++", "reinforce++-baseline", "shrinkage",
]  # fmt: skip


BaselineName = Literal[
    "value-network", "value-classifier", "linear-features", "variance-optimal", "time-dependent",
    "constant", "leave-one-out", "none",
]  # fmt: skip


OptimiserName = Literal["adam", "rmsprop", "sgd"]


NetworkName = Literal["fully-connected", "nature", "small", "minatar", "impala"]


def takes_optimiser(algorithm: type[Algorithm]) -> bool:
    """Whether an algorithm takes its steps along an optimiser's direction."""
    return "optimiser" in {f.name for f in dataclasses.fields(algorithm)}


def network_named(
    name: str, hidden: tuple[int, ...] | None = None, channels: Channels | None = None
) -> FullyConnected | Convolutional | Impala:
    """The architecture of a name.

    Args:
        name: a key of `NETWORKS`.
        hidden: sizes of its dense layers; None for its own.
        channels: of pictures; None to read it from their shapes.

    Raises:
        UserError: `channels` for a network that reads no pictures.
    """
    made = NETWORKS[name]()
    if hidden is not None:
        made = dataclasses.replace(made, hidden=hidden)
    if channels is None:
        return made
    if isinstance(made, FullyConnected):
        raise UserError(
            f"--channels {channels} is read by networks for pictures, but not by --network {name}; "
            "leave it out"
        )
    return dataclasses.replace(made, channels=channels)


def as_settings(network: Any) -> dict[str, Any] | None:
    """The settings that make an equal architecture by name; None if none do."""
    sizes = getattr(network, "hidden", None), getattr(network, "channels", None)
    for name, make in NETWORKS.items():
        if type(network) is type(make()) and network == network_named(name, *sizes):
            return {"network": name, "hidden": network.hidden, "channels": sizes[1]}
    return None


def value_network(
    settings: ValueNetworkSettings,
    network: Architecture,
    memory: Memory | None,
    clip_observations: float,
) -> ValueNetwork | RecurrentValueNetwork:
    """The value network with the settings of a run."""
    return baselines.value_network(
        network=network, memory=memory, **_fitting(settings, clip_observations)
    )


def _fitting(settings: ValueNetworkSettings, clip_observations: float) -> dict[str, Any]:
    """How a critic reads and is fitted, as arguments."""
    return {
        "clip_observations": clip_observations,
        "step_size": settings.critic_step_size,
        "epochs": settings.critic_epochs,
        "minibatches": settings.critic_minibatches,
    }


def baseline_named(
    name: str,
    critic: ValueNetworkSettings,
    network: Architecture,
    memory: Memory | None = None,
    *,
    time_limit: int | None,
    whole_episodes: bool,
    clip_observations: float,
) -> Baseline:
    """The baseline of a name.

    Args:
        name: a key of `BASELINES`.
        critic: read by the value network.
        network, memory: of the value network.
        time_limit: greatest length of an episode; None if it is not known.
        whole_episodes: whether batches hold whole episodes.
        clip_observations: bound of what a network reads.
    """
    match name:
        case "value-network":
            return value_network(critic, network, memory, clip_observations)
        case "value-classifier":
            how = _fitting(critic, clip_observations)
            return baselines.value_classifier(network=network, **how)
        case "linear-features":
            return baselines.linear_features()
        case "variance-optimal":  # segments cut episodes, whose gradients are then not known
            return baselines.variance_optimal(cross_terms=whole_episodes)
        case "time-dependent":
            return baselines.time_dependent(time_limit or 1000)
        case "constant":
            return baselines.constant()
        case "leave-one-out":
            return baselines.leave_one_out()
        case "none":
            return baselines.none()
    raise ValueError(f"no baseline is called {name!r}")


def has_critic(estimator: str, settings: Returns, *, whole_episodes: bool) -> bool:
    """Whether an estimator bootstraps from a critic."""
    if settings.bootstraps:
        return True
    if not isinstance(settings, ReturnsToGo):
        return False
    return not whole_episodes or settings.time_limit == "bootstraps"


def estimator_named(
    name: str,
    settings: Returns,
    baseline: Baseline,
    critic: Critic | None,
) -> Estimator:
    """The estimator of a name.

    Args:
        name: a key of `ESTIMATORS`.
        settings: those of that name.
        baseline: what is subtracted, if it is not the critic.
        critic: what bootstraps; None if nothing does.
    """
    read: dict[str, Any] = dataclasses.asdict(settings)
    if isinstance(settings, GroupReturns):
        return estimators.in_groups(groups.ESTIMATORS[name](), **read)
    make = getattr(estimators, name.replace("-", "_"))
    if not isinstance(settings, ReturnsToGo):
        return make(baseline=baseline, **read)
    return make(critic=critic, baseline=None if baseline is critic else baseline, **read)
