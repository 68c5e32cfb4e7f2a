"""A policy that a user passes, checked before it is used: it must fit the spaces, and be trainable.

Agents and runs are taken by their policy. A policy is asked once, for shapes alone, on an
observation of the environment's space.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from policygrad.core.errors import UserError
from policygrad.core.modules import PolicyShape, is_array, split
from policygrad.maths.distributions import Bernoulli, Categorical, Joint, MultiCategorical
from policygrad.policies import meeting
from policygrad.policies.agent import Agent, check_spaces
from policygrad.policies.space_policy import SpacePolicy
from policygrad.spaces import (
    ActionSpace,
    Box,
    Discrete,
    MultiBinary,
    MultiDiscrete,
    Nested,
    ObservationEncoder,
    action_space_of,
    observation_space_of,
)
from policygrad.training.result import Run

METHODS = ("log_prob", "sample", "mode", "entropy", "kl")
WHAT_IT_IS = (
    "a policy is a pytree that maps one observation to a distribution of policygrad.distributions, "
    "such as what policygrad.network_policy returns"
)


@dataclass(frozen=True)
class Spaces:
    """The spaces of an environment, as Gymnasium's."""

    observation_space: gymnasium.Space
    action_space: gymnasium.Space


def taken(given: Any, spaces: Spaces) -> Any:
    """The policy in what a user passed as `policy=`, checked, with JAX arrays in place of NumPy's.

    Args:
        given: a policy, an `Agent`, or what `train` returned.
        spaces: of the environment.

    Raises:
        UserError: it is no policy, nothing in it can be trained, or it is for other spaces.
    """
    if isinstance(given, Run):
        given = given.agent
    if isinstance(given, Agent):
        check_spaces(given, spaces)
        given = given.policy
    _check_kind(given)
    _check_parameters(given)
    if isinstance(given, SpacePolicy):
        _check_made_for(given, spaces)
    _check_answers(given, spaces)
    return jax.tree.map(lambda x: jnp.asarray(x) if is_array(x) else x, given)


def _check_kind(policy: Any) -> None:
    if isinstance(policy, (str, Path)):
        path = f"policygrad.load({str(policy)!r})"
        raise UserError(
            f"policy={policy!r} is no policy: pass policy={path} for a saved one; the default "
            "network is chosen by leaving policy out, and sized by hidden=(64, 64)"
        )
    if isinstance(policy, type):
        raise UserError(
            f"policy={policy.__name__} is a class: pass an instance of it; {WHAT_IT_IS}"
        )
    if not callable(policy):
        raise UserError(f"policy={_short(policy)} cannot be called: {WHAT_IT_IS}")


def _check_parameters(policy: Any) -> None:
    """Raise unless it holds something to train, and nothing that cannot be computed with."""
    name = type(policy).__name__
    try:
        hash(PolicyShape.of(policy))
    except TypeError as error:
        raise UserError(
            f"policy={name}(…) holds a part that is neither an array nor hashable ({error}); make "
            "it an array, or a static field with a value that can be hashed, such as a tuple"
        ) from error
    leaves = jax.tree_util.tree_flatten_with_path(policy)[0]
    for path, leaf in leaves:
        if not is_array(leaf):
            continue
        where = f"policy={name}(…){jax.tree_util.keystr(path)}"
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise UserError(f"{where} is complex, which no gradient here is taken for; use floats")
        if leaf.dtype == object:
            raise UserError(f"{where} is an array of objects; use an array of numbers")
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4:
            raise UserError(
                f"{where} holds {leaf.dtype}, too coarse for updates: keep float32, and cast where "
                "the policy computes"
            )
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.all(np.isfinite(np.asarray(leaf))):
            raise UserError(f"{where} holds NaN or infinity; begin from finite numbers")
    trained = jax.tree.leaves(split(policy)[0])
    if sum(np.size(leaf) for leaf in trained) == 0:
        numbers = [path for path, leaf in leaves if isinstance(leaf, (int, float))]
        hint = (
            "its parameters must be leaves of a pytree: use a registered dataclass or an Equinox "
        )
        hint += "module, with floating-point arrays as fields"
        if numbers:
            hint = f"{jax.tree_util.keystr(numbers[0])} is a plain number; make it a jnp.array"
        raise UserError(
            f"policy={_short(policy)} holds no floating-point array, so nothing in it can be "
            f"trained; {hint}"
        )


def _check_made_for(policy: SpacePolicy, spaces: Spaces) -> None:
    """Raise unless a policy of `network_policy` was made for spaces that fit these."""
    encode = policy.normaliser.encode
    made_for = encode.space if isinstance(encode, ObservationEncoder) else None
    pairs = (
        ("observation", made_for, observation_space_of(spaces.observation_space)),
        ("action", policy.action_space, action_space_of(spaces.action_space)),
    )
    for what, ours, theirs in pairs:
        if ours is not None and not ours.fits(theirs):
            raise UserError(
                f"the policy's {what} space is {ours.to_gymnasium()}, the environment's is "
                f"{theirs.to_gymnasium()}; pass a policy that was made for the environment's"
            )


