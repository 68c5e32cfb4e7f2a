"""An estimator on a finite MDP, as numbers and tables that the recursions read.

The return that Ψ_t starts from is the last of p coupled returns,

    G_t = u_t + c_t Λ_t G_{t+1},   u_t[i] = r_t + c_t ν_t[i] V(s_{t+1}),

which the return form gives as its `coupling`: p = 1, Λ = γλ and ν = γ(1−λ) for λ-returns, and
p = n, Λ = γ·shift and ν = (γ, 0, …, 0) for n steps, where G[i] is the (i+1)-step return. c is 1,
unless the form resets at rewards: then it is 0 on an edge with a reward. Scores are summed beyond
such an edge all the same.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core import checks
from policygrad.gradients.baselines.base import StateBaseline
from policygrad.gradients.baselines.simple import LeaveOneOut
from policygrad.gradients.forms import Coupling, Form, LambdaReturn, TotalReturn
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.maths.returns import Scalar
from policygrad.tabular.couplings import coupling_of
from policygrad.tabular.mdp import Edges, FiniteMDP, between_states
from policygrad.tabular.policy import TabularPolicy, Tabulated


class Targets(NamedTuple):
    """The numbers of an estimator; T rows of those that depend on the time, of all three or none.

    Attributes:
        discount: γ.
        omega: factor between the weights of successive scores: γ where γ^t is kept, else 1.
        coupling: `[p, p]` or `[T, p, p]`, Λ.
        trace: of the same shape, Λ/ω, stored separately because ω may be 0.
        bootstrap: `[p]` or `[T, p]`, ν.
    """

    discount: Float[Array, ""]
    omega: Float[Array, ""]
    coupling: Float[Array, "*T p p"]
    trace: Float[Array, "*T p p"]
    bootstrap: Float[Array, "*T p"]


# coupling, trace and bootstrap of one step, or of all in rows; None where every step has the same
StepTargets = tuple[Array, Array, Array] | None


class Tables(NamedTuple):
    """Baseline and critic on every state, zero in absorbing states; `[S]` without a horizon.

    Attributes:
        baseline: `[T, S]`, b_t(s).
        next_values: `[T, S]`, V_{t+1}(s); zero at the horizon.
        noise: `[T]`, variance of a leave-one-out baseline; zero for any other.
    """

    baseline: Float[Array, "*T S"]
    next_values: Float[Array, "*T S"]
    noise: Float[Array, "*T"]


class Problem(NamedTuple):
    """Everything the recursions read: a pytree of float64 arrays.

    Attributes:
        edges, policy, targets, tables: of the MDP, the policy and the estimator.
        unpaid: `[S, A, K]`, c: 1 on edges without a reward, 0 on others. None where c is 1.
    """

    edges: Edges
    policy: Tabulated
    targets: Targets
    tables: Tables
    unpaid: Float[Array, "S A K"] | None

    @property
    def finite(self) -> bool:
        """Whether there is a horizon."""
        return self.tables.noise.ndim == 1

    @property
    def coupled(self) -> int:
        """p, how many returns are coupled."""
        return self.targets.bootstrap.shape[-1]

    @property
    def step_targets(self) -> StepTargets:
        """What of the targets depends on the time, as rows of a scan over the steps."""
        _, _, coupling, trace, bootstrap = self.targets
        return (coupling, trace, bootstrap) if bootstrap.ndim == 2 else None

    def at(self, row: StepTargets) -> "Problem":
        """The problem at one step, as a recursion over one step reads it."""
        if row is None:
            return self
        return self._replace(targets=Targets(*self.targets[:2], *row))

    @property
    def moves(self) -> Float[Array, "S A K"]:
        """π(a|s) P(s'|s, a), on every edge."""
        return self.policy.probabilities[..., None] * self.edges.weights

    @property
    def chain(self) -> Float[Array, "S S"]:
        """P_π, with no transitions from absorbing states."""
        return between_states(self.edges, self.moves)

    def coupling_edges(self, weights: Float[Array, "S A K *d"]) -> Float[Array, "S A K *d"]:
        """Numbers on the edges, zero where the return of a step ends before the next one's."""
        if self.unpaid is None:
            return weights
        return weights * self.unpaid.reshape(*self.unpaid.shape, *[1] * (weights.ndim - 3))

    @property
    def coupled_chain(self) -> Float[Array, "S S"]:
        """P_π along the edges on which a return goes on."""
        return between_states(self.edges, self.coupling_edges(self.moves))


@dataclass(frozen=True)
class AllAction:
    """The all-action estimator; made by `all_action`. It has no sampled form in training.

    Attributes:
        discount: γ.
        critic: V in Q(s, a) = E[r + γ V(s')]; None for the exact Q.
        discounted_states: whether γ^t is kept.
    """

    discount: Scalar
    critic: StateBaseline | None
    discounted_states: bool

    baseline = None


def all_action(
    *,
    discount: Scalar = 1.0,
    critic: StateBaseline | None = None,
    discounted_states: bool = False,
) -> AllAction:
    """The estimator that sums over all actions instead of sampling one.

    ĝ = Σ_t Σ_a ∇π(a|s_t) Q_t(s_t, a).  [E11, E13]

    Args:
        discount: γ in [0, 1].
        critic: V in Q(s, a) = E[r + γ V(s')]; None for the exact Q.
        discounted_states: keep the factor γ^t.

    Returns:
        An estimator for `moments`. It takes no baseline: a baseline would cancel exactly.

    Raises:
        ValueError: discount out of range.

    Bias: with the exact Q, only that of the discount. Otherwise also γ times V's error.

    Source: the post, E13; Sutton et al. 2000.
    """
    checks.unit_interval("discount", discount)
    return AllAction(discount, critic, discounted_states)


AnyEstimator = Estimator | AllAction


def problem_of(
    mdp: FiniteMDP,
    policy: TabularPolicy,
    estimator: AnyEstimator,
    state: EstimatorState | None,
) -> Problem:
    """The numbers and tables of an estimator on an MDP. Leave-one-out counts as no baseline here.

    Raises:
        ValueError: there is no exact form. The message says why.
    """
    tabulated = policy.tabulate(mdp)
    check_exact(mdp, tabulated, estimator)
    coupling = coupling_of(_form_of(estimator), mdp, float(estimator.discount))
    resets = coupling.resets_at_rewards
    edges = mdp.edges
    if mdp.horizon is None:
        edges = edges._replace(weights=mdp.without_strays(tabulated.probabilities))
    return Problem(
        jax.tree.map(jnp.asarray, edges),
        tabulated,
        _targets(estimator, coupling),
        _tables(mdp, estimator, state),
        jnp.asarray(mdp.edges.rewards == 0, float) if resets else None,
    )


def check_exact(mdp: FiniteMDP, policy: Tabulated, estimator: AnyEstimator) -> None:
    """Raise ValueError if an estimator has no moments, or none that the recursions can compute."""
    if not isinstance(estimator, (Estimator, AllAction)):
        raise ValueError(f"expected an Estimator, got {type(estimator).__name__}")
    if isinstance(estimator, Estimator):
        _check_sampled(mdp, estimator)
    pi = policy.probabilities
    mdp.require_digits(pi, float(estimator.discount))
    if is_total_return(estimator):
        mdp.require_absorption(pi, "total_return, whose scores never fade,", "use reward_to_go")
    if not estimator.discounted_states:
        mdp.require_absorption(pi, "discounted_states=False", "keep γ^t by discounted_states=True")


def _check_sampled(mdp: FiniteMDP, estimator: Estimator) -> None:
    if estimator.normalise_advantages:
        raise ValueError(
            "normalise_advantages=True has no exact form: it divides by the spread of a batch"
        )
    if estimator.form.whole_episodes and not is_total_return(estimator):
        raise ValueError(
            f"the return form {estimator.form} has no exact form: of returns that are one number "
            "an episode only total_return has one"
        )
    coupling_of(estimator.form, mdp, float(estimator.discount))
    if estimator.group is not None:
        raise ValueError(
            "an estimator of episodes in groups has no moments of one episode; use "
            "tabular.group_moments, which has those of a group"
        )
    baseline = estimator.baseline
    if baseline is not None and not isinstance(baseline, (StateBaseline, LeaveOneOut)):
        raise ValueError(
            f"the baseline {type(baseline).__name__} has no exact form: it is no function of state "
            "and time (a StateBaseline), nor leave_one_out"
        )
    if estimator.critic is not None and not isinstance(estimator.critic, StateBaseline):
        raise ValueError(
            f"the critic {type(estimator.critic).__name__} has no exact form: it is no function of "
            "state and time (a StateBaseline)"
        )
    timed = isinstance(baseline, LeaveOneOut) and not is_total_return(estimator)
    if timed and mdp.horizon is None:
        raise ValueError(
            f"{estimator.form} with leave_one_out has no exact form without a horizon: its "
            "baseline depends on the time; give the MDP a horizon"
        )


def uses_leave_one_out(estimator: AnyEstimator) -> bool:
    """Whether the baseline is the mean of the batch's other episodes."""
    return isinstance(estimator.baseline, LeaveOneOut)


def is_total_return(estimator: AnyEstimator) -> bool:
    """Whether every score is multiplied by the return of the whole episode."""
    # the type itself: what is derived from it may return something else
    return isinstance(estimator, Estimator) and type(estimator.form) is TotalReturn


def _form_of(estimator: AnyEstimator) -> Form:
    if isinstance(estimator, AllAction):
        return LambdaReturn(1.0 if estimator.critic is None else 0.0)
    return estimator.form


def _targets(estimator: AnyEstimator, coupling: Coupling) -> Targets:
    gamma = float(estimator.discount)
    omega = gamma if estimator.discounted_states else 1.0
    shape, bootstrap, _ = coupling
    trace = shape if estimator.discounted_states else gamma * shape
    numbers = (gamma, omega, gamma * shape, trace, gamma * bootstrap)
    return Targets(*(jnp.asarray(x, float) for x in numbers))


def _tables(mdp: FiniteMDP, estimator: AnyEstimator, state: EstimatorState | None) -> Tables:
    alive = np.asarray(mdp.edges.alive)
    given = EstimatorState(None, None) if state is None else state
    # one more row than steps: the last one holds the values of the final successors
    critic = estimator.critic
    assert critic is None or isinstance(critic, StateBaseline)  # as check_exact has made sure
    values = alive * _tabulate("critic", critic, given.critic, mdp)
    following = values if mdp.horizon is None else np.append(values[1:], 0 * values[:1], axis=0)
    if uses_leave_one_out(estimator):
        baseline = np.zeros_like(values)
    elif estimator.baseline is None:
        baseline = values
    else:
        assert isinstance(estimator.baseline, StateBaseline)  # check_exact has made sure of it
        baseline = alive * _tabulate("baseline", estimator.baseline, given.baseline, mdp)
    tables = baseline, following, np.zeros(baseline.shape[:-1])
    return Tables(*(jnp.asarray(x) for x in tables))


def _tabulate(
    role: str, function: StateBaseline | None, state: Any, mdp: FiniteMDP
) -> Float[np.ndarray, "*T S"]:
    """A baseline on every time and state, or on every state without a horizon."""
    if function is None:
        return np.zeros((mdp.horizon, mdp.states) if mdp.horizon else mdp.states)
    if state is None or not jax.tree.leaves(state):
        state = function.given_state()
    if state is None:
        state = function.init(jax.random.key(0), jnp.zeros((), int))
        if jax.tree.leaves(state):  # numbers that somebody has to fit first
            state = None
    if state is None:
        raise ValueError(
            f"the {role} {type(function).__name__} has to be fitted: pass its state, or give "
            "numbers, such as baselines.table(values)"
        )
    try:
        return function.tabulate(state, mdp.states, mdp.horizon)
    except ValueError as error:
        raise ValueError(f"the {role} {error}") from error
