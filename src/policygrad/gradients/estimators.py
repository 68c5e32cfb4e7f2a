"""The estimator: a small immutable value that says what multiplies each score.

The same value goes to the trainer, to the diagnostics and to the exact laboratory. It is a pytree:
discount, λ and tables are traced, so that a grid over them compiles once; form and flags are
static. What is fitted (baseline, critic) is a separate state, passed beside it.

Every form is ĝ = Σ_t Ψ_t z_t with its own Ψ:

    total_return      Ψ_t = R(τ) − b                                     E3
    reward_indexed    Ψ_t = γ^t (Σ_{t'≥t} γ^{t'−t} r_{t'} − b)           E4, as weights
    reward_to_go      Ψ_t = Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t)            E5, E6, E10
    n_step            Ψ_t = r_t + … + γ^n V(s_{t+n}) − b(s_t)            E13
    td                Ψ_t = r_t + γ V(s_{t+1}) − V(s_t)                  E12, E13
    gae               Ψ_t = Σ_l (γλ)^l δ_{t+l}                           GAE
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from policygrad.core import checks
from policygrad.core.trajectories import Trajectories, successor_values
from policygrad.gradients import baselines
from policygrad.gradients.baselines.base import Baseline, Pointwise, weighted_mean
from policygrad.gradients.baselines.optimal import VarianceOptimal
from policygrad.maths.advantages import gae as gae_advantages
from policygrad.maths.advantages import td_residuals
from policygrad.maths.returns import Scalar, discounted_return, n_step_returns, returns_to_go

Form = Literal["total_return", "reward_indexed", "reward_to_go", "n_step", "td", "gae"]
TimeLimit = Literal["bootstraps", "terminates"]


class EstimatorState(NamedTuple):
    """What an estimator has fitted: its baseline, and its critic where it has one of its own."""

    baseline: Any
    critic: Any


class Weights(NamedTuple):
    """What an estimator makes of a batch.

    Attributes:
        psi: `[T, B]`, the weight Ψ of each score; zero on rows that are no transition.
        returns: `[T, B]`, the (possibly bootstrapped) return that Ψ starts from: the target that
            baseline and critic are refitted to.
        baseline: `[T, B]`, what was subtracted.
    """

    psi: Float[Array, "T B"]
    returns: Float[Array, "T B"]
    baseline: Float[Array, "T B"]


STATIC = {"static": True}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Estimator:
    """What multiplies each score. Made by the named constructors of this module, which validate.

    Attributes:
        form: which return Ψ starts from.
        baseline: what is subtracted; None stands for the critic itself (or zero without one).
        critic: the value function that bootstraps; None for pure Monte Carlo.
        discount: γ.
        gae_lambda: λ, read by `gae` alone.
        n: number of rewards, read by `n_step` alone.
        discounted_states: whether the factor γ^t of the discounted objective's gradient is kept.
        time_limit: "bootstraps": a truncated step is followed by its successor's value, the limit
            being no part of the task; "terminates": it is followed by nothing.
        normalise_advantages: whether Ψ is centred and scaled to unit variance over the batch.
    """

    form: Form = field(metadata=STATIC)
    baseline: Baseline | None
    critic: Pointwise | None
    discount: Scalar
    gae_lambda: Scalar = 1.0
    n: int = field(default=1, metadata=STATIC)
    discounted_states: bool = field(default=False, metadata=STATIC)
    time_limit: TimeLimit = field(default="terminates", metadata=STATIC)
    normalise_advantages: bool = field(default=False, metadata=STATIC)

    @property
    def needs_whole_episodes(self) -> bool:
        """Whether segments, which end in mid-episode, cannot be weighted by it."""
        own_batch = self.baseline is not None and self.baseline.needs_whole_episodes
        return self.critic is None or self.form in ("total_return", "reward_indexed") or own_batch

    def init(self, key: PRNGKeyArray, observation: PyTree) -> EstimatorState:
        """The state before anything was fitted.

        Args:
            key: consumed.
            observation: one raw observation (unbatched), for its shapes.
        """
        keys = jax.random.split(key)
        return EstimatorState(
            () if self.baseline is None else self.baseline.init(keys[0], observation),
            () if self.critic is None else self.critic.init(keys[1], observation),
        )

    def weights(self, state: EstimatorState, trajectories: Trajectories) -> Weights:
        """The weight of every score of a batch.

        Args:
            state: what was fitted on earlier batches.
            trajectories: T steps of B environments, or B whole episodes.

        Returns:
            `psi`, `returns` and `baseline`, `[T, B]` each, in units of reward; held constant.

        Raises:
            ValueError: segments, where the estimator needs whole episodes.
        """
        self._require_whole_episodes(trajectories)
        values, next_values = self._critic_values(state, trajectories)
        returns, advantages = self._returns(trajectories, values, next_values)
        if self.baseline is not None:
            baseline = self.baseline.predict(state.baseline, trajectories, returns)
            advantages = returns - baseline
        else:
            baseline = values
        if self.normalise_advantages:
            advantages = normalise(advantages, trajectories.valid)
        advantages = advantages * self.factors(trajectories)
        psi = jnp.where(trajectories.valid, advantages, 0.0)
        return jax.lax.stop_gradient(Weights(psi, returns, baseline))

    def fit(
        self,
        state: EstimatorState,
        key: PRNGKeyArray,
        policy: Any,
        trajectories: Trajectories,
        returns: Float[Array, "T B"],
    ) -> tuple[EstimatorState, dict[str, Array]]:
        """Refit baseline and critic, AFTER they were used for the weights of this batch (E9).

        Args:
            state: what the weights were computed with.
            key: consumed.
            policy: the policy that acted; for baselines that weigh steps by their scores.
            trajectories: the batch.
            returns: `[T, B]`, as `weights` gave them.

        Returns:
            The new state, and how well it explains `returns` now.
        """
        steps = trajectories.valid.astype(returns.dtype)
        if self.form == "total_return":  # every episode counts once, however long
            steps = steps / jnp.maximum(jnp.sum(steps, axis=0, keepdims=True), 1)
        targets, weights = returns, steps
        keys = jax.random.split(key)
        if isinstance(self.baseline, VarianceOptimal):
            problem_key, factors = jax.random.fold_in(keys[0], 1), self.factors(trajectories)
            targets, weights = self.baseline.problem(
                state.baseline, problem_key, policy, trajectories, returns, factors
            )
        fitted = EstimatorState(
            state.baseline
            if self.baseline is None
            else self.baseline.fit(state.baseline, keys[0], trajectories, targets, weights),
            state.critic
            if self.critic is None
            else self.critic.fit(state.critic, keys[1], trajectories, returns, steps),
        )
        predicted = self._predict(fitted, trajectories, returns)
        return fitted, {"explained_variance": explained_variance(returns, predicted, steps)}

    def factors(self, trajectories: Trajectories) -> Float[Array, "T B"]:
        """`[T, B]`, w: γ^t where it multiplies every score, else 1."""
        kept = self.form == "reward_indexed" or (
            self.discounted_states and self.form != "total_return"
        )
        ones = jnp.ones_like(trajectories.rewards)
        return jnp.asarray(self.discount) ** trajectories.times if kept else ones

    def _predict(
        self, state: EstimatorState, trajectories: Trajectories, returns: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        if self.baseline is not None:
            return self.baseline.predict(state.baseline, trajectories, returns)
        if self.critic is not None:
            return self.critic.predict(state.critic, trajectories, returns)
        return jnp.zeros_like(returns)

    def _require_whole_episodes(self, trajectories: Trajectories) -> None:
        if self.needs_whole_episodes and not trajectories.whole_episodes:
            why = "without a critic it cannot bootstrap where a segment cuts an episode"
            if self.critic is not None:
                why = "its return or its baseline is that of a whole episode"
            raise ValueError(
                f"{self.form} needs whole episodes, got segments of "
                f"{trajectories.rewards.shape[0]} steps: {why}; collect with batch_episodes, or "
                "choose an estimator with a critic, such as gae"
            )

    def _critic_values(
        self, state: EstimatorState, trajectories: Trajectories
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`[T, B]` each: values of the states, and of their true successors."""
        if self.critic is None:
            zeros = jnp.zeros_like(trajectories.rewards)
            return zeros, zeros
        values = self.critic.values(state.critic, trajectories.observations, trajectories.times)
        cut_values = self.critic.values(
            state.critic, trajectories.cut_observations, trajectories.cut_times
        )
        return values, successor_values(values, cut_values, trajectories)

    def _returns(
        self,
        trajectories: Trajectories,
        values: Float[Array, "T B"],
        next_values: Float[Array, "T B"],
    ) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
        """`[T, B]` each: the return of every step, and the same less the critic's value."""
        rewards = jnp.where(trajectories.valid, trajectories.rewards, 0.0)
        if self.form == "total_return":
            total = jax.vmap(discounted_return, (1, None))(rewards, self.discount)
            returns = jnp.broadcast_to(total, rewards.shape)
            return returns, returns - values

        terminated, truncated = trajectories.terminated, trajectories.truncated
        if self.time_limit == "terminates":
            terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)

        def one(r, v, v_next, terminated, truncated):
            ends = terminated, truncated
            if self.form == "gae":
                return v, gae_advantages(
                    r, v, v_next, *ends, discount=self.discount, gae_lambda=self.gae_lambda
                )
            if self.form == "td":
                return v, td_residuals(r, v, v_next, terminated, discount=self.discount)
            if self.form == "n_step":
                g = n_step_returns(r, v_next, *ends, discount=self.discount, n=self.n)
            else:
                g = returns_to_go(r, v_next, *ends, discount=self.discount)
            return v, g - v

        values, advantages = jax.vmap(one, in_axes=1, out_axes=1)(
            rewards, values, next_values, terminated, truncated
        )
        if trajectories.whole_episodes:  # an episode that is over has nothing more to come
            values = jnp.where(trajectories.valid, values, 0.0)
            advantages = jnp.where(trajectories.valid, advantages, 0.0)
        return values + advantages, advantages


