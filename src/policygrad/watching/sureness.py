"""How sure a policy is at one observation, in a few numbers."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from policygrad.devices.compiled_code import compiled_for_modules
from policygrad.maths.distributions import (
    Bernoulli,
    Categorical,
    Joint,
    MultiCategorical,
    over_actions,
    sum_of,
)
from policygrad.policies import meeting

MOST_ACTIONS = 18  # whose probabilities are shown one by one: those of Atari


class Sureness(NamedTuple):
    """How sure a policy is.

    Attributes:
        entropy: nats, of the choices among the parts of an action; of the whole distribution if it
            is of another kind than this library's. None if an action has no choices.
        greatest: nats, the entropy if all permitted choices were equally likely; None if there is
            no greatest.
        probabilities: `[n]`, of one choice among a few.
        deviations: `[k]`, standard deviations of the parts that are real numbers, in units of half
            their range.
    """

    entropy: Any = None
    greatest: Any = None
    probabilities: Any = None
    deviations: Any = None


@compiled_for_modules
def sureness_at(policy: Any, carry: PyTree, observation: PyTree) -> tuple[Sureness, PyTree]:
    """How sure a policy is at one observation, and its carry after it.

    Args:
        policy: with or without memory.
        carry: of one lane, unbatched.
        observation: unbatched.
    """
    distribution, carry = meeting.step(policy, carry, observation)
    return sureness_of(distribution), carry


def sureness_of(distribution: Any) -> Sureness:
    """How sure the policy is whose distribution this is."""
    parts = list(_parts(over_actions(distribution)))
    choices = [part for part in parts if isinstance(part, (Categorical, Bernoulli))]
    gaussians = [jnp.exp(p.log_std).reshape(-1) for p in parts if hasattr(p, "log_std")]
    if len(choices) + len(gaussians) < len(parts):  # of the user's own
        return Sureness(entropy=distribution.entropy())
    deviations = jnp.concatenate(gaussians) if gaussians else None
    if not choices:
        return Sureness(deviations=deviations)
    return Sureness(
        sum_of(part.entropy() for part in choices),
        sum_of(map(_greatest, choices)),
        _probabilities(choices),
        deviations,
    )


def _probabilities(choices: list[Any]) -> Any:
    """`[n]`, of the one choice that there is, if n is small."""
    one = choices[0] if len(choices) == 1 else None
    if isinstance(one, Categorical) and len(one.logits) <= MOST_ACTIONS:
        return jnp.exp(one.log_probs)
    return None


def _parts(distribution: Any) -> Iterator[Any]:
    """The distributions of which one is made."""
    if isinstance(distribution, Joint):
        parts = distribution.parts
        for part in parts.values() if isinstance(parts, dict) else parts:
            yield from _parts(part)
    elif isinstance(distribution, MultiCategorical):
        yield from distribution.parts
    else:
        yield distribution


def _greatest(part: Categorical | Bernoulli) -> Any:
    """The entropy if all that is permitted were equally likely."""
    size = part.logits.shape[-1]
    permitted = size if part.mask is None else jnp.sum(part.mask)
    if isinstance(part, Bernoulli):
        return permitted * jnp.float32(np.log(2))
    return jnp.log(jnp.maximum(permitted, 1).astype(jnp.float32))
