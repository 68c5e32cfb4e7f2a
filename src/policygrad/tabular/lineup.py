"""Estimators by name, with exact baselines and critics: what the laboratory compares on a task."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from policygrad import baselines, checks, estimators
from policygrad.baselines import Baseline, Pointwise
from policygrad.tabular.control import Family, optimal_baseline
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.problem import AnyEstimator, all_action, check_exact
from policygrad.tabular.solution import Solution, solve

# name -> how the baseline is written in a row; estimators are those of training, and all-action
BASELINES = {
    "none": "b = 0",
    "constant": "b = J",
    "best-constant": "best b",
    "time-dependent": "b(t)",
    "leave-one-out": "leave-one-out",
    "value": "b = V",
    "optimal": "optimal b",
}
ESTIMATORS = {
    "total-return": "total return",
    "reward-indexed": "reward-indexed",
    "reward-to-go": "reward to go",
    "n-step": "{n}-step",
    "gae": "GAE {gae_lambda:g}",
    "td": "TD",
    "all-action": "all-action",
}
USUAL = (
    ("total-return", "none"),
    ("total-return", "constant"),
    ("total-return", "leave-one-out"),
    ("reward-to-go", "none"),
    ("reward-to-go", "constant"),
    ("reward-to-go", "best-constant"),
    ("reward-to-go", "value"),
    ("reward-to-go", "optimal"),
    ("n-step", "value"),
    ("gae", "value"),
    ("td", "value"),
    ("all-action", "none"),
)


@dataclass(frozen=True)
class Lineup:
    """What can be compared on a task.

    Baselines are exact: J, the best constant, E[G_t] of the living at each t, V, and the optimal
    one (per state and time; per state without a horizon). The critic is the exact V.

    Attributes:
        mdp, policy: the task.
        discount: γ.
        discounted_states: whether γ^t is kept.
        gae_lambda: λ of gae.
        n: of n-step.
    """

    mdp: FiniteMDP
    policy: TabularPolicy
    discount: float = 1.0
    discounted_states: bool = True
    gae_lambda: float = 0.95
    n: int = 3

    @cached_property
    def solution(self) -> Solution:
        """Exact values of the policy."""
        return solve(self.mdp, self.policy, discount=self.discount)

    def usual(self) -> dict[str, AnyEstimator]:
        """The estimators that the post speaks of, name -> estimator.

        Beside them TD with a critic that is wrong by half, and, where γ < 1 and γ^t is kept, the
        usual direction. Those that do not exist on this task are left out.
        """
        table = {self.label(*pair): self.estimator(*pair) for pair in USUAL}
        wrong = baselines.table(self.solution.values / 2)
        table["TD, critic V/2"] = replace(self._bare("td"), critic=wrong)
        if self.discount < 1 and self.discounted_states:
            table["to go, b = V, no γ^t"] = replace(self, discounted_states=False).estimator(
                "reward-to-go", "value"
            )
        return {name: e for name, e in table.items() if self.refusal(e) is None}

    def chosen(
        self, named: tuple[str, ...] = (), subtracted: tuple[str, ...] = ()
    ) -> dict[str, AnyEstimator]:
        """Every named estimator with every named baseline, name -> estimator.

        Args:
            named: keys of `ESTIMATORS`; none given: all that take one of the baselines.
            subtracted: keys of `BASELINES`; none given: all.

        Raises:
            ValueError: an unknown name, or none of the pairs exists on this task.
        """
        for name in named:
            checks.one_of("estimator", name, tuple(ESTIMATORS))
        for name in subtracted:
            checks.one_of("baseline", name, tuple(BASELINES))
        table: dict[str, AnyEstimator] = {}
        reason = "all-action takes no baseline: it would cancel exactly"
        for name in named or ESTIMATORS:
            for baseline in subtracted or BASELINES:
                if name == "all-action" and baseline != "none":
                    continue
                if baseline == "time-dependent" and self.mdp.horizon is None:
                    reason = "baseline time-dependent needs a horizon, and this task has none"
                    continue
                estimator = self._bare(name)
                refusal = self.refusal(replace(estimator, **self._only_batch(baseline)))
                if refusal is not None:
                    reason = refusal
                    continue
                table[self.label(name, baseline)] = self.estimator(name, baseline)
        if not table:
            raise ValueError(reason)
        return table
