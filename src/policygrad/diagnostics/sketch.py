"""A count-sketch: a gradient too long to keep, in a few thousand numbers that keep its products.

    (S x)_b = Σ_{i: h(i) = b} s(i) x_i,   E ⟨S x, S y⟩ = ⟨x, y⟩,

with a bucket h(i) and a sign s(i) for every parameter, drawn by a hash of the seed. The same seed
gives the same buckets and signs in NumPy and in PyTorch, on a processor and on a GPU, and nothing
of the sketch is stored. What it does to intervals stands in `sketch_error`.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from policygrad.core.errors import UserError
from policygrad.diagnostics.sketch_error import SketchError

BLOCK = 2**20  # parameters that are hashed at a time
KEPT = 32  # blocks whose hashes are kept for the next gradient
LEAST_WIDTH = 8


@dataclass(frozen=True)
class CountSketch:
    """A count-sketch of gradients.

    Attributes:
        size: d, the number of parameters.
        width: w, the number of buckets: relative errors of squared lengths are √(2/w).
        seed: of buckets and signs.

    Raises:
        UserError: a number out of range.

    >>> rows = np.random.default_rng(0).normal(size=(2, 100_000))
    >>> sketched = CountSketch(100_000, 4096, seed=1)(rows)
    >>> sketched.shape, bool(abs(np.sum(sketched[0] ** 2) / np.sum(rows[0] ** 2) - 1) < 0.1)
    ((2, 4096), True)
    """

    size: int
    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("size", 1, 2**62),
            ("width", LEAST_WIDTH, 2**31 - 1),
            ("seed", 0, 2**62),
        ):
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if not whole or not least <= value <= most:
                raise UserError(
                    f"{name} of a sketch must be a whole number from {least} to {most}, got "
                    f"{value!r}"
                )

    @property
    def error(self) -> SketchError:
        """What this sketch adds to intervals."""
        return SketchError(float(self.width))

    def __call__(self, gradients: Any) -> Any:
        """Sketched gradients.

        Args:
            gradients: `[n, d]`, one row a gradient; or parts of it, a mapping or a sequence of
                `[n, ...]` with d numbers a row in all, in a fixed order. Arrays of NumPy or
                tensors of PyTorch.

        Returns:
            `[n, w]`: float64 for arrays; for tensors, their type and device.

        Raises:
            UserError: rows of another length than `size`.
        """
        parts = _parts(gradients)
        self._check(parts)
        add, total = _adder(parts[0], self.width)
        start = 0
        for part in parts:
            for first, rows in _blocks(part.reshape(len(part), -1), start):
                add(total, rows, self.hashes(first, rows.shape[1]))
            start += part[0].numel() if hasattr(part, "numel") else part[0].size
        return total

    def hashes(self, first: int, count: int) -> tuple[Int[np.ndarray, " n"], np.ndarray]:
        """Buckets, from 0 to w − 1, and signs, −1 or 1, of parameters from number `first` on."""
        return _hashes(self.width, self.seed, first, count)

    def _check(self, parts: Sequence[Any]) -> None:
        if any(part.ndim < 1 for part in parts) or len({len(part) for part in parts}) != 1:
            shapes = [tuple(part.shape) for part in parts]
            raise UserError(f"gradients need one row each in every part, got shapes {shapes}")
        found = sum(int(np.prod(part.shape[1:])) for part in parts)
        if found != self.size:
            raise UserError(
                f"the sketch is of gradients with {self.size} numbers, got rows of {found}; make "
                f"it with size={found}"
            )


def _parts(gradients: Any) -> list[Any]:
    if isinstance(gradients, Mapping):
        gradients = list(gradients.values())
    parts = list(gradients) if isinstance(gradients, (list, tuple)) else [gradients]
    if not parts:
        raise UserError("there is no gradient to sketch")
    return [x if hasattr(x, "numel") else np.asarray(x) for x in parts]


def _blocks(rows: Any, start: int) -> Iterator[tuple[int, Any]]:
    """Columns of a part, cut where blocks of all parameters begin, so that hashes are reused."""
    at, stop = 0, rows.shape[1]
    while at < stop:
        end = min(stop, at + BLOCK - (start + at) % BLOCK)
        yield start + at, rows[:, at:end]
        at = end


@lru_cache(maxsize=KEPT)
def _hashes(
    width: int, seed: int, first: int, count: int
) -> tuple[Int[np.ndarray, " n"], np.ndarray]:
    """Steele, Lea & Flood's (2014) SplitMix64 of the seed and the parameter's number."""
    with np.errstate(over="ignore"):
        x = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        x = x * np.uint64(0x9E3779B97F4A7C15) + _mixed(np.array([seed], np.uint64))
        x = _mixed(x)
    buckets = ((x >> np.uint64(33)) * np.uint64(width)) >> np.uint64(31)
    signs = np.where(x & np.uint64(1), np.int8(1), np.int8(-1))
    return buckets.astype(np.int64), signs


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _adder(like: Any, width: int) -> tuple[Any, Any]:
    """What adds a block of columns to the sketch, and the empty sketch."""
    if hasattr(like, "numel"):
        return _add_tensor, like.new_zeros((len(like), width))
    return _add_array, np.zeros((len(like), width))


def _add_array(total: Float[np.ndarray, "n w"], rows: Any, hashes: Any) -> None:
    buckets, signs = hashes
    for row, into in zip(rows, total, strict=True):
        into += np.bincount(buckets, signs * row, len(into))


def _add_tensor(total: Any, rows: Any, hashes: Any) -> None:
    torch = importlib.import_module("torch")
    buckets, signs = (torch.as_tensor(x, device=total.device) for x in hashes)
    total.index_add_(1, buckets, rows * signs)
