"""From the log of another library to what the doctor's rules look at."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from policygrad.core.errors import UserError
from policygrad.diagnostics.examination import Examination, Logged
from policygrad.diagnostics.language import METRICS, Language
from policygrad.logs.recognising import column, mapped, name_of, one_policy, plain, recognised
from policygrad.logs.settings import settings_of
from policygrad.logs.table import Column, Table, going_on

OF_UPDATES = ("kl", "entropy", "value_error", "explained_variance_before", "clip_fraction",
              "action_std", "gradient_norm", "step_size", "loss", "reference_kl")  # fmt: skip
COUNTS = ("iterations", "gradient_steps")  # so far
# NaN says nothing: a variance of zero is explained by nothing
MAY_BE_NAN = ("explained_variance_before", "groups_without_spread")
# a step whose gradient overflows is skipped in mixed precision, and training goes on
MAY_BE_SKIPPED = ("gradient_norm",)
MANY, PARTS = 100, 20


def examine_table(
    table: Table,
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Examination:
    """What a log says, in our names.

    Args:
        table: the log.
        columns: our name -> its column, beside or instead of those that are recognised.
        settings: its name -> value: what the user says of the run beside the log.

    Raises:
        UserError: no library is recognised; columns or settings that it does not have.
    """
    table, notes = one_policy(plain(table))
    notes = (*table.notes, *notes)
    language = mapped(table, columns) if columns else recognised(table.columns)
    found = {name: column(table, language, name) for name in (*METRICS, *COUNTS)}
    logged = {name: x for name, x in found.items() if x is not None and len(x.values)}
    if not logged:
        raise UserError(f"the log has none of the numbers that are read: {', '.join(METRICS)}")
    if "env_steps" in logged:
        logged["env_steps"], anew = _counted_on(logged["env_steps"])
        notes = (*notes, *anew)
    axis = _axis(logged)
    rows = len(axis)
    if not any(name in logged for name in OF_UPDATES):
        rows = max(len(x.values) for x in logged.values())
    if rows > len(axis):
        notes = (*notes, f"the {rows:,} rows were averaged over {len(axis)} parts of equal length")
    metrics = {name: x.along(axis) for name, x in logged.items() if len(x.finite)}
    known = settings_of(table, language, settings or {})
    steps = _env_steps(logged, axis, language)
    if table.monitors > 1:  # a single file may hold the episodes of many, as VecMonitor writes it
        known.setdefault("num_envs", table.monitors)
    returns = _episode_returns(table, logged, axis)
    known.setdefault("batch_steps", _batch_steps(logged, steps, known, axis, language))
    metrics |= _episodes(metrics, axis, known, language)
    window = language.windows.get(name_of(table, language, "return_mean") or "")
    return Examination(
        env=str(known["env"]) if known.get("env") else None,
        settings={"batch_episodes": None, **known},
        passed_as_objects=(),
        metrics=metrics,
        env_steps=steps,
        notes=notes,
        language=language,
        logged=Logged(
            files=table.files,
            not_finite=_not_finite(logged, language, returns),
            returns=returns,
            rows=rows,
            window=window,
        ),
    )


def _counted_on(steps: Column) -> tuple[Column, tuple[str, ...]]:
    """Environment steps over all of a log in which training was begun anew, and a note of it."""
    known = steps.finite
    falls = int(np.sum(known[1:] < known[:-1]))
    note = f"the environment steps begin anew {falls} times; they were counted on"
    return Column(steps.steps, going_on(steps.values)), (note,) if falls else ()


def _axis(logged: Mapping[str, Column]) -> np.ndarray:
    """The steps that all series are brought to: those of updates, if there are any.

    Returns are taken where they are as many, so that the first row, which precedes the first
    update, is kept.
    """
    updates = max(
        (logged[name].steps for name in OF_UPDATES if name in logged), key=len, default=np.zeros(0)
    )
    returns = logged["return_mean"].steps if "return_mean" in logged else np.zeros(0)
    if len(updates) <= len(returns) <= 1.5 * len(updates) + 1 and len(returns):
        return np.unique(returns)
    if len(updates):
        return np.unique(updates)
    longest = max((x.steps for x in logged.values()), key=len)
    if len(longest) <= MANY:
        return np.unique(longest)
    # episode by episode: the mean of every twentieth of the log
    return np.unique(np.quantile(longest, np.arange(1, PARTS + 1) / PARTS))


def _env_steps(logged: Mapping[str, Column], axis: np.ndarray, language: Language) -> int:
    """Steps of all environments; 0 if the log does not tell."""
    if "env_steps" in logged and len(logged["env_steps"].finite):
        return int(logged["env_steps"].finite.max())
    # an axis that counts rows says nothing of steps
    counts = language.axis_counts_steps and len(axis) > 1 and np.median(np.diff(axis)) > 1
    return int(axis[-1]) if counts else 0


def _batch_steps(
    logged: Mapping[str, Column],
    steps: int,
    known: Mapping[str, Any],
    axis: np.ndarray,
    language: Language,
) -> Any:
    """Steps of a batch: as they are set, or by the number of iterations; None if not known.

    Without a number of iterations, the steps between two rows; there may be several batches between
    them, so that this is too large rather than too small.
    """
    if {"rollout_steps", "num_envs"} <= known.keys():
        return known["rollout_steps"] * known["num_envs"]
    if not steps:
        return None
    if {"iterations", "env_steps"} <= logged.keys():
        return _steps_of_an_iteration(logged["env_steps"], logged["iterations"])
    spacing = float(np.median(np.diff(axis))) if len(axis) > 1 else 0.0
    updates = any(name in logged for name in OF_UPDATES)
    return spacing if updates and spacing > 1 and not language.single_episodes else None


def _steps_of_an_iteration(steps: Column, iterations: Column) -> float | None:
    """The median over rows of new steps by new iterations; None if no row has both.

    Iterations may be counted from 1 again, as SB3 does with each `learn`.
    """
    _, at, beside = np.intersect1d(steps.steps, iterations.steps, return_indices=True)
    new = np.diff(steps.values[at], prepend=0.0)
    count = iterations.values[beside]
    made = np.diff(count, prepend=0.0)
    made = np.where(made > 0, made, count)
    known = (new > 0) & (made > 0)
    return float(np.median(new[known] / made[known])) if known.any() else None


def _episodes(
    metrics: Mapping[str, np.ndarray],
    axis: np.ndarray,
    known: Mapping[str, Any],
    language: Language,
) -> dict[str, np.ndarray]:
    """How many episodes had ended by each row: new steps by the mean length; empty if not known.

    A run that goes on from a checkpoint has not had all its steps in its first row.
    """
    steps, lengths = metrics.get("env_steps"), metrics.get("length_mean")
    if steps is None and language.axis_counts_steps:
        steps = axis
    elif steps is None and known.get("batch_steps"):
        steps = known["batch_steps"] * (axis - axis[0] + 1)
    if lengths is None or steps is None or not np.isfinite(steps).all():
        return {}
    new = np.diff(steps, prepend=0.0)
    new[0] = min(new[0], float(np.median(new)))
    ended = np.divide(new, lengths, out=np.zeros(len(axis)), where=lengths > 0)
    return {"episodes": np.maximum(np.cumsum(ended), 1.0)}


def _not_finite(
    logged: Mapping[str, Column], language: Language, returns: np.ndarray | None
) -> dict[str, int]:
    """How often NaN or infinity was logged, by our names, where it means that something failed.

    A run that dies of a NaN may have written the episode and not its mean.
    """
    found = {}
    for name, x in logged.items():
        wrong = ~np.isfinite(x.values)
        if name in MAY_BE_NAN or (name in MAY_BE_SKIPPED and not wrong[-1]):
            continue
        if name in ("return_mean", "length_mean") and language.nan_without_episodes:
            first = np.flatnonzero(~wrong)  # before the first episode ends, NaN is no failure
            wrong = wrong[first[0] :] if len(first) else wrong[:0]
        if wrong.any():
            found[name] = int(wrong.sum())
    episodes = 0 if returns is None else int(np.sum(~np.isfinite(returns)))
    if episodes and not language.nan_without_episodes:
        found["return_mean"] = max(episodes, found.get("return_mean", 0))
    return found


def _episode_returns(table: Table, logged: Mapping[str, Column], axis: np.ndarray) -> Any:
    """`[N]`, returns of single episodes where they were logged; else None."""
    if "monitor/r" in table.columns:
        return table.columns["monitor/r"].values
    returns = logged.get("return_mean")
    return returns.values if returns is not None and len(returns.values) > 2 * len(axis) else None
