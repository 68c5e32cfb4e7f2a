"""How far an improvement changed a policy, and derivatives of means over a batch's states.

Means are over the steps that are transitions. They are computed in chunks, and on all processors
that share a batch.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from policygrad.core.modules import combine, depending, split
from policygrad.core.trajectories import Trajectories
from policygrad.devices.chunks import sum_in_chunks
from policygrad.maths.distributions import only_choices
from policygrad.policies import meeting
from policygrad.policies.meeting import Policy, Seen

NEARLY_CERTAIN = 0.1  # nats: from here on a KL of 0.01 moves the logits of two actions by 1


def mean_over_steps(x: Float[Array, "T B"], trajectories: Trajectories) -> Float[Array, ""]:
    """The mean over the steps that are transitions."""
    valid = trajectories.valid
    return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def kl_of_steps(old: Policy, new: Policy, seen: Seen) -> Array:
    """KL(old ‖ new), nats, at every step of some units."""
    kl = meeting.over_steps(old, lambda p, q: p.kl(q))
    return kl(meeting.distributions_of(old, seen), meeting.distributions_of(new, seen))


def mean_kl(old: Policy, new: Policy, trajectories: Trajectories) -> Float[Array, ""]:
    """Mean KL(old ‖ new) over the batch's states, nats."""

    def total(rows: PyTree) -> Array:
        (seen,) = rows
        return jnp.sum(kl_of_steps(old, new, seen), where=seen.valid)

    return _sum(old, total, trajectories) / _steps(trajectories)


def mean_entropy(policy: Policy, trajectories: Trajectories) -> Float[Array, ""]:
    """Mean entropy over the batch's states, nats."""
    entropy = meeting.over_steps(policy, lambda p: p.entropy())

    def total(rows: PyTree) -> Array:
        (seen,) = rows
        return jnp.sum(entropy(meeting.distributions_of(policy, seen)), where=seen.valid)

    return _sum(policy, total, trajectories) / _steps(trajectories)


