"""Actions across the environment's boundary, of Gymnasium's spaces. Prefer the records."""

from typing import Any

import numpy as np
from gymnasium import spaces

from policygrad.spaces.conversion import action_space_of


def to_environment(space: spaces.Space, actions: Any, xp: Any = np) -> Any:
    """Sampled actions -> what the environment's `step` takes."""
    return action_space_of(space).to_environment(actions, xp)