def normalise(advantages: Float[Array, "T B"], valid: Array) -> Float[Array, "T B"]:
    """Centre the valid entries and scale them to unit variance; all zero where they are equal.

    This departs from the gradient: the mean that is subtracted contains each sample itself, and the
    scale, being one number a batch, changes the step and not the direction.
    """
    count = jnp.maximum(jnp.sum(valid), 1)
    # about one of them first: the rounded sum of many equal numbers is not many times the number
    one = jnp.max(jnp.where(valid, advantages, -jnp.inf), initial=-jnp.inf)
    shifted = jnp.where(valid, advantages - one, 0.0)
    centred = jnp.where(valid, shifted - jnp.sum(shifted) / count, 0.0)
    std = jnp.sqrt(jnp.sum(centred**2) / count)
    # below this the spread is rounding error, and dividing by it would invent an advantage
    resolution = 1e-5 * jnp.max(jnp.abs(jnp.where(valid, advantages, 0.0)))
    equal = std <= resolution
    return jnp.where(equal, 0.0, centred / jnp.where(equal, 1.0, std))


def explained_variance(
    targets: Float[Array, "T B"], predicted: Float[Array, "T B"], weights: Float[Array, "T B"]
) -> Float[Array, ""]:
    """1 − Var(targets − predicted) / Var(targets); 0 where the targets are all equal.

    1 is perfect, 0 what a constant reaches, and below 0 is worse than a constant.
    """

    def variance(x: Float[Array, "T B"]) -> Float[Array, ""]:
        mean = weighted_mean(x, weights)
        return weighted_mean((x - mean) ** 2, weights)

    total = variance(targets)
    equal = total <= 1e-12 * jnp.max(jnp.abs(targets)) ** 2
    unexplained = variance(targets - predicted) / jnp.where(equal, 1.0, total)
    return jnp.where(equal, 0.0, 1 - unexplained)


