"""Following the exact gradient to the optimum, for comparison with training curves."""

import contextlib
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from policygrad.core import checks
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.policy import FixedPolicy, FunctionPolicy, SoftmaxPolicy, TabularPolicy
from policygrad.tabular.precision import in_float64
from policygrad.tabular.solution import Solution, solve

Method = Literal["gradient", "natural", "policy_iteration"]
_ENOUGH = 1e-4  # share of the gain that the slope predicts (Armijo)
_SMALLEST_STEP = 1e-14


@dataclass(frozen=True)
class Ascent:
    """The result of an ascent.

    Attributes:
        policy: the last policy.
        objectives: `[n + 1]`, J before the first iteration and after every iteration; it never
            falls.
        converged: whether the gradient (for policy iteration, the improvement) vanished.
    """

    policy: TabularPolicy
    objectives: Float[np.ndarray, " n1"]
    converged: bool

    @property
    def objective(self) -> float:
        """J of the last policy."""
        return float(self.objectives[-1])


@in_float64
def ascend(
    mdp: FiniteMDP,
    policy: SoftmaxPolicy | FunctionPolicy,
    *,
    discount: float,
    method: Method = "gradient",
    step_size: float = 1.0,
    iterations: int = 1000,
    tolerance: float = 1e-9,
) -> Ascent:
    """Climb J by the exact gradient, the exact natural gradient, or policy iteration.

    θ ← θ + α ∇J, or θ + α F⁺∇J; α halves until J gains enough, and doubles after every success.

    Args:
        mdp: with or without a horizon; for policy iteration, without.
        policy: where to start.
        discount: γ of the objective.
        method: "gradient", "natural" or "policy_iteration". Policy iteration leaves the policy's
            class, and returns the best deterministic policy.
        step_size: the first α; positive.
        iterations: the largest number of iterations.
        tolerance: stop if ‖∇J‖ ≤ tolerance · (1 + |J|).

    Returns:
        `Ascent`.

    Raises:
        ValueError: an unknown method, policy iteration under a horizon, γ = 1 without absorption.

    Bias: none. The result is a local optimum of the policy's class.

    Source: E0; Kakade 2001 for the natural gradient.
    """
    checks.one_of("method", method, ("gradient", "natural", "policy_iteration"))
    checks.positive("step_size", step_size)
    checks.positive("iterations", iterations)
    if method == "policy_iteration":
        return _policy_iteration(mdp, policy, discount, iterations)
    solution = solve(mdp, policy, discount=discount)
    objectives, step, converged = [solution.objective], step_size, False
    for _ in range(iterations):
        converged = _flat(solution, tolerance)
        if converged:
            break
        direction = solution.gradient if method == "gradient" else solution.natural_gradient
        found = _line_search(mdp, policy, discount, solution, direction, step)
        if found is None:
            break
        policy, solution, step = found
        objectives.append(solution.objective)
        step *= 2
    return Ascent(policy, np.array(objectives), converged or _flat(solution, tolerance))


def _flat(solution: Solution, tolerance: float) -> bool:
    return bool(np.linalg.norm(solution.gradient) <= tolerance * (1 + abs(solution.objective)))


def _line_search(
    mdp: FiniteMDP,
    policy: SoftmaxPolicy | FunctionPolicy,
    discount: float,
    start: Solution,
    direction: Float[np.ndarray, " d"],
    step: float,
) -> tuple[SoftmaxPolicy | FunctionPolicy, Solution, float] | None:
    """The first of step, step/2, … that gains enough; None if rounding leaves no gain."""
    slope = float(start.gradient @ direction)
    theta, unravel = ravel_pytree(jax.tree.map(jnp.asarray, policy.theta))
    while step > _SMALLEST_STEP:
        moved = replace(policy, theta=jax.tree.map(np.asarray, unravel(theta + step * direction)))
        with contextlib.suppress(ValueError):  # far away values overflow, or episodes hardly end
            solution = solve(mdp, moved, discount=discount)
            if solution.objective > start.objective + _ENOUGH * step * slope:
                return moved, solution, step
        step /= 2
    return None


def _policy_iteration(
    mdp: FiniteMDP, policy: TabularPolicy, discount: float, iterations: int
) -> Ascent:
    if mdp.horizon is not None:
        raise ValueError(
            f"policy_iteration needs horizon=None, got {mdp.horizon}: under a horizon the best "
            "policy depends on the time"
        )
    solution = solve(mdp, policy, discount=discount)
    objectives, chosen, converged = [solution.objective], None, False
    for _ in range(iterations):
        q = solution.action_values
        q = np.nan_to_num(q, nan=-np.finfo(float).max)  # without an end there is no value
        best = np.argmax(q, axis=1)
        if chosen is not None:  # a tie must not change the policy, or the iteration would never end
            rows = np.arange(mdp.states)
            better = q[rows, best] > q[rows, chosen] + 1e-12 * (1 + np.abs(q[rows, chosen]))
            converged = not better.any()
            best = np.where(better, best, chosen)
        if converged:
            break
        chosen = best
        policy = FixedPolicy(np.eye(mdp.actions)[chosen])
        solution = solve(mdp, policy, discount=discount)
        objectives.append(solution.objective)
    return Ascent(policy, np.array(objectives), converged)
