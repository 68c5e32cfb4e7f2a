"""The named estimators: constructors that validate, one for each way to weigh a score.

Every estimator is ĝ = Σ_t Ψ_t z_t, and Ψ_t a return less a baseline:

    total_return      Ψ_t = R(τ) − b                                     E3
    reward_indexed    Ψ_t = γ^t (Σ_{t'≥t} γ^{t'−t} r_{t'} − b)           E4, as weights
    reward_to_go      Ψ_t = Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t)            E5, E6, E10
    n_step            Ψ_t = r_t + … + γ^n V(s_{t+n}) − b(s_t)            E13
    td                Ψ_t = r_t + γ V(s_{t+1}) − V(s_t)                  E12, E13
    gae               Ψ_t = Σ_l (γλ)^l δ_{t+l}                           GAE
    in_groups         Ψ_t = w_i of episode i among those of its group

`reward_to_go`, `n_step`, `td` and `gae` take `resets_at_rewards`, with which a return ends at the
first reward that is not zero: `ResetAtRewards` says what is then followed.
"""

from policygrad.core import checks
from policygrad.gradients import baselines
from policygrad.gradients.baselines.base import Baseline, Critic
from policygrad.gradients.checking import checked
from policygrad.gradients.forms import (
    Coupling,
    Form,
    LambdaReturn,
    LaneSteps,
    NStep,
    ResetAtRewards,
    TotalReturn,
    resetting,
)
from policygrad.gradients.groups.estimator import GroupEstimator
from policygrad.gradients.weights import Estimator, EstimatorState, TimeLimit, Weights
from policygrad.maths.returns import Scalar

__all__ = [
    "Coupling",
    "Estimator",
    "EstimatorState",
    "Form",
    "LambdaReturn",
    "LaneSteps",
    "NStep",
    "ResetAtRewards",
    "TimeLimit",
    "TotalReturn",
    "Weights",
    "gae",
    "in_groups",
    "n_step",
    "reward_indexed",
    "reward_to_go",
    "td",
    "total_return",
]


def total_return(
    *,
    discount: Scalar = 1.0,
    baseline: Baseline | None = None,
    normalise_advantages: bool = False,
) -> Estimator:
    """Form (i): every score of an episode times the return of the whole episode.

    Ψ_t = R(τ) − b, R(τ) = Σ_t γ^t r_t.  [E3]

    Args:
        discount: γ in [0, 1].
        baseline: what is subtracted; None for nothing.
        normalise_advantages: scale Ψ to unit size over the batch; a baseline's is centred before.

    Returns:
        An estimator for whole episodes.

    Raises:
        ValueError: discount out of range.

    Bias: none, as a gradient of J_γ; its γ^t are inside R(τ). With `normalise_advantages` a batch's
    scale, and the mean that is subtracted beside a baseline, contain each sample.

    Source: the post, form (i); Williams 1992; E3.
    """
    return checked(
        Estimator(
            TotalReturn(),
            baselines.none() if baseline is None else baseline,
            None,
            discount,
            normalise_advantages=normalise_advantages,
        )
    )


def reward_indexed(
    *,
    discount: Scalar = 1.0,
    baseline: Baseline | None = None,
    normalise_advantages: bool = False,
) -> Estimator:
    """Form (ii): every reward times the scores of the actions before it.

    ĝ = Σ_{t'} γ^{t'} r_{t'} Σ_{t≤t'} z_t, as Ψ_t = γ^t (Σ_{t'≥t} γ^{t'−t} r_{t'} − b).  [E4]

    Args:
        discount: γ in [0, 1]; each reward carries its own γ^{t'}.
        baseline: what is subtracted; None for nothing.
        normalise_advantages: scale to unit size over the batch; a baseline's is centred before.

    Returns:
        An estimator for whole episodes: pathwise the same as `reward_to_go` with γ^t kept.

    Raises:
        ValueError: discount out of range.

    Bias: none, as a gradient of J_γ; with `normalise_advantages` that of `total_return`.

    Source: the post, form (ii); Baxter & Bartlett 2001; E4. `scores.reward_indexed_gradient`
    computes it as it is written.
    """
    return checked(
        Estimator(
            LambdaReturn(1.0),
            baselines.none() if baseline is None else baseline,
            None,
            discount,
            discounted_states=True,
            normalise_advantages=normalise_advantages,
        )
    )


