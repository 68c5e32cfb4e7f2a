"""How good a baseline is: what it explains, what it removes, and how far it is from the best.

The variance is a parabola in the baseline, because the controls w_t z_t 1[s_t = s] are
uncorrelated. No second baseline has to be run: for an episode's estimate ĝ and a change δ(s, t),

    Var(b + δ) − Var(b) = E Σ_t [w_t² ‖z_t‖² δ_t² − 2 w_t (z_t·ĝ) δ_t].

Everything below is this with some δ: δ = −b for no baseline, δ = c − b for the best constant c,
and the best δ of a class for the distance from the optimum. That distance is νᵀM⁻¹ν with
ν = E Σ w_t (z_t·ĝ) φ_t and M = E Σ w_t²‖z_t‖²φφᵀ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.trajectories import Trajectories, mean_of_units
from policygrad.devices.compiled_code import compiled
from policygrad.diagnostics.intervals import GROUPS, GroupSums, Measured, concentration
from policygrad.diagnostics.moments import variance_and_norm
from policygrad.diagnostics.streaming import Episodes, Rows, by_part, flatten, stream
from policygrad.gradients import scores
from policygrad.gradients.baselines import linear_features
from policygrad.gradients.baselines.base import StateBaseline
from policygrad.gradients.weights import Estimator, EstimatorState

Features = Callable[..., Array]


@dataclass(frozen=True)
class BaselineQuality:
    """How good a baseline is; variances are those of ONE episode's gradient.

    Attributes:
        episodes: N.
        variance: trΣ with the baseline.
        explained_variance: 1 − Var(G_t − b_t)/Var(G_t) over steps: how well it predicts.
        removed_from_none: Var(0) − Var(b); negative if the baseline adds variance.
        removed_from_constant: Var(best constant) − Var(b).
        excess: Var(b) − Var(b + best δ of the class): what the class could still remove.
        excess_ratio: `excess` divided by `variance`.
        per_parameter: the variance that one constant for each parameter could still remove (Peters
            & Schaal 2008). Such constants are a control variate, not a baseline.
    """

    episodes: int
    variance: Measured
    explained_variance: Measured
    removed_from_none: Measured
    removed_from_constant: Measured
    excess: Measured
    excess_ratio: Measured
    per_parameter: Measured

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self)


def judge_baseline(
    policy: Any,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    features: Features | None = None,
    groups: int = GROUPS,
) -> BaselineQuality:
    """What an estimator's baseline does to its variance, and what a better one could do.

    Args:
        policy: observation -> distribution, at the parameters that acted.
        estimator: with a baseline that is a function of observation and time, or none at all.
        state: what the estimator has fitted, on OTHER episodes. A baseline that was fitted to these
            episodes looks better than it is.
        episodes: as in `gradient_noise`.
        features: (observation, time) -> `[p]`; a better baseline is searched among their linear
            combinations. None takes 1, s, s²/2, t, t², t³.
        groups: K; memory holds K·p² numbers and 3·K gradients.

    Returns:
        `BaselineQuality`; intervals over episodes, or over groups that start together.

    Raises:
        UserError: leave-one-out, which is not a function of the state; `normalise_advantages`.

    Bias: none in the variance that is removed. In the optima, the noise of the fitted coefficients
    is removed by pairs of groups, which leaves O(1/N).

    Source: theory of the variance's parabola; Greensmith et al. 2004, Peters & Schaal 2008.
    """
    if estimator.baseline is not None and not isinstance(estimator.baseline, StateBaseline):
        raise UserError(
            f"{type(estimator.baseline).__name__} is no function of observation and time, so its "
            "distance from the best baseline is not defined; use compare_estimators"
        )
    if estimator.group is not None:
        raise UserError(
            "the estimator weighs each episode by its group, and subtracts no function of the "
            "state; use compare_estimators"
        )
    if estimator.normalise_advantages:
        raise UserError(
            "the estimator has normalise_advantages=True, which rescales the baseline; give it "
            "normalise_advantages=False"
        )
    if features is None:
        features = _with_one(linear_features().features)

    def weigh(batch: Any) -> Any:
        return _details(estimator, state, batch)

    summed = Rows(weigh, _ReduceBaseline(features), by_unit=True)
    return _quality(stream(policy, episodes, summed, groups=groups).folded())


def _with_one(features: Features) -> Features:
    def extended(observation: Any, time: Any) -> Array:
        x = features(observation, time)
        return jnp.append(x, jnp.ones((), x.dtype))

    return extended


@compiled
def _details(estimator: Estimator, state: Any, batch: Any) -> dict[str, Array]:
    psi, returns, baseline = estimator.weights(state, batch)
    keep = 1.0 * batch.valid
    return {
        "psi": psi,
        "returns": keep * returns,
        "baseline": keep * baseline,
        "factors": keep * estimator.state_discounts(batch),
    }


@dataclass(frozen=True)
class _ReduceBaseline:
    """The terms of the parabola, for every episode; their means where episodes start in groups."""

    features: Features

    def __call__(self, policy: Any, record: Trajectories, x: dict[str, Array]) -> dict[str, Array]:
        tree = scores.episode_gradients(policy, record, x["psi"])
        flat, squares = flatten(tree), sum(jax.tree.leaves(scores.score_squares(policy, record)))
        control = flatten(scores.episode_gradients(policy, record, x["factors"]))
        slope = x["factors"] * scores.score_products(policy, record, tree)
        curve = x["factors"] ** 2 * squares
        b, residual = x["baseline"], x["returns"] - x["baseline"]
        phi = jax.vmap(jax.vmap(self.features))(record.observations, record.times)
        totals = {
            "square": by_part(tree).sum(axis=1),
            "slope": slope.sum(axis=0),
            "slope_b": (slope * b).sum(axis=0),
            "curve": curve.sum(axis=0),
            "curve_b": (curve * b).sum(axis=0),
            "curve_bb": (curve * b * b).sum(axis=0),
            "slopes": jnp.einsum("tm,tmp->mp", slope, phi),
            "gradient": flat,
            "control": control * flat,
            "controls": control**2,
            "steps": record.valid.sum(axis=0),
            "y": x["returns"].sum(axis=0),
            "yy": (x["returns"] ** 2).sum(axis=0),
            "r": residual.sum(axis=0),
            "rr": (residual**2).sum(axis=0),
        }
        totals["curves"] = jnp.einsum("tmp,tmq->mpq", curve[..., None] * phi, phi)
        totals = {k: 1.0 * v for k, v in totals.items()}
        if record.group_size == 1:
            return totals
        totals = mean_of_units(totals, record.group_size)
        return totals | {"square of mean": jnp.sum(totals["gradient"] ** 2, axis=1)}


def _quality(sums: GroupSums) -> BaselineQuality:
    m = sums.means()
    squared = np.sum(m["gradient"] ** 2, axis=1)
    # of what is independent: of single episodes, or of the means of groups
    own = m.of.get("square of mean", m["square"])
    variance = variance_and_norm(squared, own, m.n)[0] + (m["square"] - own)
    to_none = 2 * m["slope_b"] + m["curve_bb"]  # Var(0) − Var(b)
    with np.errstate(all="ignore"):
        unexplained = _spread(m["rr"], m["r"], m["steps"]) / _spread(m["yy"], m["y"], m["steps"])
    counts = sums.counts[:, None]
    best = _removed_by_a_constant(sums)
    excess = _reach(sums.sums["slopes"] / counts, m["curves"])
    apart = _reach_apart(sums.sums["control"] / counts, m["controls"])
    return BaselineQuality(
        episodes=sums.episodes,
        variance=m.interval(variance, "positive"),
        explained_variance=m.interval(1 - unexplained),
        removed_from_none=m.interval(to_none),
        removed_from_constant=m.interval(to_none - best),
        excess=m.squared_norm(*excess),
        excess_ratio=m.squared_norm(
            excess.values / variance, excess.noise / variance[0], excess.concentration
        ),
        per_parameter=m.squared_norm(*apart),
    )


def _removed_by_a_constant(sums: GroupSums) -> Float[np.ndarray, " R"]:
    """Var(0) − Var(c*) of the best constant c*, row by row.

    With ν₀ = E Σ w_t (z_t·ĝ) of b = 0, and ν = ν₀ − βM of a constant β,

        Var(0) − Var(c*) = ν₀²/M = ν²/M + 2βν₀ − β²M.

    Only ν² needs pairs of groups. β is the baseline's mean, so that a baseline that is constant is
    as far from c* as `excess` of the class of constants says.
    """
    m = sums.means()
    start, curve = m["slope"] + m["curve_b"], m["curve"]
    with np.errstate(all="ignore"):
        mean = float(m["curve_b"][0] / curve[0])
    x = sums.sums["slope"] + sums.sums["curve_b"] - mean * sums.sums["curve"]
    reach = _reach(x[:, None] / sums.counts[:, None], curve[:, None, None])
    return reach.values + 2 * mean * start - mean**2 * curve


def _spread(squares: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return squares / counts - (sums / counts) ** 2


def _present(k: int) -> np.ndarray:
    """`[1 + K, K]`: which groups each row takes the mean over."""
    return np.concatenate([np.ones((1, k)), 1 - np.eye(k)])


class _Reach(NamedTuple):
    """A squared norm over pairs of different groups, row by row; see `Means.squared_norm`."""

    values: np.ndarray
    noise: float
    concentration: float


def _reach(x: Float[np.ndarray, "K p"], metric: Float[np.ndarray, "R p p"]) -> _Reach:
    """νᵀM⁻¹ν, from the ν of every group."""
    present = _present(len(x))
    inverse = np.linalg.pinv(metric, rcond=1e-9, hermitian=True)
    total = present @ x
    own = np.einsum("rk,kp,kq->rpq", present, x, x, optimize=True)
    whole = np.einsum("rp,rpq,rq->r", total, inverse, total)
    within = np.einsum("rpq,rpq->r", inverse, own)
    rank = max(int(np.linalg.matrix_rank(metric[0], hermitian=True)), 1)
    return _pairs(whole, within, present, x @ inverse[0] @ x.T, rank)


def _reach_apart(x: Float[np.ndarray, "K d"], metric: Float[np.ndarray, "R d"]) -> _Reach:
    """νᵀM⁻¹ν for a diagonal M: every parameter separately."""
    present = _present(len(x))
    inverse = np.divide(1.0, metric, out=np.zeros_like(metric), where=metric > 0)
    whole = np.sum((present @ x) ** 2 * inverse, axis=1)
    within = np.sum((present @ x**2) * inverse, axis=1)
    return _pairs(whole, within, present, (x * inverse[0]) @ x.T, x.shape[1])


def _pairs(
    whole: np.ndarray, within: np.ndarray, present: np.ndarray, products: np.ndarray, d: int
) -> _Reach:
    m = present.sum(axis=1)
    value = (whole - within) / (m * (m - 1))
    noise = max(float((whole / m**2 - value)[0]), 0.0)
    return _Reach(value, noise, concentration(products, np.ones(len(products)), d))
