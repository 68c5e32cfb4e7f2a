"""Spaces of several parts: by name, or in order. A policy reads them and does not act in them."""

from dataclasses import dataclass
from typing import Any

import gymnasium
from jaxtyping import Array, PyTree

from policygrad.spaces.space import Space

ACTION_MASK = "action_mask"


@dataclass(frozen=True)
class Dict(Space):
    """Parts by name. The part named `action_mask` is the mask of actions, not a feature.

    Attributes:
        items: names and spaces, sorted by name, as JAX orders the leaves of a dict.
    """

    items: tuple[tuple[str, Space], ...]

    def description(self) -> dict[str, Any]:
        return {"kind": "Dict", "spaces": {k: part.description() for k, part in self.items}}

    def to_gymnasium(self) -> gymnasium.spaces.Dict:
        return gymnasium.spaces.Dict({k: part.to_gymnasium() for k, part in self.items})

    def example(self) -> PyTree:
        return {k: part.example() for k, part in self.items}

    def features(self, observation: PyTree) -> PyTree:
        return {k: part.features(observation[k]) for k, part in self._read}

    @property
    def _read(self) -> tuple[tuple[str, Space], ...]:
        return tuple((k, part) for k, part in self.items if k != ACTION_MASK)

    @property
    def measured(self) -> tuple[bool, ...]:
        return tuple(flag for _, part in self._read for flag in part.measured)

    def parts(self, values: PyTree) -> list[Array]:
        return [x for k, part in self._read for x in part.parts(values[k])]

    @property
    def greatest_entropy(self) -> float:
        return sum(part.greatest_entropy for _, part in self.items)

    def fits(self, other: Space) -> bool:
        if not isinstance(other, Dict) or len(self.items) != len(other.items):
            return False
        both = zip(self.items, other.items, strict=True)
        return all(k == name and ours.fits(theirs) for (k, ours), (name, theirs) in both)


@dataclass(frozen=True)
class Tuple(Space):
    """Parts in order."""

    spaces: tuple[Space, ...]

    def description(self) -> dict[str, Any]:
        return {"kind": "Tuple", "spaces": [part.description() for part in self.spaces]}

    def to_gymnasium(self) -> gymnasium.spaces.Tuple:
        return gymnasium.spaces.Tuple([part.to_gymnasium() for part in self.spaces])

    def example(self) -> PyTree:
        return tuple(part.example() for part in self.spaces)

    def features(self, observation: PyTree) -> PyTree:
        both = zip(self.spaces, observation, strict=True)
        return tuple(part.features(value) for part, value in both)

    @property
    def measured(self) -> tuple[bool, ...]:
        return tuple(flag for part in self.spaces for flag in part.measured)

    def parts(self, values: PyTree) -> list[Array]:
        both = zip(self.spaces, values, strict=True)
        return [x for part, value in both for x in part.parts(value)]

    @property
    def greatest_entropy(self) -> float:
        return sum(part.greatest_entropy for part in self.spaces)

    def fits(self, other: Space) -> bool:
        if not isinstance(other, Tuple) or len(self.spaces) != len(other.spaces):
            return False
        return all(a.fits(b) for a, b in zip(self.spaces, other.spaces, strict=True))
