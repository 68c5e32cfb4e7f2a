"""Estimators by name, with exact baselines and critics: what a task's table compares."""

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from policygrad.core import checks
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.baselines.table import Table
from policygrad.gradients.weights import Estimator
from policygrad.tabular.best_baselines import optimal_baseline
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import TabularPolicy
from policygrad.tabular.problem import AllAction, AnyEstimator, all_action, check_exact
from policygrad.tabular.solution import Solution, solve


@dataclass(frozen=True)
class ExactEstimators:
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

    @property
    def discounting(self) -> dict[str, Any]:
        """γ, and whether γ^t is kept."""
        return {"discount": self.discount, "discounted_states": self.discounted_states}

    @property
    def critic(self) -> Table:
        """V times the critic's scale."""
        return baselines.table(self.critic_scale * self.values)

    @property
    def values(self) -> Float[np.ndarray, "*T S"]:
        """V, and 0 in states that are never visited and have none."""
        return np.nan_to_num(self.solution.values)

    @property
    def mean_values(self) -> Table:
        """E[V_t(s_t)] over the episodes that reach t."""
        if self.mdp.horizon is None:
            raise ValueError("baseline time-dependent needs a horizon, and this MDP has none")
        solution = self.solution
        living = solution.occupancy * ~self.mdp.absorbing
        reached = np.maximum(living.sum(axis=1), 1e-300)
        means = (living * solution.values).sum(axis=1) / reached
        return baselines.table(np.broadcast_to(means[:, None], living.shape))

    def usual(self) -> dict[str, AnyEstimator]:
        """The post's estimators that have an exact form on this task, by label.

        Also TD with a critic that is half of V and, if γ < 1, the usual direction, which drops γ^t.

        Raises:
            ValueError: none has an exact form. The message says why the first one has none.
        """
        table = self._existing(_USUAL)
        extra = [("TD, critic V/2", replace(self, critic_scale=0.5), _TD)]
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
        for name in names:
            checks.one_of("estimator", name, tuple(ESTIMATORS))
        for name in subtracted:
            checks.one_of("baseline", name, tuple(BASELINES))
        pairs = [(e, b) for e in names or ESTIMATORS for b in subtracted or BASELINES]
        return self._existing(pairs)

    def estimator(self, name: str, baseline: str) -> AnyEstimator:
        """An estimator with a baseline, both exact on this task.

        Args:
            name: a key of `ESTIMATORS`.
            baseline: a key of `BASELINES`.

        Raises:
            ValueError: an unknown name, or a pair without exact moments on this task.
        """
        checks.one_of("estimator", name, tuple(ESTIMATORS))
        checks.one_of("baseline", baseline, tuple(BASELINES))
        made = ESTIMATORS[name].make(self)
        if isinstance(made, Estimator):
            made = replace(made, baseline=BASELINES[baseline].make(self, made))
        elif baseline != "none":
            raise ValueError(f"{name} takes no baseline, got {baseline}: it would cancel")
        check_exact(self.mdp, self.policy.tabulate(self.mdp), made)
        return made

    def label(self, name: str, baseline: str) -> str:
        """The label of the pair's row. An estimator's default baseline is not named."""
        called = ESTIMATORS[name].label.format(n=self.n, gae_lambda=self.gae_lambda)
        default = "value" if ESTIMATORS[name].has_critic else "none"
        return called if baseline == default else f"{called}, {BASELINES[baseline].label}"

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


class NamedEstimator(NamedTuple):
    """An estimator without its baseline.

    Attributes:
        label: how the table calls it; {n} and {gae_lambda} are filled in.
        make: of a task.
        has_critic: it bootstraps from V, which is then its own baseline.
    """

    label: str
    make: Callable[[ExactEstimators], Estimator | AllAction]
    has_critic: bool = False


class NamedBaseline(NamedTuple):
    """A baseline.

    Attributes:
        label: how the table calls it.
        make: of a task and an estimator; None stands for the critic's values.
    """

    label: str
    make: Callable[[ExactEstimators, Estimator], Baseline | None]


def _best_constant(task: ExactEstimators, bare: Estimator) -> Baseline:
    best = optimal_baseline(task.mdp, task.policy, bare, "constant")
    return baselines.constant(float(best.coefficients))


def _optimal(task: ExactEstimators, bare: Estimator) -> Baseline:
    family = "state" if task.mdp.horizon is None else "state_time"
    return optimal_baseline(task.mdp, task.policy, bare, family).baseline()


def _value(task: ExactEstimators, bare: Estimator) -> Baseline | None:
    # an estimator with a critic subtracts it anyway
    return baselines.table(task.values) if bare.critic is None else None


ESTIMATORS = {
    "total-return": NamedEstimator(
        "total return", lambda task: estimators.total_return(discount=task.discount)
    ),
    "reward-indexed": NamedEstimator(
        "reward-indexed", lambda task: estimators.reward_indexed(discount=task.discount)
    ),
    "reward-to-go": NamedEstimator(
        "reward to go", lambda task: estimators.reward_to_go(**task.discounting)
    ),
    "n-step": NamedEstimator(
        "{n}-step",
        lambda task: estimators.n_step(n=task.n, critic=task.critic, **task.discounting),
        has_critic=True,
    ),
    "gae": NamedEstimator(
        "GAE {gae_lambda:g}",
        lambda task: estimators.gae(
            gae_lambda=task.gae_lambda, critic=task.critic, **task.discounting
        ),
        has_critic=True,
    ),
    "td": NamedEstimator(
        "TD", lambda task: estimators.td(critic=task.critic, **task.discounting), has_critic=True
    ),
    "all-action": NamedEstimator("all-action", lambda task: all_action(**task.discounting)),
}

BASELINES = {
    "none": NamedBaseline("b = 0", lambda task, bare: baselines.none()),
    "constant": NamedBaseline(
        "b = J", lambda task, bare: baselines.constant(task.solution.objective)
    ),
    "best-constant": NamedBaseline("best const", _best_constant),
    "time-dependent": NamedBaseline("b(t)", lambda task, bare: task.mean_values),
    "leave-one-out": NamedBaseline("LOO", lambda task, bare: baselines.leave_one_out()),
    "value": NamedBaseline("b = V", _value),
    "optimal": NamedBaseline("optimal b", _optimal),
}

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