def reward_to_go(
    *,
    discount: Scalar = 1.0,
    baseline: Baseline | None = None,
    critic: Critic | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit | None = None,
    resets_at_rewards: bool = False,
    normalise_advantages: bool = False,
) -> Estimator:
    """Form (iii): every score times the rewards that follow it.

    Ψ_t = Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t).  [E5, E6, E10]

    Args:
        discount: γ in [0, 1].
        baseline: what is subtracted; None stands for the critic, or nothing without one.
        critic: the value function that replaces the rewards after a cut; without one the estimator
            needs whole episodes.
        discounted_states: keep the factor γ^t.
        time_limit: None is "bootstraps" with a critic, else "terminates".
        resets_at_rewards: end the return at the first reward that is not zero, as in games of
            points. It changes the objective: see `ResetAtRewards`.
        normalise_advantages: scale Ψ to unit size over the batch; a baseline's is centred before.

    Returns:
        An estimator.

    Raises:
        ValueError: discount out of range; `time_limit="bootstraps"` without a critic.

    Bias: none with γ = 1, or with γ^t kept (then of J_γ), if nothing bootstraps. A critic's value
    after a time limit, or after the end of a segment, adds the error of that value. With γ < 1 and
    γ^t dropped it is the usual direction, which is not the gradient of any function (Nota & Thomas
    2020). With `resets_at_rewards` it follows the points one by one, whatever γ. With
    `normalise_advantages` a batch's scale, and the mean that is subtracted beside a baseline,
    contain each sample.

    Source: the post, form (iii), baseline and discount; E5, E6, E10.
    """
    return checked(
        Estimator(
            resetting(LambdaReturn(1.0), resets_at_rewards),
            baselines.none() if baseline is None and critic is None else baseline,
            critic,
            discount,
            discounted_states=discounted_states,
            time_limit=_time_limit(time_limit, critic),
            normalise_advantages=normalise_advantages,
        )
    )


def n_step(
    *,
    n: int = 5,
    discount: Scalar = 0.99,
    critic: Critic | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    resets_at_rewards: bool = False,
    normalise_advantages: bool = False,
) -> Estimator:
    """n rewards, then the critic.

    Ψ_t = r_t + γ r_{t+1} + … + γ^n V(s_{t+n}) − b(s_t).  [E13]

    Args:
        n: number of rewards, at least 1.
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted; None stands for the critic.
        discount, discounted_states, time_limit, resets_at_rewards, normalise_advantages: as in
            `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: n or discount out of range.

    Bias: none beyond the discount's when V is exact (the tower rule); else γ^n times V's error.
    With `normalise_advantages` that of `reward_to_go`, too.

    Source: the post, E13; Mnih et al. 2016.
    """
    checks.whole("n", n)
    return checked(
        Estimator(
            resetting(NStep(n), resets_at_rewards),
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def td(
    *,
    discount: Scalar = 0.99,
    critic: Critic | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    resets_at_rewards: bool = False,
    normalise_advantages: bool = False,
) -> Estimator:
    """One reward, then the critic: the one-step actor-critic.

    Ψ_t = δ_t = r_t + γ V(s_{t+1}) − V(s_t).  [E12, E13]

    Args:
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted; None stands for the critic.
        discount, discounted_states, time_limit, resets_at_rewards, normalise_advantages: as in
            `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: discount out of range.

    Bias: none beyond the discount's when V is exact; else γ times V's error. With
    `normalise_advantages` that of `reward_to_go`, too.

    Source: the post, E12 and E13; Sutton et al. 2000.
    """
    return checked(
        Estimator(
            resetting(LambdaReturn(0.0), resets_at_rewards),
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def gae(
    *,
    discount: Scalar = 0.99,
    gae_lambda: Scalar = 0.95,
    critic: Critic | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    resets_at_rewards: bool = False,
    normalise_advantages: bool = False,
) -> Estimator:
    """Generalised advantage estimation.

    Ψ_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V(s_{t+1}) − V(s_t).  [GAE]

    Args:
        gae_lambda: λ in [0, 1]; 0 is `td`, 1 is `reward_to_go` with the critic as baseline.
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted from the λ-return; None stands for the critic, which is GAE.
        discount, discounted_states, time_limit, resets_at_rewards, normalise_advantages: as in
            `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: λ or discount out of range.

    Bias: none beyond the discount's when V is exact, or λ = 1 and nothing bootstraps; else the
    error of V, weighted by 1 − λ. With `normalise_advantages` that of `reward_to_go`, too.

    Source: Schulman et al. 2016; GAE.

    >>> gae(discount=0.9, gae_lambda=0.5).form
    LambdaReturn(gae_lambda=0.5)
    """
    checks.unit_interval("gae_lambda", gae_lambda)
    return checked(
        Estimator(
            resetting(LambdaReturn(gae_lambda), resets_at_rewards),
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def in_groups(group: GroupEstimator, *, discount: Scalar = 1.0) -> Estimator:
    """Every score of an episode times its weight among the episodes of its group.

    Ψ_t = w_i = N(R − b)_i / ℓ_i, R_i = Σ_t γ^t r_t of episode i.

    Args:
        group: such as `policygrad.gradients.groups.rloo()`.
        discount: γ in [0, 1].

    Returns:
        An estimator for whole episodes that start in groups (`group_size`).

    Raises:
        ValueError: no group estimator, one that reads values of states, or a discount out of range.

    Bias: that of the group estimator.

    Source: that of the group estimator.

    >>> from policygrad.gradients import groups
    >>> in_groups(groups.rloo()).group.fewest_episodes
    2
    """
    return checked(Estimator(TotalReturn(), baselines.none(), None, discount, group=group))


def _time_limit(given: TimeLimit | None, critic: Critic | None) -> TimeLimit:
    if given is None:
        return "terminates" if critic is None else "bootstraps"
    return given
