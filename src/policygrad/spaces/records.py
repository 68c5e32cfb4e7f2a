"""Functions of Gymnasium's spaces, by way of their records. Prefer the records."""

from gymnasium import spaces
from jaxtyping import PyTree

from policygrad.spaces import conversion
from policygrad.spaces.space import record_dtype as record_dtype


def space_to_json(space: spaces.Space) -> str:
    """One space as JSON text."""
    return conversion.space_of(space).to_json()


def space_from_json(text: str) -> spaces.Space:
    """The space that `space_to_json` wrote."""
    return conversion.space_from_json(text).to_gymnasium()


def check_observation_space(space: spaces.Space) -> None:
    """Raise UnsupportedSpaceError unless a policy can read observations of this space."""
    conversion.observation_space_of(space)


def check_action_space(space: spaces.Space) -> None:
    """Raise UnsupportedSpaceError unless a policy can act in this space."""
    conversion.action_space_of(space)


def same_kind(ours: spaces.Space, theirs: spaces.Space) -> bool:
    """Whether a policy for the one space fits the other: equal but for the bounds of a Box."""
    return conversion.space_of(ours).fits(conversion.space_of(theirs))


def example_observation(space: spaces.Space) -> PyTree:
    """Zeros (or the lowest values) of a space, in the types that a record holds."""
    return conversion.space_of(space).example()
