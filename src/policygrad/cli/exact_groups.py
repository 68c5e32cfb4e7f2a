"""`policygrad exact --group-size`: the table of group estimators. Heavy imports wait."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from policygrad.cli.commands import print_json
from policygrad.cli.exact_table import size_of, title_of
from policygrad.core.errors import UserError

if TYPE_CHECKING:
    from policygrad.tabular.exact_estimators import ExactEstimators


@dataclass(frozen=True)
class GroupFlags:
    """Groups of episodes that start in the same state."""

    group_size: int | None = None
    """Episodes of a group. Shows group estimators in place of the others: plain, group-mean, rloo,
    grpo, dr-grpo, dapo, remax, opo, reinforce++, reinforce++-baseline, shrinkage, value,
    rloo-over-std-of-others. --estimator names some of them."""
    groups: int | None = None
    """Groups of a batch. Default: 2."""


def check_used(flags: GroupFlags, estimators: Any, plot: Any) -> None:
    """Raise UserError for a flag that nothing reads."""
    if flags.group_size is None:
        if flags.groups is not None:
            raise UserError(f"--groups {flags.groups} needs --group-size")
        return
    changed = [
        field.name
        for field in fields(estimators)
        if field.name != "estimator" and getattr(estimators, field.name) != field.default
    ]
    if plot is not None:
        changed.append("plot")
    if changed:
        flag = changed[0].replace("_", "-")
        raise UserError(f"--{flag} is not read with --group-size: leave one of the two out")


def show(task: "ExactEstimators", flags: GroupFlags, names: list[str], json: bool) -> None:
    """Print the table of group estimators, or its JSON.

    Raises:
        ValueError: the task has no outcomes to enumerate, or none of the estimators has a row.
    """
    from policygrad.gradients.groups import ESTIMATORS
    from policygrad.tabular.group_results import as_text, group_results
    from policygrad.tabular.outcomes import outcomes_of

    assert flags.group_size is not None
    groups = 2 if flags.groups is None else flags.groups
    outcomes = outcomes_of(task.mdp, task.policy, discount=task.discount)
    chosen = {name: ESTIMATORS[name]() for name in names or ESTIMATORS}
    results, refused = group_results(outcomes, chosen, group_size=flags.group_size, groups=groups)
    if not results:
        raise ValueError(next(iter(refused.values())))
    if json:
        sizes = {"group_size": flags.group_size, "groups": groups}
        print_json({**size_of(task), **sizes, "rows": results, "not_shown": refused})
        return
    print(title_of(task), "", as_text(results), "", sep="\n")
    print(
        f"A batch of {groups} groups of {flags.group_size} episodes from one start state each.\n"
        "Var is that of the batch's gradient (trace); between: its part between start states."
    )
    for name, reason in refused.items():
        print(f"not shown: {name}: {reason}")