def _checked(estimator: Estimator) -> Estimator:
    checks.unit_interval("discount", estimator.discount)
    checks.unit_interval("gae_lambda", estimator.gae_lambda)
    checks.whole("n", estimator.n)
    checks.one_of("time_limit", estimator.time_limit, ("bootstraps", "terminates"))
    if estimator.critic is None and estimator.time_limit == "bootstraps":
        raise ValueError(
            f"time_limit='bootstraps' needs a critic, and {estimator.form} was given none; pass "
            "critic=value_network(), or time_limit='terminates'"
        )
    if estimator.critic is not None and not (
        isinstance(estimator.critic, Pointwise) and estimator.critic.may_bootstrap
    ):
        raise ValueError(
            f"{type(estimator.critic).__name__} cannot bootstrap: it does not estimate the value "
            "of a state; pass it as baseline, and value_network() or linear_features() as critic"
        )
    return estimator


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
        normalise_advantages: centre and scale Ψ over the batch.

    Returns:
        An estimator for whole episodes.

    Raises:
        ValueError: discount out of range.

    Bias: none, as a gradient of J_γ; its γ^t are inside R(τ). With `normalise_advantages` a batch's
    mean contains each sample, which shrinks the gradient.

    Source: the post, form (i); Williams 1992; E3.
    """
    return _checked(
        Estimator(
            "total_return", baseline, None, discount, normalise_advantages=normalise_advantages
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
        normalise_advantages: centre and scale over the batch.

    Returns:
        An estimator for whole episodes: pathwise the same as `reward_to_go` with γ^t kept.

    Raises:
        ValueError: discount out of range.

    Bias: none, as a gradient of J_γ.

    Source: the post, form (ii); Baxter & Bartlett 2001; E4. It is computed as it is written by
    `scores.reward_indexed_gradient`.
    """
    return _checked(
        Estimator(
            "reward_indexed",
            baseline,
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
    critic: Pointwise | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit | None = None,
    normalise_advantages: bool = False,
) -> Estimator:
    """Form (iii): every score times the rewards that follow it.

    Ψ_t = Σ_{t'≥t} γ^{t'−t} r_{t'} − b(s_t).  [E5, E6, E10]

    Args:
        discount: γ in [0, 1].
        baseline: what is subtracted; None stands for the critic, or nothing without one.
        critic: the value function that stands in for the rewards behind a cut; without one the
            estimator needs whole episodes.
        discounted_states: keep the factor γ^t.
        time_limit: None is "bootstraps" with a critic, else "terminates".
        normalise_advantages: centre and scale Ψ over the batch.

    Returns:
        An estimator.

    Raises:
        ValueError: discount out of range; `time_limit="bootstraps"` without a critic.

    Bias: none for whole episodes with γ = 1, or with γ^t kept (then of J_γ). With γ < 1 and γ^t
    dropped, the usual direction, which is no function's gradient (Nota & Thomas 2020).

    Source: the post, form (iii), baseline and discount; E5, E6, E10.
    """
    return _checked(
        Estimator(
            "reward_to_go",
            baseline,
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
    critic: Pointwise | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    normalise_advantages: bool = False,
) -> Estimator:
    """n rewards, then the critic.

    Ψ_t = r_t + γ r_{t+1} + … + γ^n V(s_{t+n}) − b(s_t).  [E13]

    Args:
        n: number of rewards, at least 1.
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted; None stands for the critic.
        discount, discounted_states, time_limit, normalise_advantages: as in `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: n or discount out of range.

    Bias: none beyond the discount's when V is exact (the tower rule); else γ^n times V's error.

    Source: the post, E13; Mnih et al. 2016.
    """
    return _checked(
        Estimator(
            "n_step",
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            n=n,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def td(
    *,
    discount: Scalar = 0.99,
    critic: Pointwise | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    normalise_advantages: bool = False,
) -> Estimator:
    """One reward, then the critic: the one-step actor-critic.

    Ψ_t = δ_t = r_t + γ V(s_{t+1}) − V(s_t).  [E12, E13]

    Args:
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted; None stands for the critic.
        discount, discounted_states, time_limit, normalise_advantages: as in `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: discount out of range.

    Bias: none beyond the discount's when V is exact; else γ times V's error.

    Source: the post, E12 and E13; Sutton et al. 2000.
    """
    return _checked(
        Estimator(
            "td",
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            gae_lambda=0.0,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def gae(
    *,
    discount: Scalar = 0.99,
    gae_lambda: Scalar = 0.95,
    critic: Pointwise | None = None,
    baseline: Baseline | None = None,
    discounted_states: bool = False,
    time_limit: TimeLimit = "bootstraps",
    normalise_advantages: bool = False,
) -> Estimator:
    """Generalised advantage estimation.

    Ψ_t = Σ_l (γλ)^l δ_{t+l}, δ_t = r_t + γ V(s_{t+1}) − V(s_t).  [GAE]

    Args:
        gae_lambda: λ in [0, 1]; 0 is `td`, 1 is `reward_to_go` with the critic as baseline.
        critic: V; None makes a `value_network()`.
        baseline: what is subtracted from the λ-return; None stands for the critic, which is GAE.
        discount, discounted_states, time_limit, normalise_advantages: as in `reward_to_go`.

    Returns:
        An estimator for segments or whole episodes.

    Raises:
        ValueError: λ or discount out of range.

    Bias: none beyond the discount's when V is exact, or λ = 1 and nothing bootstraps; else the
    error of V, weighted by 1 − λ.

    Source: Schulman et al. 2016; GAE.

    >>> gae(discount=0.9, gae_lambda=0.5).form
    'gae'
    """
    return _checked(
        Estimator(
            "gae",
            baseline,
            baselines.value_network() if critic is None else critic,
            discount,
            gae_lambda=gae_lambda,
            discounted_states=discounted_states,
            time_limit=time_limit,
            normalise_advantages=normalise_advantages,
        )
    )


def _time_limit(given: TimeLimit | None, critic: Pointwise | None) -> TimeLimit:
    if given is None:
        return "terminates" if critic is None else "bootstraps"
    return given


def with_encoder(estimator: Estimator, encode: Any) -> Estimator:
    """The estimator with `encode` in every regression that has no encoder of its own."""

    def bind(baseline: Any) -> Any:
        if isinstance(baseline, (baselines.LinearFeatures, baselines.ValueNetwork)):
            return baseline if baseline.encode is not None else replace(baseline, encode=encode)
        if isinstance(baseline, VarianceOptimal):
            return replace(baseline, regression=bind(baseline.regression))
        return baseline

    return replace(estimator, baseline=bind(estimator.baseline), critic=bind(estimator.critic))
