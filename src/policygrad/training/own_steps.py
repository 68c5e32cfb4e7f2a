"""An optimiser that takes steps of its own: nothing then reads a step size of this library."""

from dataclasses import replace
from typing import Any

import numpy as np

from policygrad.algorithms import PPO, Algorithm, Vanilla
from policygrad.algorithms.optimisers import Record
from policygrad.algorithms.probe import first_steps, same_steps, takes_own_steps
from policygrad.core import reflection
from policygrad.core.errors import UserError
from policygrad.core.modules import split
from policygrad.core.settings import flag
from policygrad.policies.meeting import Policy
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given

UNREAD = ("step_size", "target_kl", "step_size_schedule")


def asked_about_steps(config: TrainConfig, given: Given) -> dict[str, Any]:
    """The settings of step sizes that a user gave, by name or in a record that is no default.

    Args:
        config, given: before they are resolved.
    """
    found = {name: value for name, value in config.given.items() if name in UNREAD}
    if isinstance(given.algorithm, (Vanilla, PPO)):
        defaults = {s.name: s.default for s in reflection.settings_of(type(given.algorithm))}
        for name, value in reflection.values_of(given.algorithm):
            if name in UNREAD and value != defaults[name]:
                found[name] = value
    return found


def without_step_size(
    config: TrainConfig, algorithm: Algorithm, asked: dict[str, Any], policy: Policy
) -> TrainConfig:
    """The settings without those of the step size, if the optimiser takes steps of its own.

    Args:
        config: the value of every setting.
        algorithm: the record.
        asked: of `asked_about_steps`.
        policy: the policy that is trained.

    Raises:
        UserError: one of them was given beside such an optimiser; or it cannot be told what the
            optimiser does.
    """
    if not isinstance(algorithm, (Vanilla, PPO)):
        return config
    if not takes_own_steps(algorithm.optimiser, split(policy)[0]):
        return config
    for name, value in asked.items():
        raise UserError(
            f"{flag(name)} {value} was given beside optimiser=…, which takes steps of its own: "
            f"they are taken as they are, and nothing reads {flag(name)}. Leave it out and set the "
            "learning rate in the optimiser, or pass one that gives a direction, such as "
            "optax.scale_by_adam(); a resumed run goes on with the kind that it was trained with"
        )
    return replace(config, **dict.fromkeys(UNREAD))


def first_steps_of(algorithm: Algorithm, policy: Policy) -> list[float] | None:
    """What `config.json` tells of an optax optimiser that was passed, whose numbers nothing says:
    its first steps. None for an optimiser by name, and where it cannot be asked.

    Args:
        algorithm: the record.
        policy: the policy that is trained.
    """
    if not isinstance(algorithm, (Vanilla, PPO)) or isinstance(algorithm.optimiser, Record):
        return None
    found = first_steps(algorithm.optimiser, split(policy)[0])
    return list(found) if np.all(np.isfinite(found)) else None


def other_steps(saved: list[Any] | None, now: list[float] | None) -> str | None:
    """That the optimiser of a resumed run takes other steps than the run's did; None if not.

    Args:
        saved, now: of `first_steps_of`; None where it is not known.
    """
    if saved is None or now is None or same_steps(saved, now):
        return None
    return (
        "the optimiser takes other steps than the run's did: its first steps, asked for by the "
        "same gradients, differ. The run goes on with it; what its saved state holds (moments, "
        "counts, hyperparameters of optax.inject_hyperparams) goes on as it was"
    )
