"""The classifying critic: it learns how likely each return is, and its value is their mean.

Returns are standardised by their running mean m and standard deviation s, and pressed together by
asinh: ζ = asinh((G − m) / s). Bins of equal width w cover ζ. A return is not one bin but a Gaussian
around its ζ, of the standard deviation σ = 0.75 w (HL-Gauss). The critic is fitted to what each bin
then holds, by cross-entropy.

Why asinh, and why the value is exact: E[sinh(ζ + σε)] = exp(σ²/2) sinh(ζ) for a standard normal ε,
at every ζ. So with one constant factor on the centres the mean over the bins is the return itself,
and what is learned is the mean of the returns, as least squares would learn it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines.network import FittedNetwork, ValueState
from policygrad.policies.normaliser import RunningStatistics

# Standard deviations from the mean, up to which returns have bins. One of n returns is at most √n
# away from the mean of all n (Samuelson 1968), so none is further among 10⁸.
FARTHEST = 1e4
BINS = 101
SMEAR = 0.75  # σ / w, as Farebrother et al. 2024 recommend

PLACES = np.linspace(-np.arcsinh(FARTHEST), np.arcsinh(FARTHEST), BINS)  # ζ_k, a bin's middle
WIDTH = float(PLACES[1] - PLACES[0])
EDGES = (PLACES[:-1] + WIDTH / 2).astype(np.float32)

# The standardised return that a bin stands for, c sinh(ζ_k) with c = exp(−σ²/2) (w/2) / sinh(w/2):
# the first factor undoes the smear, the second that a bin is counted at its middle.
CORRECTION = math.exp(-0.5 * (SMEAR * WIDTH) ** 2) * (WIDTH / 2) / math.sinh(WIDTH / 2)
CENTRES = (CORRECTION * np.sinh(PLACES)).astype(np.float32)

# Added to the logits: those of a standard normal ζ. The outermost bins stand for thousands of
# standard deviations. With even odds at the start their noise would be the value, until enough
# steps had made them unlikely.
PRIOR = (-0.5 * PLACES**2).astype(np.float32)


class ClassifierState(NamedTuple):
    """A fitted classifier.

    Attributes:
        returns: running statistics of all targets so far, m and s².
        fitted: the network, which gives a logit for each bin.
    """

    returns: RunningStatistics
    fitted: ValueState


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueClassifier(FittedNetwork):
    """b(s) = m + s Σ_k q_k CENTRES_k, q = softmax(a network of the observation + PRIOR)."""

    may_bootstrap = True

    def init(self, key: PRNGKeyArray, observation: PyTree) -> ClassifierState:
        fitted = self.start(key, observation, BINS, last_scale=0.01)
        return ClassifierState(RunningStatistics.init(()), fitted)

    def value(
        self, state: ClassifierState, observation: PyTree, time: Int[Array, ""]
    ) -> Float[Array, ""]:
        del time
        logits = state.fitted.network(state.fitted.normaliser(observation))
        mean, spread = _mean_and_spread(state.returns)
        return mean + spread * (jax.nn.softmax(logits + PRIOR) @ CENTRES)

    def regress(
        self,
        state: ClassifierState,
        key: PRNGKeyArray,
        trajectories: Trajectories,
        targets: Float[Array, "T B"],
        weights: Float[Array, "T B"],
    ) -> ClassifierState:
        # The statistics are updated first, as those of the observations are.
        targets = targets.astype(state.returns.mean.dtype)
        returns = state.returns.update(targets.reshape(-1), weights.reshape(-1) > 0)
        mean, spread = _mean_and_spread(returns)
        places = jnp.arcsinh((targets - mean) / spread)
        start = state.fitted
        fitted = self.descend(start, key, trajectories, places, weights, cross_entropy)
        return ClassifierState(returns, fitted)


def cross_entropy(logits: Float[Array, " K"], place: Float[Array, ""]) -> Float[Array, ""]:
    """−Σ p log q of the smeared return's p and the critic's q, in nats."""
    return -smeared(place) @ jax.nn.log_softmax(logits + PRIOR)


def smeared(place: Float[Array, ""]) -> Float[Array, " K"]:
    """`[K]`, the probability of each bin under a Gaussian around ζ, Φ(upper edge) − Φ(lower edge).

    The outermost bins reach to infinity, so that the probabilities sum to 1: what lies outside
    counts for the outermost bin.

    Source: Imani & White 2018; Farebrother et al. 2024, section 3.1.
    """
    below = 0.5 * (1 + erf((EDGES - place) / (2**0.5 * SMEAR * WIDTH)))
    return jnp.diff(below, prepend=0.0, append=1.0)


def _mean_and_spread(returns: RunningStatistics) -> tuple[Array, Array]:
    """m and s; s is positive where all returns were the same, too."""
    return returns.mean, jnp.sqrt(jnp.maximum(returns.variance, 1e-30))
