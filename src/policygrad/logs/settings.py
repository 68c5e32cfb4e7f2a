"""The settings of a run of another library: what its log says, and what the user says beside it."""

import json
import math
from collections.abc import Mapping
from typing import Any

from policygrad.core.errors import UserError
from policygrad.core.settings import In
from policygrad.diagnostics.language import Language
from policygrad.logs.readers import settings_in_text, value_of
from policygrad.logs.table import Table

SHARES = ("discount", "gae_lambda")
COUNTS = (
    "batch_steps", "rollout_steps", "num_envs", "epochs", "minibatches", "minibatch_steps",
    "group_size",
)  # fmt: skip


def settings_of(table: Table, language: Language, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by our names: what the user gave, else what the library wrote.

    Raises:
        UserError: a setting is given that the library does not have, or out of its range.
    """
    written = dict(table.settings)
    for name, text in table.texts.items():
        if name.startswith("hyperparameters"):
            written |= settings_in_text(text)
        elif name.startswith("args") and text.lstrip().startswith("{"):
            written |= _arguments(text)
    for name, x in table.columns.items():
        if name.startswith("config/") and len(x.finite):  # RLlib repeats them in every row
            written.setdefault(name.removeprefix("config/"), float(x.finite[-1]))
    found: dict[str, Any] = {}
    for ours, names in language.settings.items():
        values = [written[name] for name in names if written.get(name) is not None]
        if values and isinstance(values[0], (int, float, str)):
            found[ours] = values[0]
    names_of = {n: ours for ours, names in language.settings.items() for n in (*names, ours)}
    for name, value in given.items():
        if name not in names_of:
            known = ", ".join(names[0] for names in language.settings.values()) or "none"
            raise UserError(
                f"--setting {name}={value}: {language.name} has no setting {name} that is read; "
                f"those are {known}"
            )
        ours = names_of[name]
        if ours != "env" and value is not None:
            _check(ours, name, value)
        found[ours] = value
    return {name: x for name, x in found.items() if name == "env" or x in In(-math.inf)}


def _check(ours: str, name: str, value: Any) -> None:
    """Raise UserError for a value that no run can have."""
    whole = ours in COUNTS
    within = In(0, 1) if ours in SHARES else In(1) if whole else In(0)
    if value not in within or (whole and not float(value).is_integer()):
        raise UserError(
            f"--setting {name}={value}: {name} must be {'a whole number ' * whole}{within}"
        )


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def parse_setting(text: str) -> tuple[str, Any]:
    """`learning_rate=3e-4` as name and value; UserError if it is no such pair, or no number."""
    name, equals, value = text.partition("=")
    number = value_of(value)
    if not name or not equals or isinstance(number, (str, bool)) or number is None:
        raise UserError(f"--setting takes NAME=NUMBER, such as gamma=0.99, got {text!r}")
    return name, number
