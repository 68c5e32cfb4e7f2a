"""Spaces of several parts: by name, or in order. A policy reads them, or acts in all at once."""

import operator
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Array, Bool, PyTree

from policygrad.spaces.box import Box
from policygrad.spaces.space import ActionSpace, Space

ACTION_MASK = "action_mask"

Parts = tuple[tuple[Any, Space], ...]  # names, or places in order, and the parts
Share = tuple[Any, tuple[ActionSpace, Any, Any, PyTree]]


class Nested(ActionSpace):
    """What spaces of parts have in common. As an action space, all parts are acted in at once."""

    @property
    @abstractmethod
    def entries(self) -> Parts:
        """The parts by name or place, in the order of JAX's leaves."""

    @abstractmethod
    def like(self, values: Iterable[Any], entries: Parts | None = None) -> PyTree:
        """Values of all parts (or of some) as a value of this space: a dict or a tuple."""

    @property
    def read(self) -> Parts:
        """The parts that are features: all but a mask of actions."""
        return self.entries

    def example(self) -> PyTree:
        return self.like(part.example() for _, part in self.entries)

    def features(self, observation: PyTree) -> PyTree:
        read = self.read
        return self.like((part.features(observation[key]) for key, part in read), read)

    @property
    def measured(self) -> tuple[bool, ...]:
        return tuple(flag for _, part in self.read for flag in part.measured)

    @property
    def pictures(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape for _, part in self.read for shape in part.pictures)

    def parts(self, values: PyTree) -> list[Array]:
        return [x for key, part in self.read for x in part.parts(values[key])]

    @property
    def greatest_entropy(self) -> float:
        return sum(part.greatest_entropy for _, part in self.entries)

    def fits(self, other: Space) -> bool:
        if not isinstance(other, type(self)) or len(self.entries) != len(other.entries):
            return False
        both = zip(self.entries, other.entries, strict=True)
        return all(key == name and ours.fits(theirs) for (key, ours), (name, theirs) in both)

    # ----- as an action space

    @property
    def acted_in(self) -> tuple[tuple[Any, ActionSpace], ...]:
        """The parts, which are action spaces if this is one."""
        return tuple((k, part) for k, part in self.entries if isinstance(part, ActionSpace))

    @property
    def parameters(self) -> int:
        return sum(part.parameters for _, part in self.acted_in)

    @property
    def deviations(self) -> int:
        return sum(part.deviations for _, part in self.acted_in)

    def example_action(self) -> PyTree:
        return self.like(part.example_action() for _, part in self.acted_in)

    def to_environment(self, actions: Any, xp: Any = np) -> PyTree:
        return self.like(part.to_environment(actions[key], xp) for key, part in self.acted_in)

    def part_masks(self, mask: PyTree) -> list[Any]:
        """The mask of every part, None for a part without one.

        Args:
            mask: None; a dict of masks; a tuple of masks, of the parts that are no Boxes; or
                `[..., n]` with the flags of all parts one after the other.
        """
        if mask is None:
            return [None] * len(self.acted_in)
        if isinstance(mask, dict):
            return [mask.get(key) for key, _ in self.acted_in]
        if isinstance(mask, tuple):
            remaining = iter(mask)
            return [
                None if isinstance(part, Box) else next(remaining, None)
                for _, part in self.acted_in
            ]
        ends = np.cumsum([part.parameters for _, part in self.acted_in])
        return [
            mask[..., end - part.parameters : end]
            for (_, part), end in zip(self.acted_in, ends, strict=True)
        ]

    def shares(self, outputs: Any, log_std: Any, mask: PyTree) -> Iterator[Share]:
        """Every part, with what is its own of the network's outputs `[n]`, of `log_std` `[k]` (None
        without a Box), and of the mask."""
        first, deviation = 0, 0
        for (key, part), own in zip(self.acted_in, self.part_masks(mask), strict=True):
            end, last = first + part.parameters, deviation + part.deviations
            some = None if log_std is None else log_std[deviation:last]
            yield key, (part, outputs[first:end], some, own)
            first, deviation = end, last

    def permits_nothing(self, mask: Any) -> Bool[Array, "..."]:
        """`[...]`: whether a part of the action has no value left."""
        both = zip(self.acted_in, self.part_masks(mask), strict=True)
        found = [part.permits_nothing(own) for (_, part), own in both if own is not None]
        return reduce(operator.or_, found)


@dataclass(frozen=True)
class Dict(Nested):
    """Parts by name. The part named `action_mask` is the mask of actions.

    The mask is no feature, unless the Dict holds nothing else.

    Attributes:
        items: names and spaces, sorted by name, as JAX orders the leaves of a dict.
    """

    items: tuple[tuple[str, Space], ...]

    @property
    def entries(self) -> Parts:
        return self.items

    def like(self, values: Iterable[Any], entries: Parts | None = None) -> dict[str, Any]:
        names = (k for k, _ in (self.items if entries is None else entries))
        return dict(zip(names, values, strict=True))

    @property
    def read(self) -> Parts:
        return tuple((k, part) for k, part in self.items if k != ACTION_MASK) or self.items

    def description(self) -> dict[str, Any]:
        return {"kind": "Dict", "spaces": {k: part.description() for k, part in self.items}}

    def to_gymnasium(self) -> gymnasium.spaces.Dict:
        return gymnasium.spaces.Dict({k: part.to_gymnasium() for k, part in self.items})


@dataclass(frozen=True)
class Tuple(Nested):
    """Parts in order."""

    spaces: tuple[Space, ...]

    @property
    def entries(self) -> Parts:
        return tuple(enumerate(self.spaces))

    def like(self, values: Iterable[Any], entries: Parts | None = None) -> tuple[Any, ...]:
        return tuple(values)

    def description(self) -> dict[str, Any]:
        return {"kind": "Tuple", "spaces": [part.description() for part in self.spaces]}

    def to_gymnasium(self) -> gymnasium.spaces.Tuple:
        return gymnasium.spaces.Tuple([part.to_gymnasium() for part in self.spaces])
