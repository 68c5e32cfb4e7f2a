"""The usual estimators, fitted and ready to be compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from policygrad.core.modules import PolicyShape
from policygrad.core.trajectories import Trajectories
from policygrad.devices.compiled_code import compiled
from policygrad.gradients import baselines, estimators
from policygrad.gradients.baselines.base import Baseline
from policygrad.gradients.weights import Estimator, EstimatorState

Fitted = tuple[Estimator, EstimatorState]


def usual_estimators(
    horizon: int,
    *,
    discount: float = 0.99,
    discounts: Sequence[float] = (0.9, 1.0),
    lambdas: Sequence[float] = (0.0, 0.5, 0.9, 0.95, 1.0),
    steps: Sequence[int] = (1, 5, 20),
    resets_at_rewards: bool = False,
    encode: Callable | None = None,
    epochs: int = 10,
) -> dict[str, Estimator]:
    """Total return, rewards to go under every baseline, n steps, GAE over λ, discounts, γ^t kept.

    Args:
        horizon: steps of the baseline that depends on time alone.
        discount: γ of all estimators, except those that vary γ.
        discounts: further γ, of rewards to go and of GAE at λ = 0.95.
        lambdas: of GAE.
        steps: n.
        resets_at_rewards: of all of them. The total return, which cannot, is then left out.
        encode: observation -> `[f]`, for the regressions.
        epochs: passes of the value network over a batch.

    Returns:
        name -> estimator, as `train` takes it. Estimators of equal γ share one critic.

    Raises:
        ValueError: a discount, λ or n out of range.
    """
    network = baselines.value_network(epochs=epochs, encode=encode)
    linear = baselines.linear_features(encode=encode)
    usual: dict[str, Baseline] = {
        "constant": baselines.constant(),
        "time": baselines.time_dependent(horizon),
        "linear": linear,
        "value network": network,
        "variance-optimal": baselines.variance_optimal(linear),
        "leave one out": baselines.leave_one_out(),
    }
    found: dict[str, Estimator] = {}
    if not resets_at_rewards:
        total = partial(estimators.total_return, discount=discount)
        found |= {
            "total return": total(),
            "total return, constant": total(baseline=baselines.constant()),
        }
    to_go, gae, n_step = (
        partial(make, resets_at_rewards=resets_at_rewards)
        for make in (estimators.reward_to_go, estimators.gae, estimators.n_step)
    )
    found["to go"] = to_go(discount=discount)
    found["to go, γ^t kept"] = to_go(discount=discount, discounted_states=True)
    for g in discounts:
        found[f"to go, γ={g:g}"] = to_go(discount=g)
    for name, baseline in usual.items():
        found[f"to go, {name}"] = to_go(discount=discount, baseline=baseline)
    own: dict[str, Any] = {"discount": discount, "critic": network}
    for x in lambdas:
        found[f"gae, λ={x:g}"] = gae(gae_lambda=x, **own)
    for n in steps:
        found[f"{n} step" + "s" * (n > 1)] = n_step(n=n, **own)
    for g in discounts:
        found[f"gae, λ=0.95, γ={g:g}"] = gae(discount=g, critic=network)
    found["gae, λ=0.95, γ^t kept"] = gae(discounted_states=True, **own)
    return found


def line_up(
    policy: Any, fitting: Trajectories, key: PRNGKeyArray, *, epochs: int = 40, **which: Any
) -> dict[str, Fitted]:
    """The usual estimators, each fitted to the same episodes, beginning untrained.

    Args:
        policy: read by baselines that weigh steps by their scores.
        fitting: whole episodes that baselines and critics are fitted to. Compare the estimators on
            other episodes.
        key: consumed.
        epochs, which: of `usual_estimators`, all but `horizon`.

    Returns:
        name -> estimator and state, for `compare_estimators`.

    Raises:
        ValueError: as `usual_estimators`.
    """
    make = usual_estimators(int(fitting.rewards.shape[0]), epochs=epochs, **which)
    critics: dict[float, Any] = {}  # by discount: one fit serves all that share it
    fitted: dict[str, Fitted] = {}
    for (name, e), k in zip(make.items(), jax.random.split(key, len(make)), strict=True):
        if e.critic is None:
            fitted[name] = e, fit(e, policy, fitting, k)
            continue
        g = float(e.discount)
        if g not in critics:
            plain = replace(make["to go"], discount=g, baseline=e.critic)
            critics[g] = fit(plain, policy, fitting, k).baseline
        fitted[name] = e, EstimatorState((), critics[g])
    return fitted


def fit(
    estimator: Estimator, policy: Any, fitting: Trajectories, key: PRNGKeyArray
) -> EstimatorState:
    """The estimator's state, fitted to these episodes. The key is consumed."""
    init_key, fit_key = jax.random.split(key)
    observation = jax.tree.map(lambda x: x[0, 0], fitting.observations)
    state = estimator.init(init_key, observation)
    plain = replace(estimator, normalise_advantages=False)
    shape = PolicyShape.of(policy)
    return _fit(shape, plain, state, fit_key, shape.arrays(policy), fitting)


@partial(compiled, static_argnums=0)
def _fit(
    shape: PolicyShape, estimator: Any, state: Any, key: Any, arrays: tuple, fitting: Any
) -> EstimatorState:
    returns = estimator.weights(state, fitting).returns
    return estimator.fit(state, key, shape.policy(arrays), fitting, returns)[0]
