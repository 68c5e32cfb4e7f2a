"""From the given settings to the value of every setting: defaults are filled in here.

Some values depend on the environment and follow in `assembly`: the number of lanes if the
environment has its own, with batches that are a multiple of it; the number of processors; the
network; and the noise of a policy whose actions share it.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from policygrad.algorithms import Algorithm
from policygrad.algorithms.optimisers import transformation
from policygrad.core import reflection
from policygrad.core.errors import UserError
from policygrad.core.settings import flag
from policygrad.policies.architectures import Architecture, usual
from policygrad.policies.space_policy import RecurrentPolicy, SpacePolicy, initial_log_std
from policygrad.spaces import ActionSpace, Space
from policygrad.training import built_in, named_estimators, own_values, shared_trunk, unread
from policygrad.training.built_in import (
    ALGORITHMS,
    ESTIMATORS,
    OPTIMISERS,
    ValueNetworkSettings,
)
from policygrad.training.config import Choices, PolicySettings, TrainConfig
from policygrad.training.given import Given

NETWORK = ("network", "hidden", "channels")  # read by the critic too
MEMORY = ("memory", "memory_size")
MEMORY_SIZE = 64
# read where actions are continuous
OF_NOISE = ("log_std", "log_std_step", "tanh_gaussian", "clipped_gaussian")


@dataclass(frozen=True)
class Resolved:
    """The value of every setting of a run.

    Attributes:
        config: with a value for each setting that is read; None for those that are not.
        algorithm: the record.
        policy: settings of the default policy.
        estimator: settings of the estimator's name; None if an estimator was passed.
        critic: settings of the value network.
    """

    config: TrainConfig
    algorithm: Algorithm
    policy: PolicySettings
    estimator: built_in.Returns | None
    critic: ValueNetworkSettings


@dataclass(frozen=True)
class Records:
    """The records that a configuration names, and what they read.

    Attributes:
        algorithm, policy, estimator, critic: as in `Resolved`.
        optimiser: its name; None if none is read, or if one was passed.
        read: names of the settings that they read.
    """

    algorithm: Algorithm
    policy: PolicySettings
    estimator: built_in.Returns | None
    critic: ValueNetworkSettings
    optimiser: str | None
    read: frozenset[str]


def records_of(
    config: TrainConfig,
    given: Given,
    observations: Space | None = None,
    actions: ActionSpace | None = None,
) -> Records:
    """The records that a configuration names, with defaults for settings that were not given.

    Args:
        config, given: as in `resolve`.
        observations, actions: of the environment, on which some values depend; None while it is not
            known.
    """
    cls = type(given.algorithm) if given.algorithm else ALGORITHMS[config.algorithm or "vanilla"]
    values = {**cls.suggests, **config.given}
    if observations is not None and observations.pictures:
        values = {**cls.suggests, **cls.suggests_for_pictures, **config.given}
    read: set[str] = set()

    def built(record: type, defaults: Mapping[str, Any] | None = None, **more: Any) -> Any:
        read.update(reflection.names_of(record))
        return reflection.build(record, {**(defaults or {}), **values}, **more)

    algorithm, optimiser = given.algorithm, None
    if algorithm is None:
        more: dict[str, Any] = {}
        if built_in.takes_optimiser(cls):
            more["optimiser"], optimiser = _optimiser(config, given, cls, built)
        algorithm = built(cls, **more)
    policy = built(PolicySettings) if given.policy is None else _beside_a_policy(config, given)
    if config.shared_trunk is None and shared_trunk.why_not(config, given, cls) is not None:
        policy = replace(policy, shared_trunk=False)
    if given.policy is not None and policy.shared_trunk:
        read.update(shared_trunk.SETTINGS)
    if observations is not None and given.network is None:
        policy = _with_network(policy, observations)
    if actions is not None:
        policy = replace(policy, log_std=initial_log_std(policy.log_std, actions.deviations))
    estimator, critic = None, ValueNetworkSettings()
    if given.estimator is None:
        if named_estimators.in_groups(config) and config.discount is None:
            values.pop("discount", None)  # which algorithms suggest for returns of steps
        estimator = named_estimators.with_time_limit(
            built(ESTIMATORS[config.estimator or "gae"]), config
        )
        if not policy.shared_trunk and named_estimators.uses_value_network(config, estimator):
            critic = built(ValueNetworkSettings)
            read.update(NETWORK, MEMORY)
    if given.network is not None:
        read.difference_update(NETWORK)
    if policy.shared_trunk and policy.value_coefficient is None:
        policy = replace(policy, value_coefficient=shared_trunk.VALUE_COEFFICIENT)
    if policy.memory is not None and policy.memory_size is None:
        policy = replace(policy, memory_size=MEMORY_SIZE)
    if policy.tanh_gaussian:
        policy = replace(policy, clipped_gaussian=False)
    if _noiseless(given, actions):
        read.difference_update(OF_NOISE)
    if optimiser is not None:
        read.add("optimiser")
    return Records(algorithm, policy, estimator, critic, optimiser, frozenset(read))


def _beside_a_policy(config: TrainConfig, given: Given) -> PolicySettings:
    """What the critic beside a policy that was passed is made of: as the settings say, else as the
    policy is."""
    policy = given.plain_policy
    names = (*NETWORK, *MEMORY, *shared_trunk.SETTINGS)
    found = PolicySettings(**{name: getattr(config, name) for name in names})
    if config.shared_trunk is None:
        found = replace(found, shared_trunk=isinstance(policy, SpacePolicy) and policy.valued)
    if config.memory is None and isinstance(policy, RecurrentPolicy):
        found = replace(found, memory=policy.memory.kind, memory_size=policy.memory.size)
    return found


def resolve(
    config: TrainConfig,
    given: Given,
    observations: Space | None = None,
    actions: ActionSpace | None = None,
) -> tuple[Resolved, Given]:
    """The value of every setting, and the values that do not become settings.

    A built-in algorithm or network that was passed as a value becomes settings, so that files can
    hold it.

    Args:
        config: the settings that were given.
        given: what was passed as values.
        observations: of the environment; None while it is not known. The network, and what an
            algorithm suggests for pictures, follow from it.
        actions: of the environment; None while it is not known. The noise `shared` follows from it.

    Raises:
        UserError: a setting that nothing reads, or settings that exclude each other.
    """
    _check_noise(config, given, actions)
    config, given = _network_as_settings(*_as_settings(config, given))
    if _noiseless(given, actions):  # of a record that was passed
        config = replace(config, log_std_step=None)
    _check_estimator_value(config, given)
    records = records_of(config, given, observations, actions)
    _check_optimiser(config, given, records)
    if records.estimator is not None:
        named_estimators.check_batches(config, records.estimator)
    if config.tanh_gaussian and config.clipped_gaussian:
        raise UserError(
            "--tanh-gaussian and --clipped-gaussian exclude each other: squashed actions are never "
            "clipped; give one"
        )
    _check_memory(config, records.policy)
    _check_critic_hidden(config, given)
    suggested = config.shared_trunk is None and (
        type(records.algorithm).suggests_for_pictures.get("shared_trunk", False)
        if observations is None
        else records.policy.shared_trunk
    )
    shared_trunk.check(config, given, type(records.algorithm), suggested=suggested)
    asked = set(config.given) | ({"optimiser"} if config.optimiser is not None else set())
    refuse_unread(asked, config, given, records)
    by_name = given.estimator is None
    config = replace(
        config,
        algorithm=(config.algorithm or "vanilla") if given.algorithm is None else None,
        estimator=(config.estimator or "gae") if by_name else None,
        baseline=named_estimators.baseline_of(config) if by_name else None,
        optimiser=records.optimiser,
        batch_steps=None if config.whole_episodes else config.steps_per_batch,
        **_settings(records, given),
    )
    algorithm, policy = records.algorithm, records.policy
    return Resolved(config, algorithm, policy, records.estimator, records.critic), given


def _noiseless(given: Given, actions: ActionSpace | None) -> bool:
    """Whether it is known that the default policy acts, and that none of its actions has noise."""
    return given.policy is None and actions is not None and not actions.deviations


def _check_noise(config: TrainConfig, given: Given, actions: ActionSpace | None) -> None:
    for name in OF_NOISE if _noiseless(given, actions) else ():
        if getattr(config, name) is not None:
            raise UserError(
                f"{flag(name)} is read where actions are continuous, and those of this environment "
                "are choices; leave it out"
            )


def _check_memory(config: TrainConfig, policy: PolicySettings) -> None:
    if policy.memory is not None and config.baseline == "value-classifier":
        raise UserError(
            "--baseline value-classifier has no memory, and the policy has one "
            f"({policy.memory}); choose --baseline value-network"
        )
    if config.memory is None and config.memory_size is not None:
        raise UserError(
            f"--memory-size {config.memory_size} is read with --memory gru or --memory lstm; add "
            "one, or leave it out"
        )


def _check_critic_hidden(config: TrainConfig, given: Given) -> None:
    if config.critic_hidden is None:
        return
    sizes = " ".join(map(str, config.critic_hidden))
    if given.network is not None:
        raise UserError(
            f"--critic-hidden {sizes} sizes the layers of networks that have a name, got it with "
            f"network={given.network!r}; pass a critic, such as estimator=policygrad.estimators.gae"
            "(critic=policygrad.baselines.value_network(network=...))"
        )
    if given.policy is not None:
        raise UserError(
            f"--critic-hidden {sizes}: beside a policy that was passed, --hidden sizes the critic; "
            "give that in its place"
        )


def asked_settings(config: TrainConfig, given: Given) -> tuple[str, ...]:
    """The names of the settings that were asked for, before the others are filled in.

    Args:
        config, given: as in `resolve`.
    """
    config, _ = _network_as_settings(*_as_settings(config, given))
    found = dataclasses.fields(config)
    return tuple(sorted(f.name for f in found if getattr(config, f.name) != f.default))


def refuse_unread(
    asked: Iterable[str], config: TrainConfig, given: Given, records: Records
) -> None:
    """Raise UserError for a setting that was given and that nothing reads; it names what would."""
    for name in sorted(asked := set(asked)):
        record = given.algorithm
        own = record is not None and name in reflection.names_of(type(record))
        if own and name not in records.read:
            raise UserError(
                f"{name}={getattr(config, name)!r} was given beside algorithm="
                f"{type(record).__name__}(…), which has this setting; set it in the record"
            )
    unread.refuse(asked, records.read, _chosen(config, given, records.optimiser))


def _check_estimator_value(config: TrainConfig, given: Given) -> None:
    if given.estimator is None:
        return
    own_values.check_estimator(given.estimator)
    if config.baseline is not None:
        raise UserError(
            f"--baseline {config.baseline} is read by a named estimator, got it beside an "
            "Estimator; set it in the estimator"
        )


def _check_optimiser(config: TrainConfig, given: Given, records: Records) -> None:
    if given.optimiser is None:
        return
    transformation(given.optimiser)  # raises if it is none
    if given.algorithm is not None:
        raise UserError(_OPTIMISER_BESIDE.format(given.algorithm))
    if not built_in.takes_optimiser(type(records.algorithm)):
        raise UserError(
            f"--algorithm {config.algorithm} sizes its own steps and takes no optimiser, got "
            f"{given.optimiser}; leave it out, or choose vanilla or ppo"
        )


def _as_settings(config: TrainConfig, given: Given) -> tuple[TrainConfig, Given]:
    """Built-in records that were passed as values, as settings."""
    record = given.algorithm
    if record is None:
        return _optimiser_as_settings(config, given)
    if not isinstance(record, Algorithm):
        raise UserError(
            f"algorithm={record!r} is not an algorithm: pass a name ({', '.join(ALGORITHMS)}) or "
            "a record, such as policygrad.algorithms.Natural(target_kl=0.02)"
        )
    name = reflection.name_in(ALGORITHMS, record)
    if name is None:
        own_values.check_algorithm(record)
        return config, given
    settings = dict(reflection.values_of(record))
    if built_in.takes_optimiser(type(record)):
        if given.optimiser is not None:
            raise UserError(_OPTIMISER_BESIDE.format(record))
        given = replace(given, optimiser=record.optimiser)  # pyright: ignore
        transformation(given.optimiser)  # pyright: ignore
    config = _with(config, settings, f"algorithm={record!r}")
    config = replace(config, algorithm=name)
    return _optimiser_as_settings(config, replace(given, algorithm=None))


_OPTIMISER_BESIDE = (
    "optimiser= is read by a named algorithm, got it with {!r}; set it in the record"
)


def _optimiser_as_settings(config: TrainConfig, given: Given) -> tuple[TrainConfig, Given]:
    """A built-in record of an optimiser, if it was passed as a value, as settings."""
    name = reflection.name_in(OPTIMISERS, given.optimiser)
    if name is None:
        return config, given
    settings = dict(reflection.values_of(given.optimiser))
    config = _with(config, settings, f"optimiser={given.optimiser!r}")
    return replace(config, optimiser=name), replace(given, optimiser=None)


def _with(config: TrainConfig, settings: dict[str, Any], record: str) -> TrainConfig:
    """The configuration with the settings of a record; UserError where one was also given."""
    for name in sorted(settings.keys() & config.given.keys()):
        raise UserError(
            f"{name}={getattr(config, name)!r} was given with {record}; set it in the record"
        )
    return replace(config, **settings)


def _network_as_settings(config: TrainConfig, given: Given) -> tuple[TrainConfig, Given]:
    """A network of the library's, if it was passed as a value, as settings where they make it."""
    network = given.network
    if network is None:
        return config, given
    if isinstance(network, type) or not isinstance(network, Architecture):
        raise UserError(
            f"network={network!r} is not an architecture: pass a record with build and to_json, "
            "such as policygrad.networks.FullyConnected(hidden=(64, 64))"
        )
    for setting in NETWORK:
        value = getattr(config, setting)
        if value is not None:
            raise UserError(
                f"{flag(setting)} {value} is read by the networks that have a name, got it with "
                f"network={network!r}; set it in the architecture"
            )
    named = built_in.as_settings(network)
    if named is None:
        return config, given
    return replace(config, **named), replace(given, network=None)


