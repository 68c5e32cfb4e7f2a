"""Numbers of a run's algorithm and estimator, by the names of their settings, and other values of
them while it goes on. They are traced, so another value compiles nothing."""

import dataclasses
import math
from typing import Annotated, Any

import jax.numpy as jnp
from jaxtyping import PyTree

from policygrad.algorithms import Learner
from policygrad.algorithms.step_size import StepSize
from policygrad.core.errors import UserError
from policygrad.core.modules import is_array
from policygrad.core.reflection import settings_of
from policygrad.core.settings import In, check_setting, did_you_mean, plain_value
from policygrad.gradients.forms import Form, ResetAtRewards, innermost
from policygrad.training.config import SOMETIMES

STEPS = ("step_size", "target_kl")
Finite = Annotated[float, In(-math.inf)]


def with_number(
    learner: Learner, improver: PyTree, name: str, value: float
) -> tuple[Learner, PyTree]:
    """The learner and the algorithm's state with another value of one number.

    Args:
        learner: of the run.
        improver: the algorithm's state.
        name: of the setting.
        value: in the range of the setting.

    Raises:
        UserError: no number of this name is read, or the value is out of its range.
    """
    algorithm, estimator = learner.algorithm, learner.estimator
    kinds = {s.name: (s.field, s.kind) for s in settings_of(type(algorithm))}
    field, kind = kinds.get(name, (name, SOMETIMES.get(name, Finite)))
    value = plain_value(kind, value)
    check_setting(name, kind, value)
    check_setting(name, Finite, value)
    if name in STEPS and (field in numbers_of(algorithm) or _holds_number(improver, field)):
        _check_steps(algorithm, improver, name)
    if _holds_number(improver, field):  # the algorithm adapts it from update to update
        return learner, _adapted(algorithm, improver, field, value)
    if field in numbers_of(algorithm):
        return dataclasses.replace(learner, algorithm=_with(algorithm, field, value)), improver
    if field in numbers_of(estimator):
        return dataclasses.replace(learner, estimator=_with(estimator, field, value)), improver
    if field in numbers_of(innermost(estimator.form)):
        form = _in_form(estimator.form, field, value)
        changed = dataclasses.replace(estimator, form=form)
        return dataclasses.replace(learner, estimator=changed), improver
    known = {
        *kinds.keys() & {name for name, (f, _) in kinds.items() if f in numbers_of(algorithm)},
        *numbers_of(estimator),
        *numbers_of(innermost(estimator.form)),
    }
    near = did_you_mean(name, known) or f"; choose from {', '.join(sorted(known))}"
    raise UserError(f"the run reads no number {name!r} that may change as it goes on{near}")


def _holds_number(state: PyTree, field: str) -> bool:
    """Whether an algorithm's state is a named tuple with a number of this name."""
    return field in getattr(state, "_fields", ()) and _is_number(getattr(state, field))


def _check_steps(algorithm: Any, improver: PyTree, name: str) -> None:
    """UserError where nothing would read the value, or something else changes it as well."""
    if isinstance(improver, StepSize) and improver.step_size is None:
        raise UserError(
            f"nothing reads {name}: the optimiser takes steps of its own. Give its learning rate "
            "as a schedule of optax, or pass an optimiser that gives a direction, such as "
            "optax.scale_by_adam()"
        )
    if algorithm.step_size_schedule == "linear":
        raise UserError(
            f"{name} cannot change as the run goes on beside step_size_schedule='linear', which "
            "would multiply it by the share of the run that is left; train with "
            "step_size_schedule='constant'"
        )


def numbers_of(record: Any) -> list[str]:
    """The fields of a record that hold one number, and an entropy coefficient that is left out."""
    return [
        f.name
        for f in dataclasses.fields(record)
        if not f.metadata.get("static")
        and (_is_number(getattr(record, f.name)) or f.name == "entropy_coefficient")
    ]


def _is_number(value: Any) -> bool:
    return (is_array(value) and value.ndim == 0) or type(value) is float


def _in_form(form: Form, field: str, value: float) -> Form:
    if isinstance(form, ResetAtRewards):
        return ResetAtRewards(_in_form(form.form, field, value))
    return _with(form, field, value)


def _with(record: Any, field: str, value: float) -> Any:
    return dataclasses.replace(record, **{field: jnp.asarray(value, jnp.float32)})


def _adapted(algorithm: Any, improver: Any, field: str, value: float) -> PyTree:
    target = float(getattr(algorithm, "target_kl", 0))
    if target > 0:
        raise UserError(
            f"{field} follows the KL, to which target_kl={target:g} holds it; change target_kl as "
            "the run goes on, or train with target_kl=0"
        )
    was = getattr(improver, field)
    new = jnp.asarray(value, was.dtype)
    return improver if new == was else improver._replace(**{field: new})
