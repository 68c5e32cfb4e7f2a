"""The usual estimators, fitted and ready to be compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from policygrad import baselines, estimators
from policygrad.baselines.base import Baseline
from policygrad.estimators import Estimator, EstimatorState
from policygrad.types import Trajectories

Fitted = tuple[Estimator, EstimatorState]


def line_up(
    policy: Any,
    fitting: Trajectories,
    key: PRNGKeyArray,
    *,
    discount: float = 0.99,
    discounts: Sequence[float] = (0.9, 1.0),
    lambdas: Sequence[float] = (0.0, 0.5, 0.9, 0.95, 1.0),
    steps: Sequence[int] = (1, 5, 20),
    encode: Callable | None = None,
    epochs: int = 40,
) -> dict[str, Fitted]:
    """Total return, rewards to go under every baseline, n steps, GAE over λ, discounts, γ^t kept.

    Args:
        policy: for baselines that weigh steps by their scores.
        fitting: whole episodes that baselines and critic are fitted to. Compare on others.
        key: consumed.
        discount: γ, of all but those that are there to vary it.
        discounts: further γ, of rewards to go and of GAE at λ = 0.95.
        lambdas: of GAE.
        steps: n.
        encode: observation -> `[f]`, for the regressions.
        epochs: of the value network's fit, which starts from nothing.

    Returns:
        name -> estimator and state, for `compare_estimators`.

    Raises:
        ValueError: a discount, λ or n out of range.
    """
    horizon = int(fitting.rewards.shape[0])
    network = baselines.value_network(epochs=epochs, encode=encode)
    linear = baselines.linear_features(encode=encode)
    to_fit: dict[str, Baseline] = {
        "constant": baselines.constant(),
        "time": baselines.time_dependent(horizon),
        "linear": linear,
        "value network": network,
        "variance-optimal": baselines.variance_optimal(linear),
        "leave one out": baselines.leave_one_out(),
    }
    make: dict[str, Estimator] = {
        "total return": estimators.total_return(discount=discount),
        "total return, constant": estimators.total_return(
            discount=discount, baseline=baselines.constant()
        ),
        "to go": estimators.reward_to_go(discount=discount),
        "to go, γ^t kept": estimators.reward_to_go(discount=discount, discounted_states=True),
    }
    for g in discounts:
        make[f"to go, γ={g:g}"] = estimators.reward_to_go(discount=g)
    for name, baseline in to_fit.items():
        make[f"to go, {name}"] = estimators.reward_to_go(discount=discount, baseline=baseline)
    fit_key, *keys = jax.random.split(key, len(make) + 1)
    fitted = {
        name: (e, fit(e, policy, fitting, k))
        for (name, e), k in zip(make.items(), keys, strict=True)
    }
    critics = {}
    for g, k in zip(
        (discount, *discounts), jax.random.split(fit_key, 1 + len(discounts)), strict=True
    ):
        plain = estimators.reward_to_go(discount=g, baseline=network)
        critics[g] = fit(plain, policy, fitting, k).baseline

    def with_critic(estimator: Callable[..., Estimator], g: float) -> Fitted:
        return estimator(discount=g, critic=network), EstimatorState((), critics[g])

    for x in lambdas:
        fitted[f"gae, λ={x:g}"] = with_critic(partial(estimators.gae, gae_lambda=x), discount)
    for n in steps:
        fitted[f"{n} step" + "s" * (n > 1)] = with_critic(partial(estimators.n_step, n=n), discount)
    for g in discounts:
        gae = partial(estimators.gae, gae_lambda=0.95)
        fitted[f"gae, λ=0.95, γ={g:g}"] = with_critic(gae, g)
    kept = partial(estimators.gae, gae_lambda=0.95, discounted_states=True)
    fitted["gae, λ=0.95, γ^t kept"] = with_critic(kept, discount)
    return fitted


def fit(
    estimator: Estimator, policy: Any, fitting: Trajectories, key: PRNGKeyArray
) -> EstimatorState:
    """The estimator's state, fitted to these episodes from nothing. The key is consumed."""
    init_key, fit_key = jax.random.split(key)
    observation = jax.tree.map(lambda x: x[0, 0], fitting.observations)
    state = estimator.init(init_key, observation)
    plain = replace(estimator, normalise_advantages=False)
    return _fit(plain, state, fit_key, policy, fitting)


@jax.jit
def _fit(estimator: Any, state: Any, key: Any, policy: Any, fitting: Any) -> EstimatorState:
    returns = estimator.weights(state, fitting).returns
    return estimator.fit(state, key, policy, fitting, returns)[0]
