"""From names to values: the one module that knows what is built in.

The command line speaks in names and flags; Python may, too. Everything else of the library is
given values: an algorithm's record, an `Estimator`, a baseline, an optimiser, an architecture.
"""

import ast
import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, get_type_hints

from policygrad.algorithms import PPO, SGD, TRPO, Adam, Algorithm, Natural, RMSprop, Vanilla
from policygrad.core.errors import UserError
from policygrad.core.settings import Count, Positive, Unit, flag
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline, StateBaseline
from policygrad.gradients.estimators import Estimator, TimeLimit

ALGORITHMS: dict[str, type[Algorithm]] = {
    "vanilla": Vanilla,
    "natural": Natural,
    "trpo": TRPO,
    "ppo": PPO,
}
OPTIMISERS: dict[str, type] = {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD}


@dataclass(frozen=True, kw_only=True)
class EpisodeReturns:
    """What estimators over whole episodes read."""

    discount: Unit = 0.99
    """γ."""
    normalise_advantages: bool = True
    """Centre and scale the advantages of each batch; a departure from the gradient."""

    bootstraps: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class ReturnsToGo(EpisodeReturns):
    """What estimators with one return a step read."""

    discounted_states: bool = False
    """Keep the factor γ^t, which makes the gradient that of the discounted objective."""
    time_limit: TimeLimit | None = None
    """What a time limit means: bootstraps (it is no part of the task) or terminates. Default:
    bootstraps where the estimator has a critic."""


@dataclass(frozen=True, kw_only=True)
class OneStep(ReturnsToGo):
    """What estimators with a critic read."""

    bootstraps: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Lambda(OneStep):
    """What gae reads."""

    gae_lambda: Unit = 0.95
    """λ: how far rewards are trusted over the critic; 0 is one reward, 1 all of them."""


@dataclass(frozen=True, kw_only=True)
class Steps(OneStep):
    """What n-step reads."""

    n: Count = 5
    """Number of rewards before the critic."""


# name -> its settings
ESTIMATORS: dict[str, type[EpisodeReturns]] = {
    "gae": Lambda,
    "td": OneStep,
    "n-step": Steps,
    "reward-to-go": ReturnsToGo,
    "reward-indexed": EpisodeReturns,
    "total-return": EpisodeReturns,
}


@dataclass(frozen=True, kw_only=True)
class ValueNetworkSettings:
    """What the value network reads."""

    critic_step_size: Positive = 1e-3
    """Step size of the value network's Adam."""
    critic_epochs: Count = 10
    """Passes of the value network over each batch."""
    critic_minibatches: Count = 8
    """Parts that each pass is cut into."""


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    """What reads nothing."""


# name -> its settings
BASELINES: dict[str, type] = {
    "value-network": ValueNetworkSettings,
    "linear-features": NoSettings,
    "variance-optimal": NoSettings,
    "time-dependent": NoSettings,
    "constant": NoSettings,
    "leave-one-out": NoSettings,
    "none": NoSettings,
}

AlgorithmName = Literal["vanilla", "natural", "trpo", "ppo"]
EstimatorName = Literal["gae", "td", "n-step", "reward-to-go", "reward-indexed", "total-return"]
BaselineName = Literal[
    "value-network", "linear-features", "variance-optimal", "time-dependent", "constant",
    "leave-one-out", "none",
]  # fmt: skip
OptimiserName = Literal["adam", "rmsprop", "sgd"]


class Setting(NamedTuple):
    """One setting of a record.

    Attributes:
        name: of the setting; a field may go by another, as PPO's epochs by ppo_epochs.
        field: of the record.
        kind: its annotation.
        default: of the record.
        help: what stands below the field.
    """

    name: str
    field: str
    kind: Any
    default: Any
    help: str


@cache
def settings_of(record: type) -> tuple[Setting, ...]:
    """The settings of a record's class, in order; values that are no settings left out."""
    kinds, helps = get_type_hints(record, include_extras=True), _helps(record)
    return tuple(
        Setting(f.metadata.get("setting", f.name), f.name, kinds[f.name], f.default, helps[f.name])
        for f in dataclasses.fields(record)
        if f.name in helps
    )


def _helps(record: type) -> dict[str, str]:
    """The sentence below each field, of a class and of those that it extends."""
    found: dict[str, str] = {}
    for cls in reversed(record.__mro__[:-1]):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr):
                name, text = ast.unparse(node.target), ast.literal_eval(after.value)
                found[name] = " ".join(text.split())
    return found


def takes_optimiser(algorithm: type[Algorithm]) -> bool:
    """Whether an algorithm takes its steps along an optimiser's direction."""
    return "optimiser" in {f.name for f in dataclasses.fields(algorithm)}


