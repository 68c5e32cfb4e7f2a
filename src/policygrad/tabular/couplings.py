"""How the returns of successive steps are coupled: what a return form says, and whether it is so.

A form that disagrees with itself, by a `coupling` that is not that of its `returns`, would have
exact moments of another estimator than the one that trains. One lane of random rewards, sent
through both, tells.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from policygrad.devices.compiled_code import compiled
from policygrad.gradients.forms import Coupling, Form, LaneSteps
from policygrad.tabular.mdp import FiniteMDP
from policygrad.tabular.precision import in_float64

# of 8 bytes each, several times over
_MOST_NUMBERS = 50_000_000
_PROBED = 8  # steps of the lane that is tried where there is no horizon
_EVERY, _EVERY_THIRD = 1, 3  # steps with a reward
_CLOSE = 1e-6  # of the largest return: a form may compute in single precision


@in_float64
def coupling_of(form: Form, mdp: FiniteMDP, discount: float) -> Coupling:
    """The coupling of a form, checked; both parts have T rows, or neither.

    Args:
        form: a return form.
        mdp: the task.
        discount: γ, at which the form's returns are compared.

    Raises:
        ValueError: the form has no coupling, one of another shape, one of too many returns, one
            that is not that of its returns, or, without a horizon, one whose sums have no end.
    """
    trace, bootstrap, resets = _arrays(form, mdp)
    if resets:
        _check_known_rewards(form, mdp)
    if mdp.horizon is None:
        _check_stationary(form, trace)
    elif trace.ndim == 3 or bootstrap.ndim == 2:
        p = bootstrap.shape[-1]
        trace = np.broadcast_to(trace, (mdp.horizon, p, p))
        bootstrap = np.broadcast_to(bootstrap, (mdp.horizon, p))
    found = Coupling(trace, bootstrap, resets)
    if not form.whole_episodes:  # whose coupling is that of what is still to come
        steps = mdp.horizon or _PROBED
        ends = [steps - 1]
        if mdp.absorbing.any():  # the lane ends in the middle
            ends.append(steps // 2)
        for end in ends:
            for paid in (_EVERY, _EVERY_THIRD):
                _check_returns(form, found, discount, steps, end, paid)
    return found


def _arrays(form: Form, mdp: FiniteMDP) -> Coupling:
    """Of the right shapes and of a size that can be computed with."""
    horizon = mdp.horizon
    try:
        trace, bootstrap, resets = Coupling(*form.coupling(horizon))
        trace, bootstrap = (np.asarray(x, np.float64) for x in (trace, bootstrap))
    except MemoryError as error:
        raise ValueError(f"{form!r} is too large here: {error}") from error
    p = bootstrap.shape[-1:]
    leading = ((),) if horizon is None else ((), (horizon,))
    if (
        len(p) != 1
        or trace.shape not in [(*rows, *p, *p) for rows in leading]
        or bootstrap.shape not in [(*rows, *p) for rows in leading]
    ):
        where = f", or {horizon} rows of each" if horizon else ", and no rows without a horizon"
        raise ValueError(
            f"the coupling of {_name(form)} needs a trace [p, p] and a bootstrap [p]{where}; got "
            f"shapes {trace.shape} and {bootstrap.shape}"
            + ("" if horizon else "; give the MDP a horizon if they depend on the time")
        )
    if mdp.edges.weights.size * p[0] ** 2 > _MOST_NUMBERS:
        raise ValueError(
            f"{form!r} is too large here: it needs the products of {p[0]} returns on each of "
            f"{mdp.edges.weights.size} transitions; use fewer steps, or gae"
        )
    return Coupling(trace, bootstrap, bool(resets))


def _check_known_rewards(form: Form, mdp: FiniteMDP) -> None:
    """ValueError if a reward is random: whether a return ends with it must follow from the edge."""
    edges = mdp.edges
    random = np.argwhere((np.asarray(edges.weights) > 0) & (np.asarray(edges.variances) > 0))
    if len(random):
        s, a, k = random[0]
        raise ValueError(
            f"{_name(form)} resets at rewards, and has no exact form where a reward is random: the "
            f"transition from state {s} by action {a} to state {mdp.successors[s, a, k]} has a "
            f"reward_variance of {edges.variances[s, a, k]:g}; give the MDP a state for each "
            "reward instead"
        )


def _check_stationary(form: Form, trace: Float[np.ndarray, "p p"]) -> None:
    p = len(trace)
    if p == 1 and abs(trace[0, 0]) > 1:
        raise ValueError(
            f"the coupling of {_name(form)} has no sum without a horizon: its trace is "
            f"{trace[0, 0]:g}, and must be from -1 to 1; give the MDP a horizon"
        )
    if p > 1 and np.any(np.linalg.matrix_power(trace, p)):
        raise ValueError(
            f"the {p} coupled returns of {_name(form)} have no exact form without a horizon: their "
            "trace must vanish at its p-th power, as that of n steps does; give the MDP a horizon"
        )


@compiled
def _returns(form: Form, steps: LaneSteps, discount: Array) -> Float[Array, " T"]:
    return form.returns(steps, discount)


def _check_returns(
    form: Form, coupling: Coupling, discount: float, steps: int, end: int, paid: int
) -> None:
    """ValueError if the form's returns are not those of its coupling, on a lane that ends, with a
    reward in one of `paid` steps."""
    rewards, values = np.random.default_rng(0).normal(size=(2, steps))
    times = np.arange(steps)
    rewards = np.where((times - 1) % paid == 0, rewards, 0.0)
    rewards, values = (np.where(times <= end, x, 0.0) for x in (rewards, values))
    lane = LaneSteps(*map(jnp.asarray, (rewards, values, times == end, np.zeros(steps, bool))))
    returned = np.asarray(_returns(form, lane, jnp.asarray(discount, float)))[: end + 1]
    trace, bootstrap, resets = coupling
    coupled, expected = np.zeros(bootstrap.shape[-1]), np.zeros(end + 1)
    for t in reversed(range(end + 1)):
        ahead = (bootstrap[t], trace[t]) if trace.ndim == 3 else (bootstrap, trace)
        value = 0.0 if t == end else values[t]
        goes_on = float(not (resets and rewards[t]))
        coupled = rewards[t] + goes_on * discount * (ahead[0] * value + ahead[1] @ coupled)
        expected[t] = coupled[-1]
    apart = np.abs(returned - expected)
    if not np.all(apart <= _CLOSE * np.max(np.abs(expected))):
        t = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        raise ValueError(
            f"{_name(form)} disagrees with itself: at step {t} of an episode that ends after "
            f"{end + 1} of {steps} steps its returns() gives {returned[t]:g} and its coupling() "
            f"{expected[t]:g}, so that the laboratory would analyse another estimator than the one "
            "that trains; correct one of the two"
            + ("" if end == steps - 1 else ", or take an MDP without absorbing states")
        )


def _name(form: Form) -> str:
    return f"the return form {type(form).__name__}"
