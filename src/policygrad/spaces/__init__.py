"""Spaces as records of our own: saved, read by networks, and crossed by actions.

`space_of` makes a record from a Gymnasium space, once. After that Gymnasium's is not read again.
"""

from policygrad.spaces.box import Box, clipped_fraction
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.conversion import (
    action_space_of,
    observation_space_of,
    space_from_json,
    space_of,
)
from policygrad.spaces.encoding import ObservationEncoder, action_mask, flat
from policygrad.spaces.nested import ACTION_MASK, Dict, Tuple
from policygrad.spaces.space import ActionSpace, Space, record_dtype

__all__ = [
    "ACTION_MASK",
    "ActionSpace",
    "Box",
    "Dict",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
    "ObservationEncoder",
    "Space",
    "Tuple",
    "action_mask",
    "action_space_of",
    "clipped_fraction",
    "flat",
    "observation_space_of",
    "record_dtype",
    "space_from_json",
    "space_of",
]
