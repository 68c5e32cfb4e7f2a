"""Return forms: the return that the weight of each score starts from.

The library has four. With v'_t the value of the true successor of step t,

    TotalReturn     G_t = R(τ) = Σ_t γ^t r_t, the same at every step            E3
    LambdaReturn    G_t = r_t + γ [(1 − λ) v'_t + λ G_{t+1}]                    E5, E10, E12, GAE
    NStep           G_t = r_t + γ r_{t+1} + … + γ^n v'_{t+n−1}                  E13
    ResetAtRewards  G_t of another form, as if every non-zero reward ended the episode

λ = 1 is the reward to go, λ = 0 one reward and the critic. A form of your own is a frozen dataclass
that subclasses `Form`. It goes into an `Estimator` like these. If it defines `coupling`, the exact
laboratory takes it too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from policygrad.core import checks
from policygrad.maths.returns import Scalar, discounted_return, lambda_returns, n_step_returns


class LaneSteps(NamedTuple):
    """T steps of one lane, as a return form reads them.

    Attributes:
        rewards: `[T]`; zero on rows that are not transitions.
        next_values: `[T]`, the critic's value of each step's true successor; zeros without one.
        terminated: `[T]`, nothing follows. This includes time limits that terminate.
        truncated: `[T]`, the next row is of another episode, and the critic's value follows.
    """

    rewards: Float[Array, " T"]
    next_values: Float[Array, " T"]
    terminated: Bool[Array, " T"]
    truncated: Bool[Array, " T"]


class Coupling(NamedTuple):
    """A form's return as the last of p coupled returns, for the exact laboratory.

        G_t = u_t + c_t Λ_t G_{t+1},   u_t[i] = r_t + c_t ν_t[i] V(s_{t+1})

    Attributes:
        trace: `[p, p]`, or `[T, p, p]` if it depends on the time: Λ/γ.
        bootstrap: `[p]`, or `[T, p]`: ν/γ.
        resets_at_rewards: whether c_t is 1[r_t = 0], so that nothing follows a reward; else 1.
    """

    trace: Float[np.ndarray, "*T p p"]
    bootstrap: Float[np.ndarray, "*T p"]
    resets_at_rewards: bool = False


class Form(ABC):
    """Which return the weight of a score starts from.

    Attributes:
        whole_episodes: whether the return is one number an episode. Such a form needs whole
            episodes. Each counts once in a fit. The discount is inside the return, so γ^t
            multiplies no score.
    """

    whole_episodes: ClassVar[bool] = False

    @abstractmethod
    def returns(self, steps: LaneSteps, discount: Scalar) -> Float[Array, " T"]:
        """`[T]`, G of every step of one lane, in units of reward."""

    def coupling(self, horizon: int | None) -> Coupling:
        """How the returns of successive steps are coupled, for the exact laboratory.

        Args:
            horizon: T of the MDP; None for a task without one. Nothing may then depend on time.

        Raises:
            ValueError: the form has no exact form.
        """
        raise ValueError(
            f"the return form {type(self).__name__} has no exact form: it does not say how its "
            "returns are coupled; define coupling(horizon), or choose another estimator"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TotalReturn(Form):
    """The return of the whole episode, R(τ) = Σ_t γ^t r_t, at every step.  [E3]"""

    whole_episodes = True

    def returns(self, steps: LaneSteps, discount: Scalar) -> Float[Array, " T"]:
        return jnp.broadcast_to(discounted_return(steps.rewards, discount), steps.rewards.shape)

    def coupling(self, horizon: int | None) -> Coupling:
        """The coupling of the rewards to go, G_t = r_t + γ G_{t+1}."""
        return Coupling(np.eye(1), np.zeros(1))

    def __str__(self) -> str:
        return "total_return"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LambdaReturn(Form):
    """The geometric average of the n-step returns of every n.  [E5, E10, E12, GAE]

    Attributes:
        gae_lambda: λ in [0, 1]; 1 is the reward to go, 0 one reward and the critic.
    """

    gae_lambda: Scalar = 1.0

    def returns(self, steps: LaneSteps, discount: Scalar) -> Float[Array, " T"]:
        return lambda_returns(*steps, discount=discount, gae_lambda=self.gae_lambda)

    def coupling(self, horizon: int | None) -> Coupling:
        factor = float(self.gae_lambda)
        return Coupling(factor * np.eye(1), np.array([1 - factor]))

    def __str__(self) -> str:
        try:
            factor = float(self.gae_lambda)
        except TypeError:  # traced: it has no value
            return "gae"
        return {0.0: "td", 1.0: "reward_to_go"}.get(factor, "gae")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NStep(Form):
    """n rewards, then the critic's value of the state that they lead to.  [E13]

    Attributes:
        n: number of rewards, at least 1; static.
    """

    n: int = field(default=5, metadata={"static": True})

    def returns(self, steps: LaneSteps, discount: Scalar) -> Float[Array, " T"]:
        return n_step_returns(*steps, discount=discount, n=self.n)

    def coupling(self, horizon: int | None) -> Coupling:
        """G[i] is the (i + 1)-step return, r_t + γ G[i − 1]_{t+1}."""
        n = self.n if horizon is None else min(self.n, horizon)
        return Coupling(np.eye(n, k=-1), (np.arange(n) == 0).astype(float))

    def __str__(self) -> str:
        return "n_step"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ResetAtRewards(Form):
    """The return of another form, which ends with the first reward that is not zero.

        G_t = r_t + γ 1[r_t = 0] (…),   at λ = 1:  G_t = r_t + γ 1[r_t = 0] G_{t+1}

    It is for games of points, such as Pong, where every reward ends a rally. What an action is
    weighed by then holds its own point and none of the points after it.

    It is a change of objective. Let Q°_t(s, a) be the action value of the task in which every
    non-zero reward ends the episode. With rewards alone (λ = 1 and whole episodes),

        E ĝ = Σ_t E[z_t Q°_t(s_t, a_t)],

    with γ^t if it is kept, where the states are still those of the whole game, those after a point
    included. It is the policy gradient of points that are episodes of their own, each begun where
    the one before it left off, with that beginning held fixed. What is left out is how the actions
    of a point change the points after it. So E ĝ is the gradient of the whole game's return,
    Σ_t E[z_t Q_t], where nothing that is expected after a point depends on what was done in it: not
    where the next point begins, not how many points are left, and with γ < 1 not how long the point
    took either. In Pong the serve nearly is so.

    A critic has to be fitted to these returns, as training does: it then estimates V°, the value
    until the next reward.

    Attributes:
        form: with one return a step, such as `LambdaReturn`.
    """

    form: Form

    def __post_init__(self) -> None:
        if not isinstance(self.form, Form):
            raise ValueError(
                f"ResetAtRewards takes a return form, such as LambdaReturn(), got {self.form!r}"
            )
        if self.form.whole_episodes:
            raise ValueError(
                f"{self.form} is one number an episode, and cannot end at a reward; pass a form "
                "with one return a step, such as LambdaReturn()"
            )

    def returns(self, steps: LaneSteps, discount: Scalar) -> Float[Array, " T"]:
        ends = jnp.asarray(steps.terminated, bool) | (steps.rewards != 0)
        return self.form.returns(steps._replace(terminated=ends), discount)

    def coupling(self, horizon: int | None) -> Coupling:
        return Coupling(*self.form.coupling(horizon))._replace(resets_at_rewards=True)

    def __str__(self) -> str:
        return f"{self.form} that resets at rewards"


def resetting(form: Form, resets_at_rewards: bool) -> Form:
    """The form, or the same one with a reset at every reward.

    Raises:
        ValueError: the flag is neither True nor False.
    """
    checks.flag("resets_at_rewards", resets_at_rewards)
    return ResetAtRewards(form) if resets_at_rewards else form


def innermost(form: Form) -> Form:
    """What stands in the forms that reset at rewards; any other form itself."""
    return innermost(form.form) if isinstance(form, ResetAtRewards) else form
