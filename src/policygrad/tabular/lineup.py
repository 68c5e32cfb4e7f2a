"""Estimators by name, with exact baselines and critics: what can be compared on a task."""

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from policygrad.core import checks
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.baselines.table import Table
from policygrad.gradients.estimators import Estimator
from policygrad.tabular.control import optimal_baseline
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.problem import AnyEstimator, all_action, check_exact
from policygrad.tabular.solution import Solution, solve

# name -> label of its row in the table
ESTIMATORS = {
    "total-return": "total return",
    "reward-indexed": "reward-indexed",
    "reward-to-go": "reward to go",
    "n-step": "{n}-step",
    "gae": "GAE {gae_lambda:g}",
    "td": "TD",
    "all-action": "all-action",
}
BASELINES = {
    "none": "b = 0",
    "constant": "b = J",
    "best-constant": "best const",
    "time-dependent": "b(t)",
    "leave-one-out": "LOO",
    "value": "b = V",
    "optimal": "optimal b",
}
_WITH_CRITIC = ("n-step", "gae", "td")  # their default baseline is the critic
_TD, _TO_GO = ("td", "value"), ("reward-to-go", "value")
_USUAL = (
    ("total-return", "none"),
    ("total-return", "constant"),
    ("total-return", "leave-one-out"),
    ("reward-to-go", "none"),
    ("reward-to-go", "constant"),
    ("reward-to-go", "best-constant"),
    _TO_GO,
    ("reward-to-go", "optimal"),
    ("n-step", "value"),
    ("gae", "value"),
    _TD,
    ("all-action", "none"),
)


@dataclass(frozen=True)
class Lineup:
    """A task, and settings that its estimators share.

    Attributes:
        mdp, policy: the task.
        discount: γ.
        discounted_states: whether γ^t is kept.
        gae_lambda: λ of gae.
        n: of n-step.
        critic_scale: the critic is the exact V times this; 1 is exact.
    """

    mdp: FiniteMDP
    policy: TabularPolicy
    discount: float = 1.0
    discounted_states: bool = True
    gae_lambda: float = 0.95
    n: int = 3
    critic_scale: float = 1.0

    def __post_init__(self) -> None:
        checks.unit_interval("discount", self.discount)
        checks.unit_interval("gae_lambda", self.gae_lambda)
        checks.whole("n", self.n)
        if not math.isfinite(self.critic_scale):
            raise ValueError(f"critic_scale must be finite, got {self.critic_scale}")

    @cached_property
    def solution(self) -> Solution:
        """Exact values of the policy."""
        return solve(self.mdp, self.policy, discount=self.discount)

    def usual(self) -> dict[str, AnyEstimator]:
        """The post's estimators that have an exact form on this task, by label.

        Also TD with a critic that is half of V and, if γ < 1, the usual direction, which drops γ^t.

        Raises:
            ValueError: none has an exact form. The message says why the first one has none.
        """
        table = self._existing(_USUAL)
        extra = [("TD, critic V/2", replace(self, critic_scale=self.critic_scale / 2), _TD)]
        if self.discount < 1 and self.discounted_states:
            extra.append(("usual direction, b = V", replace(self, discounted_states=False), _TO_GO))
        for label, varied, pair in extra:
            with contextlib.suppress(ValueError):  # it has no exact form on this task
                table[label] = varied.estimator(*pair)
        return table

    def chosen(
        self, names: Sequence[str] = (), subtracted: Sequence[str] = ()
    ) -> dict[str, AnyEstimator]:
        """The pairs of an estimator and a baseline that have an exact form here, by label.

        Args:
            names: keys of `ESTIMATORS`; empty for all.
            subtracted: keys of `BASELINES`; empty for all.

        Raises:
            ValueError: an unknown name, or no pair has an exact form. The message then says why the
                first one has none.
        """
        pairs = [(e, b) for e in names or ESTIMATORS for b in subtracted or BASELINES]
        return self._existing(pairs)

    def estimator(self, name: str, baseline: str) -> AnyEstimator:
        """An estimator with a baseline, both exact on this task.

        Args:
            name: a key of `ESTIMATORS`.
            baseline: a key of `BASELINES`: 0, J, the best constant, E[V] at each t, leave-one-out,
                V, or the optimal one (per state and time; per state without a horizon).

        Raises:
            ValueError: an unknown name, or a pair without exact moments on this task.
        """
        checks.one_of("estimator", name, tuple(ESTIMATORS))
        checks.one_of("baseline", baseline, tuple(BASELINES))
        settings = {"discount": self.discount, "discounted_states": self.discounted_states}
        if name == "all-action":
            if baseline != "none":
                raise ValueError(f"all-action takes no baseline, got {baseline}: it would cancel")
            made: AnyEstimator = all_action(**settings)
        else:
            bare = self._bare(name, settings)
            made = replace(bare, baseline=self._baseline(bare, baseline))
        check_exact(self.mdp, self.policy.tabulate(self.mdp), made)
        return made

    def label(self, name: str, baseline: str) -> str:
        """The label of the pair's row."""
        own = "value" if name in _WITH_CRITIC else "none"
        called = ESTIMATORS[name].format(n=self.n, gae_lambda=self.gae_lambda)
        return called if baseline == own else f"{called}, {BASELINES[baseline]}"

    def _existing(self, pairs: Iterable[tuple[str, str]]) -> dict[str, AnyEstimator]:
        """Label -> estimator, for the pairs with an exact form; ValueError if there are none."""
        table: dict[str, AnyEstimator] = {}
        refusal = None
        for pair in pairs:
            try:
                table[self.label(*pair)] = self.estimator(*pair)
            except ValueError as error:
                refusal = refusal or error
        if refusal is not None and not table:
            raise refusal
        return table

    def _bare(self, name: str, settings: dict) -> Estimator:
        critic = baselines.table(self.critic_scale * self.solution.values)
        match name:
            case "total-return":
                return estimators.total_return(discount=self.discount)
            case "reward-indexed":
                return estimators.reward_indexed(discount=self.discount)
            case "reward-to-go":
                return estimators.reward_to_go(**settings)
            case "n-step":
                return estimators.n_step(n=self.n, critic=critic, **settings)
            case "td":
                return estimators.td(critic=critic, **settings)
        return estimators.gae(gae_lambda=self.gae_lambda, critic=critic, **settings)

    def _baseline(self, bare: Estimator, name: str) -> Baseline | None:
        match name:
            case "none":
                return baselines.none()
            case "constant":
                return baselines.constant(self.solution.objective)
            case "best-constant":
                best = optimal_baseline(self.mdp, self.policy, bare, "constant")
                return baselines.constant(float(best.coefficients))
            case "time-dependent":
                return self._mean_values()
            case "leave-one-out":
                return baselines.leave_one_out()
            case "optimal":
                family = "state" if self.mdp.horizon is None else "state_time"
                return optimal_baseline(self.mdp, self.policy, bare, family).baseline()
        # an estimator with a critic subtracts the critic
        return baselines.table(self.solution.values) if bare.critic is None else None

    def _mean_values(self) -> Table:
        """E[V_t(s_t)] over the episodes that reach t, as a baseline."""
        if self.mdp.horizon is None:
            raise ValueError("baseline time-dependent needs a horizon, and this MDP has none")
        solution = self.solution
        living = solution.occupancy * ~self.mdp.absorbing
        reached = np.maximum(living.sum(axis=1), 1e-300)
        means = (living * solution.values).sum(axis=1) / reached
        return baselines.table(np.broadcast_to(means[:, None], living.shape))
