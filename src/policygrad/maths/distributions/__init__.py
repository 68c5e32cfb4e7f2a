"""Action distributions: unbatched pytrees that score, sample and compare. Callers `vmap`.

Each distribution has `log_prob(action)`, `sample(key)`, `mode()`, `entropy()` and `kl(other)`, in
nats. `sample` consumes its key. All but `sample` and `mode` are differentiable in the parameters.
"""

from policygrad.maths.distributions.categorical import (
    Bernoulli,
    Categorical,
    MultiCategorical,
    masked_log_softmax,
    sum_of,
)
from policygrad.maths.distributions.choices import only_choices
from policygrad.maths.distributions.gaussian import (
    ClippedGaussian,
    DiagonalGaussian,
    TanhGaussian,
    log_one_minus_tanh_squared,
)
from policygrad.maths.distributions.joint import Joint
from policygrad.maths.distributions.protocol import Distribution
from policygrad.maths.distributions.valued import Valued, over_actions

__all__ = [
    "Bernoulli",
    "Categorical",
    "ClippedGaussian",
    "DiagonalGaussian",
    "Distribution",
    "Joint",
    "MultiCategorical",
    "TanhGaussian",
    "Valued",
    "log_one_minus_tanh_squared",
    "masked_log_softmax",
    "only_choices",
    "over_actions",
    "sum_of",
]
