"""Spaces as records of our own: saved, read by networks, and crossed by actions.

`space_of` makes a record from a Gymnasium space, once. After that Gymnasium's is not read again.
"""

from policygrad.spaces.box import Box
from policygrad.spaces.choices import Discrete, MultiBinary, MultiDiscrete
from policygrad.spaces.clipping import boxes, clipped_fraction
from policygrad.spaces.conversion import (
    action_space_of,
    observation_space_of,
    space_from_json,
    space_of,
)
from policygrad.spaces.encoding import ObservationEncoder, flat
from policygrad.spaces.masks import (
    OTHER_NAMES,
    action_mask,
    check_mask,
    permits_nothing,
    warn_of_other_names,
)
from policygrad.spaces.nested import ACTION_MASK, Dict, Nested, Tuple
from policygrad.spaces.resolution import warn_of_unresolved
from policygrad.spaces.space import ActionSpace, Space, record_dtype

__all__ = [
    "ACTION_MASK",
    "OTHER_NAMES",
    "ActionSpace",
    "Box",
    "Dict",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
    "Nested",
    "ObservationEncoder",
    "Space",
    "Tuple",
    "action_mask",
    "action_space_of",
    "boxes",
    "check_mask",
    "clipped_fraction",
    "flat",
    "observation_space_of",
    "permits_nothing",
    "record_dtype",
    "space_from_json",
    "space_of",
    "warn_of_other_names",
    "warn_of_unresolved",
]