def _with_network(asked: PolicySettings, observations: Space) -> PolicySettings:
    """The settings with the usual network for observations of a space, where none was chosen."""
    name = asked.network or (built_in.as_settings(usual(observations)) or {})["network"]
    made = built_in.network_named(name, asked.hidden, asked.channels)
    return replace(asked, network=name, hidden=tuple(made.hidden))


def _optimiser(config: TrainConfig, given: Given, cls: type, built: Any) -> tuple[Any, str | None]:
    """The optimiser's record or transformation, and its name."""
    if given.optimiser is not None:
        return given.optimiser, None
    default = next(f.default for f in dataclasses.fields(cls) if f.name == "optimiser")
    name = config.optimiser or reflection.name_in(OPTIMISERS, default)
    assert name is not None
    shared = dict(reflection.values_of(default))
    return built(OPTIMISERS[name], shared), name


def _settings(records: Records, given: Given) -> dict[str, Any]:
    """The settings that are read, from the records that hold them; values have no settings."""
    named: list[Any] = [records.policy, records.estimator, records.critic]
    if given.algorithm is None:
        named.append(records.algorithm)
    if records.optimiser is not None:
        named.append(getattr(records.algorithm, "optimiser", None))
    found: dict[str, Any] = {}
    for record in named:
        if record is not None:
            found |= {k: v for k, v in reflection.values_of(record) if k in records.read}
    return found


def _chosen(config: TrainConfig, given: Given, optimiser: str | None) -> dict[str, str]:
    names = {f.name: getattr(config, f.name) for f in dataclasses.fields(Choices)}
    names["optimiser"] = optimiser
    for name in ("algorithm", "estimator"):
        value = getattr(given, name)
        if value is not None:
            names[name] = f"{type(value).__name__}(…)"
    if given.estimator is not None:
        names["baseline"] = None
    return {name: value for name, value in names.items() if value is not None}