def names_of(record: type) -> frozenset[str]:
    """The names of a record's settings."""
    return frozenset(s.name for s in settings_of(record))


@cache
def readers() -> Mapping[str, tuple[str, ...]]:
    """Setting -> what reads it, as flags: of all settings that not every choice reads."""
    found: dict[str, list[str]] = {}
    tables: tuple[tuple[str, Mapping[str, type]], ...] = (
        ("algorithm", ALGORITHMS), ("optimiser", OPTIMISERS), ("estimator", ESTIMATORS),
        ("baseline", BASELINES),
    )  # fmt: skip
    for choice, table in tables:
        for name, record in table.items():
            for setting in names_of(record):
                found.setdefault(setting, []).append(f"{flag(choice)} {name}")
    for name, record in ALGORITHMS.items():
        if takes_optimiser(record):
            found.setdefault("optimiser", []).append(f"--algorithm {name}")
    return {name: tuple(who) for name, who in found.items()}


def build(record: type, values: Mapping[str, Any], **more: Any) -> Any:
    """A record from settings by name; what it does not read is left out."""
    own = {s.field: values[s.name] for s in settings_of(record) if s.name in values}
    return record(**own, **more)


def values_of(record: Any) -> Iterator[tuple[str, Any]]:
    """The settings of a record, by name."""
    for setting in settings_of(type(record)):
        yield setting.name, getattr(record, setting.field)


def name_in(table: Mapping[str, type], record: Any) -> str | None:
    """The name of a record's class in a table; None for one of the user's own."""
    return next((name for name, cls in table.items() if type(record) is cls), None)


def refuse_unread(given: Iterable[str], read: Iterable[str], chosen: Mapping[str, str]) -> None:
    """UserError for a setting that was given and that nothing reads.

    Args:
        given: names of settings.
        read: names of those that the choices read.
        chosen: what was chosen: setting -> value.
    """
    for name in sorted(set(given) - set(read)):
        who = readers().get(name)
        if who is None:
            raise UserError(
                f"{flag(name)} is read by the default policy, and a policy was passed; leave it out"
            )
        deciding = {word.split()[0] for word in who}
        ours = " and ".join(f"{flag(k)} {v}" for k, v in chosen.items() if flag(k) in deciding)
        raise UserError(
            f"{flag(name)} is read by {_listed(who)}, and not by {ours or 'what was chosen'}; "
            f"leave it out, or choose {_listed(who)}"
        )


def _listed(words: tuple[str, ...]) -> str:
    """`--algorithm vanilla or ppo` from `--algorithm vanilla`, `--algorithm ppo`."""
    by_choice: dict[str, list[str]] = {}
    for word in words:
        choice, name = word.split()
        by_choice.setdefault(choice, []).append(name)
    return " and ".join(f"{choice} {' or '.join(names)}" for choice, names in by_choice.items())


def baseline_named(
    name: str,
    critic: ValueNetworkSettings,
    network: Any,
    *,
    time_limit: int | None,
    whole_episodes: bool,
) -> Baseline:
    """The baseline of a name.

    Args:
        name: a key of `BASELINES`.
        critic: read by the value network.
        network: architecture of the value network.
        time_limit: steps that an episode has at most; None where it is not known.
        whole_episodes: whether batches hold whole episodes.
    """
    match name:
        case "value-network":
            return baselines.value_network(
                network=network,
                step_size=critic.critic_step_size,
                epochs=critic.critic_epochs,
                minibatches=critic.critic_minibatches,
            )
        case "linear-features":
            return baselines.linear_features()
        case "variance-optimal":  # where segments cut episodes, their own gradients are not known
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


def has_critic(estimator: str, settings: EpisodeReturns, *, whole_episodes: bool) -> bool:
    """Whether an estimator bootstraps from a critic."""
    if settings.bootstraps:
        return True
    if not isinstance(settings, ReturnsToGo):
        return False
    return not whole_episodes or settings.time_limit == "bootstraps"


def estimator_named(
    name: str,
    settings: EpisodeReturns,
    baseline: Baseline,
    critic: StateBaseline | None,
) -> Estimator:
    """The estimator of a name.

    Args:
        name: a key of `ESTIMATORS`.
        settings: of that name.
        baseline: what is subtracted, where it is not the critic.
        critic: what bootstraps; None where nothing does.
    """
    read: dict[str, Any] = dataclasses.asdict(settings)
    make = getattr(estimators, name.replace("-", "_"))
    if not isinstance(settings, ReturnsToGo):
        return make(baseline=baseline, **read)
    if read["time_limit"] is None:
        read["time_limit"] = "terminates" if critic is None else "bootstraps"
    return make(critic=critic, baseline=None if baseline is critic else baseline, **read)