def compare(
    before: PyTree, new: Policy, trajectories: Trajectories
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean KL(old ‖ new) and mean entropy of the old policy over the batch's states, nats.

    Args:
        before: the old policy's distributions, in the units of `meeting.units`.
        new: the new policy.
        trajectories: the batch.
    """
    kl = meeting.over_steps(new, lambda p, q: p.kl(q))
    entropy = meeting.over_steps(new, lambda p: p.entropy())

    def total(rows: Any) -> tuple[Array, Array]:
        seen, before = rows
        kls = kl(before, meeting.distributions_of(new, seen))
        return jnp.sum(kls, where=seen.valid), jnp.sum(entropy(before), where=seen.valid)

    sums = _sum(new, total, trajectories, before)
    return jax.tree.map(lambda x: x / _steps(trajectories), sums)


def nearly_certain(entropy: Float[Array, ""], before: PyTree) -> Bool[Array, ""]:
    """Whether a policy of choices is so certain that its KL says little of how far it moved.

    To second order KL(old ‖ new) = ½ Var_π(Δ), with Δ the change of the logits. It vanishes with
    the entropy, however far the logits move.

    Args:
        entropy: `[]`, nats: the mean over the batch's states.
        before: the policy's distributions. Continuous actions have no least entropy, and a policy
            with any is never nearly certain.
    """
    return only_choices(before) & (entropy < NEARLY_CERTAIN)


def gradient_of_mean(
    f: Callable[..., Float[Array, ""]], policy: Policy, trajectories: Trajectories, *more: PyTree
) -> PyTree:
    """The gradient of the mean over the batch's steps of a function of the policy's distributions.

    It is computed chunk by chunk, and on all processors that share a batch. Differentiate a
    function of distributions here: differentiated from outside, rows that processors share would
    count twice.

    Args:
        f: (distribution, one step of each of `more`) -> a number; differentiated in the first.
        policy: the gradient is taken at its parameters.
        trajectories: the batch.
        more: pytrees of `[T, B, ...]`; held constant.

    Returns:
        pytree like the policy; points uphill.
    """
    differentiated, rest = split(policy)
    of_step = meeting.over_steps(policy, f)

    def total(rows: PyTree) -> PyTree:
        seen, *given = rows

        def summed(differentiated: PyTree) -> Array:
            found = meeting.distributions_of(combine(differentiated, rest), seen)
            values = of_step(found, *given)
            return jnp.sum(jax.lax.select(seen.valid, values, jnp.zeros_like(values)))

        return jax.grad(summed)(differentiated)

    (_, *given) = meeting.units(policy, trajectories, *more)
    summed = _sum(policy, total, trajectories, *given)
    return jax.tree.map(lambda g: g / _steps(trajectories), summed)


def fisher_product(policy: Policy, vector: PyTree, trajectories: Trajectories) -> PyTree:
    """F v, F = E[z zᵀ] the Fisher information: the Hessian of the mean KL at the policy itself.

    With J the derivative of a distribution's numbers (logits, means, …) by the parameters, and M
    the Hessian of the KL by those numbers,

        F v = mean over steps of Jᵀ M J v.

    The KL has its least value, 0, at the policy itself. What else its Hessian by the parameters
    holds, second derivatives of the network times the KL's gradient, is zero there.

    Args:
        policy: F is taken at its parameters.
        vector: pytree like the gradient.
        trajectories: the mean is over its states.

    Returns:
        pytree like the vector.

    Source: Schraudolph 2002, the product with a Gauss-Newton matrix; Martens 2020, section 9, that
    it is the Fisher information.
    """
    differentiated, rest = split(policy)
    kl = meeting.over_steps(policy, lambda p, q: p.kl(q))

    def total(rows: PyTree) -> PyTree:
        (seen,) = rows

        def distributions(differentiated: PyTree) -> Any:
            return meeting.distributions_of(combine(differentiated, rest), seen)

        moving = depending(distributions, differentiated)
        numbers, push, others = jax.linearize(
            lambda d: eqx.partition(distributions(d), moving), differentiated, has_aux=True
        )
        pull = jax.linear_transpose(push, differentiated)

        def summed(moved: PyTree) -> Array:
            return jnp.sum(kl(combine(numbers, others), combine(moved, others)), where=seen.valid)

        _, curved = jax.jvp(jax.grad(summed), (numbers,), (push(vector),))  # M J v
        return pull(curved)[0]

    return jax.tree.map(lambda x: x / _steps(trajectories), _sum(policy, total, trajectories))


def _steps(trajectories: Trajectories) -> Array:
    return jnp.maximum(jnp.sum(trajectories.valid), 1)


def _sum(
    policy: Policy, total: Callable[[Any], Any], trajectories: Trajectories, *more: PyTree
) -> Any:
    """A sum over units of (what is seen, more), chunk by chunk; `more` is in units."""
    rows = *meeting.units(policy, trajectories), *more
    filled = meeting.without_padding(rows)
    size, order = meeting.unit_size(policy, trajectories), meeting.unit_order(policy, trajectories)
    return sum_in_chunks(lambda rows: total(filled(rows)), rows, size, order)


def thin(policy: Policy, stride: int, trajectories: Trajectories) -> Trajectories:
    """One step of every `stride`, shifted by one row from lane to lane. For a policy with memory:
    one lane of every `stride`.

    All rows are seen, each in some lane, if there are at least `stride` lanes and `stride` divides
    the number of rows. With fewer lanes only the first rows of every `stride` are, one for each
    lane; and what is left of the rows after the last whole `stride` is not.

    Only what `meeting.units` reads of a record is thinned.
    """
    if stride == 1:
        return trajectories
    if isinstance(policy, meeting.WithMemory):
        whole = trajectories.observations, trajectories.valid, trajectories.times
        observations, valid, times = jax.tree.map(lambda x: x[:, ::stride], whole)
        carry = jax.tree.map(lambda x: x[:, ::stride], trajectories.carry)
        return replace(
            trajectories, observations=observations, valid=valid, times=times, carry=carry
        )
    steps, lanes = trajectories.valid.shape
    kept = max(1, steps // stride)
    rows = (jnp.arange(kept)[:, None] * stride + jnp.arange(lanes) % stride) % steps

    def pick(x: Array) -> Array:
        index = rows.reshape(kept, lanes, *[1] * (x.ndim - 2))
        return jnp.take_along_axis(x, index, axis=0)

    return replace(
        trajectories,
        observations=jax.tree.map(pick, trajectories.observations),
        valid=pick(trajectories.valid),
    )
