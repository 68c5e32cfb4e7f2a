"""A return form of one's own, as a user would write it."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from policygrad.gradients.forms import Coupling, Form
from policygrad.maths.returns import lambda_returns


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RenormalisedLambda(Form):
    """The λ-return of m = T − t steps whose weights λ^(n−1) are divided by their sum.

    G_t = r_t + γ [(1 − λ_t) V' + λ_t G_{t+1}], λ_t = λ (1 − λ^(m−1)) / (1 − λ^m): the longest
    return weighs no more than its turn, where the truncated λ-return leaves it all that is left.
    """

    gae_lambda: float
    horizon: int = field(metadata={"static": True})

    def factors(self, xp=jnp):
        """`[T]`, λ_t."""
        m = self.horizon - xp.arange(self.horizon)
        return self.gae_lambda * (1 - self.gae_lambda ** (m - 1)) / (1 - self.gae_lambda**m)

    def returns(self, steps, discount):
        factors = self.factors()[: len(steps.rewards)]
        return lambda_returns(*steps, discount=discount, gae_lambda=factors)

    def coupling(self, horizon):
        if horizon != self.horizon:
            return super().coupling(horizon)
        factors = self.factors(np)
        return Coupling(factors[:, None, None], 1 - factors[:, None])
