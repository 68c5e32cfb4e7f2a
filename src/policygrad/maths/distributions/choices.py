"""Which distributions are over choices alone."""

from typing import Any

from policygrad.maths.distributions.categorical import Bernoulli, Categorical, MultiCategorical
from policygrad.maths.distributions.joint import Joint
from policygrad.maths.distributions.valued import over_actions


def only_choices(distribution: Any) -> bool:
    """Whether every part of the action is a choice, so that the entropy is 0 at the least.

    >>> from policygrad.distributions import Categorical, DiagonalGaussian
    >>> only_choices(Categorical([0.0, 1.0])), only_choices(DiagonalGaussian([0.0], [0.0]))
    (True, False)
    """
    found = over_actions(distribution)
    if isinstance(found, Joint):
        parts = found.parts
        return all(map(only_choices, parts.values() if isinstance(parts, dict) else parts))
    return isinstance(found, (Categorical, MultiCategorical, Bernoulli))
