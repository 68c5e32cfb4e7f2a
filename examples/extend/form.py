"""A return form of one's own: λ-returns whose weights are made whole again where they are cut off.

Where m steps remain before a cut, the usual recursion puts the weight of all longer returns on the
last one. Here the m weights (1 − λ) λ^(n−1) are divided by their sum instead,

    G_t = r_t + γ [(1 − λ_m) V(s_{t+1}) + λ_m G_{t+1}],  λ_m = λ (1 − λ^(m−1)) / (1 − λ^m)
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from policygrad.estimators import Coupling, Estimator, Form, LaneSteps
from policygrad.returns import lambda_returns

import policygrad
from policygrad import baselines


def whole(gae_lambda, remaining):
    """λ_m of the steps that have m ≥ 1 steps left, their own included."""
    return gae_lambda * (1 - gae_lambda ** (remaining - 1)) / (1 - gae_lambda**remaining)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WholeLambdaReturn(Form):
    gae_lambda: float = 0.95

    def returns(self, steps: LaneSteps, discount):
        ends = steps.terminated | steps.truncated

        def count(following, end):
            remaining = jnp.where(end, 1, following + 1)
            return remaining, remaining

        _, remaining = jax.lax.scan(count, 0, ends, reverse=True)
        decay = whole(self.gae_lambda, remaining)
        return lambda_returns(*steps, discount=discount, gae_lambda=decay)

    def coupling(self, horizon):
        """For the exact laboratory: the steps that are left follow from the time alone."""
        if horizon is None:
            raise ValueError("WholeLambdaReturn needs a horizon; give the MDP one")
        decay = whole(self.gae_lambda, np.arange(horizon, 0, -1))
        return Coupling(decay[:, None, None], 1 - decay[:, None])


def main(total_steps: int = 60_000) -> float:
    """Train CartPole with it; the mean return of the last hundred episodes."""
    critic = baselines.value_network(epochs=10)
    estimator = Estimator(WholeLambdaReturn(0.95), None, critic, 0.99, time_limit="bootstraps")
    run = policygrad.train("CartPole-v1", estimator=estimator, total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())
