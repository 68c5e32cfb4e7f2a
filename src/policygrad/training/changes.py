"""Settings that may change when a run is resumed, and what follows from a change."""

from typing import Any

import jax.numpy as jnp

from policygrad.algorithms.step_size import StepSize
from policygrad.core.elsewhere import unknown_setting
from policygrad.core.errors import UserError
from policygrad.core.reflection import Setting, names_of, settings_of
from policygrad.core.settings import flag
from policygrad.training.config import BatchSettings, FileSettings, RunSettings, TrainConfig
from policygrad.training.given import Given
from policygrad.training.programs import TrainState
from policygrad.training.resolve import records_of

# the seed was used already; another step of log-std is another structure of the optimiser's state
KEPT = ("seed", "log_std_step")


def changeable(config: TrainConfig, given: Given) -> dict[str, Setting]:
    """The settings that may differ from here on, by name.

    They are the length of the run, its files, the limit of a step, and the numbers of its
    algorithm, optimiser, estimator and critic. The others decide what the saved state is: sizes of
    batches and networks, the environment, and every choice by name.

    Args:
        config: the value of every setting of the run.
        given: values that were passed in place of names.
    """
    records = records_of(config, given)
    named = given.algorithm is None
    optimiser = getattr(records.algorithm, "optimiser", None) if records.optimiser else None
    some = [records.algorithm if named else None, optimiser, records.estimator, records.critic]
    found = [s for record in (RunSettings, FileSettings) for s in settings_of(record)]
    found += [s for s in settings_of(BatchSettings) if s.name == "step_timeout"]
    for record in some:
        if record is not None and records.read >= names_of(type(record)):
            found += [s for s in settings_of(type(record)) if _is_number(s)]
    return {s.name: s for s in found if s.name not in KEPT}


def change(
    config: TrainConfig, given: Given, settings: dict[str, Any]
) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration with other settings, and those whose value is another one.

    Args:
        config: the value of every setting of the run.
        given: values that were passed in place of names.
        settings: the new values by name.

    Raises:
        UserError: a setting that does not exist, that may not change, or is out of its range.
    """
    allowed = changeable(config, given)
    known = TrainConfig.__dataclass_fields__
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise UserError(unknown_setting(name, allowed))
        # the step size of the newest update may be another one than that of the first
        if name != "step_size" and same(getattr(config, name), value):
            continue
        if name not in allowed:
            raise UserError(f"{cannot_change(name, config)}, got {value!r}; {listed(allowed)}")
        changed[name] = value
    values = {name: getattr(config, name) for name in known}
    new = TrainConfig(**{**values, **changed})
    return new, {name: getattr(new, name) for name in changed}


def cannot_change(name: str, config: TrainConfig) -> str:
    """That a setting keeps its value in a run that is resumed."""
    value = getattr(config, name)
    kept = "not used" if value is None else value
    return f"a resumed run keeps its {flag(name)} ({kept})"


def listed(allowed: dict[str, Setting]) -> str:
    """What may change, and what to do for everything else."""
    return (
        f"what may change: {', '.join(map(flag, allowed))}. For other settings begin a new run "
        "from its policy: policygrad train --from RUN"
    )


def same(a: Any, b: Any) -> bool:
    """Whether two values of a setting are the same; True is not 1."""
    sequences = isinstance(a, (list, tuple)) and isinstance(b, (list, tuple))
    if sequences:
        return tuple(a) == tuple(b)
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def begin_anew(state: TrainState, changed: dict[str, Any]) -> TrainState:
    """The state of a run, with a step size that was changed in place of the adapted one."""
    improver = state.learner.improver
    if "step_size" not in changed or not isinstance(improver, StepSize):
        return state
    if improver.step_size is None:  # of an optimiser that takes steps of its own
        return state
    step_size = jnp.asarray(changed["step_size"], improver.step_size.dtype)
    learner = state.learner._replace(improver=improver._replace(step_size=step_size))
    return state._replace(learner=learner)


def other_schedule(old: TrainConfig, new: TrainConfig, given: Given) -> str | None:
    """What another length of the run makes of steps that shrink over it; None if nothing.

    Args:
        old: the settings so far.
        new: those from here on.
        given: values that were passed in place of names.
    """
    schedule = new.step_size_schedule
    if given.algorithm is not None:
        schedule = getattr(given.algorithm, "step_size_schedule", None)
    if schedule != "linear" or new.total_steps == old.total_steps:
        return None
    return (
        f"steps shrink to zero over {new.total_steps:,} steps now, not over {old.total_steps:,}: "
        "from here on they are longer or shorter than planned"
    )


def _is_number(setting: Setting) -> bool:
    return getattr(setting.kind, "__origin__", setting.kind) in (int, float)
