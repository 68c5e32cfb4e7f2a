"""Records, segments and baselines that several tests share."""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines import StateBaseline

NOT_ROWS = (
    "cut_observations",
    "cut_times",
    "carry",
    "whole_episodes",
    "infos",
    "group_size",
    "greedy",
    "mostly_padding",
)  # of a record
STEPS = 8  # of the hypothesis segments: one shape, so that little is compiled again


class Segment(NamedTuple):
    """What the recursions of one segment read, `[T]` each; discounts are a number or `[T]`."""

    rewards: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    discount: np.ndarray
    gae_lambda: np.ndarray

    def astype(self, dtype):
        return self._replace(
            **{k: v.astype(dtype) for k, v in self._asdict().items() if v.dtype != bool}
        )

    def magnitudes(self):
        """The segment whose sums add up the absolute terms: the scale of rounding errors."""
        return self._replace(
            rewards=abs(self.rewards), values=-abs(self.values), next_values=abs(self.next_values)
        )


@st.composite
def segments_of(draw, vector_discount=False):
    """Segments of every pattern of ends; both flags may be set, and nothing ties V to its rows."""
    number = st.integers(-999, 999).map(lambda i: i / 37)
    fraction = st.integers(0, 23).map(lambda i: i / 23)

    def row(elements):
        return np.array(draw(st.lists(elements, min_size=STEPS, max_size=STEPS)))

    return Segment(
        rewards=row(number),
        values=row(number),
        next_values=row(number),
        terminated=row(st.booleans()) & row(st.booleans()),
        truncated=row(st.booleans()) & row(st.booleans()),
        discount=row(fraction) if vector_discount else np.array(draw(fraction)),
        gae_lambda=np.array(draw(fraction)),
    )


def random_segment(seed=0, steps=STEPS, **changes):
    """One segment without ends, with the given fields put in its place."""
    rng = np.random.default_rng(seed)
    no = np.zeros(steps, bool)
    rewards, values, next_values = rng.normal(size=(3, steps))
    segment = Segment(rewards, values, next_values, no, no, np.array(0.9), np.array(0.7))
    return segment._replace(**{k: np.asarray(v) for k, v in changes.items()}).astype(np.float32)


def trajectories(rng, terminated, truncated, valid, *, whole_episodes, features=2):
    """A record with these flags, and random numbers everywhere else."""
    terminated, truncated, valid = (np.asarray(x, bool) for x in (terminated, truncated, valid))
    times = np.zeros(valid.shape, int)
    for t in range(1, len(valid)):
        ended = terminated[t - 1] | truncated[t - 1] | ~valid[t - 1]
        times[t] = np.where(ended, 0, times[t - 1] + 1)
    cuts = valid & truncated & ~terminated
    if not whole_episodes:
        cuts[-1] = True
    most = max(1, cuts.sum(axis=0).max())
    cut_times = np.zeros((most, valid.shape[1]), int)
    for lane in range(valid.shape[1]):
        at = np.flatnonzero(cuts[:, lane])
        cut_times[: len(at), lane] = times[at, lane] + 1
    return Trajectories(
        observations=jnp.asarray(rng.normal(size=(*valid.shape, features))),
        actions=jnp.asarray(rng.integers(0, 2, valid.shape)),
        rewards=jnp.asarray(np.where(valid, rng.normal(size=valid.shape), 0.0)),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        valid=jnp.asarray(valid),
        times=jnp.asarray(np.where(valid, times, 0)),
        log_probs=jnp.asarray(np.where(valid, np.log(0.5), 0.0)),
        cut_observations=jnp.asarray(rng.normal(size=(most, valid.shape[1], features))),
        cut_times=jnp.asarray(cut_times),
        whole_episodes=whole_episodes,
    )


def random_segments(seed=0, steps=10, lanes=4, features=2):
    """T steps of B environments with random ends, both kinds."""
    rng = np.random.default_rng(seed)
    terminated, truncated = rng.random((2, steps, lanes)) < 0.2
    valid = np.ones((steps, lanes), bool)
    return trajectories(rng, terminated, truncated, valid, whole_episodes=False, features=features)


def random_episodes(seed=0, lengths=(3, 5, 1, 4), features=2):
    """Whole episodes of these lengths, padded; even columns terminate, odd ones are truncated."""
    rng = np.random.default_rng(seed)
    steps, lengths = np.arange(max(lengths))[:, None], np.array(lengths)
    last, even = steps == lengths - 1, np.arange(len(lengths)) % 2 == 0
    return trajectories(
        rng, last & even, last & ~even, steps < lengths, whole_episodes=True, features=features
    )


def insert_reset_rows(record, rng, ends):
    """One lane's record with a NEXT_STEP reset row behind each of the steps `ends`.

    Such a row is no transition: not valid, reward 0, and whatever else the environment reports.
    """
    rows = np.asarray(ends) + 1

    def widen(x):
        return jnp.asarray(np.insert(np.asarray(x), rows, 0, axis=0))

    rowwise = [f.name for f in fields(record) if f.name not in NOT_ROWS]
    widened = replace(record, **{name: widen(getattr(record, name)) for name in rowwise})
    noise = 1e6 * rng.normal(size=widened.observations.shape)
    observations = jnp.where(widened.valid[..., None], widened.observations, noise)
    return replace(widened, observations=observations)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FirstFeature(StateBaseline):
    """A critic that reads its value off the observation: b(s, t) = s_0 + t."""

    may_bootstrap = True

    def init(self, key, observation):
        return ()

    def value(self, state, observation, time):
        return observation[0] + time


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table(StateBaseline):
    """A critic that looks V_t(s) up in its state `[times, states]`; observations are integers."""

    may_bootstrap = True

    def init(self, key, observation):
        return jnp.zeros((1, 1))

    def value(self, state, observation, time):
        return state[time, observation]