def _check_answers(policy: Any, spaces: Spaces) -> None:
    """Raise unless the policy gives a distribution over the actions for one observation."""
    example = observation_space_of(spaces.observation_space).example()
    shapes = jax.tree.map(lambda x: f"{x.dtype}{list(np.shape(x))}", example)
    actions = action_space_of(spaces.action_space)
    asked = f"an observation of {spaces.observation_space} (arrays: {shapes})"

    def answer(observation: PyTree, key: Any) -> Any:
        carry = jax.tree.map(lambda x: x[0], meeting.initial_carry(policy, 1))
        distribution, after = meeting.step(policy, carry, observation)
        _check_distribution(policy, distribution, actions, spaces)
        action = distribution.sample(key)
        numbers = {
            "log_prob": distribution.log_prob(action),
            "entropy": distribution.entropy(),
            "kl": distribution.kl(distribution),
        }
        return action, distribution.mode(), numbers, carry, after

    try:
        answers = jax.eval_shape(answer, example, jax.random.key(0))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the policy {_short(policy)} raised {type(error).__name__} on {asked}, with actions "
            f"of {spaces.action_space}: {_first_line(error)}"
        ) from error
    sampled, mode, numbers, carry, after = answers
    for what, action in (("sample", sampled), ("mode", mode)):
        problem = _misfit(actions, action)
        if problem:
            raise UserError(
                f"{what} of the policy's distribution gives {problem}; the action space is "
                f"{spaces.action_space}, and the policy was asked on {asked}"
            )
    for what, number in numbers.items():
        if not is_shape(number) or number.shape != ():
            raise UserError(f"{what} of the policy's distribution gives {number}, not one number")
    shape_of = lambda x: (np.shape(x), np.dtype(x.dtype))  # noqa: E731
    if jax.tree.map(shape_of, carry) != jax.tree.map(shape_of, after):
        raise UserError(
            f"the policy's carry after a step is {after}, and its initial_carry() is {carry}: "
            "structures, shapes and types must be the same"
        )


def _check_distribution(
    policy: Any, distribution: Any, actions: ActionSpace, spaces: Spaces
) -> None:
    missing = [name for name in METHODS if not callable(getattr(distribution, name, None))]
    if missing:
        raise UserError(
            f"the policy {_short(policy)} returned {_kind(distribution)}, which has no "
            f"{', '.join(missing)}: it must return a distribution, such as "
            "policygrad.distributions.Categorical(logits)"
        )
    if jax.tree_util.all_leaves([distribution]):
        raise UserError(
            f"the distribution {type(distribution).__name__} that the policy returned is no pytree "
            "to JAX; decorate its class with @jax.tree_util.register_dataclass and "
            "@dataclass(frozen=True)"
        )
    problem = _miscounted(distribution, actions)
    if problem:
        raise UserError(
            f"the policy {_short(policy)} chooses among {problem} in the action space "
            f"{spaces.action_space}, for the observation space {spaces.observation_space}"
        )


def _miscounted(distribution: Any, space: Any) -> str:
    """Which number of choices a distribution of this library has wrong; empty if none."""
    match distribution, space:
        case Categorical(logits=logits), Discrete(n=n) if logits.shape != (n,):
            return f"{logits.shape[-1] if logits.ndim else 0} actions, and there are {n}"
        case MultiCategorical(parts=parts), MultiDiscrete(sizes=sizes):
            ours, theirs = [part.logits.shape[-1] for part in parts], sizes.ravel().tolist()
            return "" if ours == theirs else f"{ours} values, and there are {theirs}"
        case Bernoulli(logits=logits), MultiBinary() if logits.size != space.parameters:
            return f"{logits.size} flags, and there are {space.parameters}"
        case Joint(parts=parts), Nested():
            known = parts if isinstance(parts, dict) else dict(enumerate(parts))
            found = (_miscounted(known[k], part) for k, part in space.entries if k in known)
            return next((problem for problem in found if problem), "")
    return ""


def _misfit(space: Any, action: PyTree) -> str:
    """What is wrong with the shapes of an action of one step; empty if nothing is."""
    if isinstance(space, Nested):
        keys = [key for key, _ in space.entries]
        known = action
        if isinstance(action, (tuple, list)):
            known = dict(enumerate(action))
        if not isinstance(known, dict) or sorted(known) != sorted(keys):
            return f"{action}, without the parts {keys}"
        found = (_misfit(part, known[key]) for key, part in space.entries)
        return next((problem for problem in found if problem), "")
    if not is_shape(action):
        return f"{_kind(action)}, expected an array"
    wanted, whole = (space.shape, False) if isinstance(space, Box) else (_flat(space), True)
    kinds = (jnp.integer, jnp.bool_) if whole else (jnp.floating,)
    if action.shape == wanted and any(jnp.issubdtype(action.dtype, kind) for kind in kinds):
        return ""
    numbers = "whole numbers" if whole else "floats"
    return f"{action.dtype}{list(action.shape)}, expected {numbers} of the shape {list(wanted)}"


def _flat(space: Any) -> tuple[int, ...]:
    """The shape of a choice as a policy gives it."""
    if isinstance(space, MultiDiscrete):
        return (space.sizes.size,)
    return () if isinstance(space, Discrete) else (space.parameters,)


def is_shape(value: Any) -> bool:
    """Whether it is an array, as JAX describes its shape."""
    return isinstance(value, jax.ShapeDtypeStruct)


def _kind(value: Any) -> str:
    if is_array(value):
        return f"an array of shape {list(np.shape(value))}"
    return "None" if value is None else f"a {type(value).__name__}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{type(value).__name__}(…)"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
