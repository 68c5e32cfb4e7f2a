"""Measurements of per-episode gradients that are given as arrays, whoever computed them.

They may be given chunk by chunk, so that memory does not grow with the number of episodes; and they
may be sketched (`sketch.CountSketch`), so that it does not grow with the number of parameters.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from policygrad.core.errors import UserError
from policygrad.diagnostics.comparison import (
    Comparison,
    check_batch,
    check_reference,
    comparison_of_sums,
    rows_of_pairs,
)
from policygrad.diagnostics.intervals import GROUPS, GroupSums, padded_sum
from policygrad.diagnostics.lengths import CLASSES
from policygrad.diagnostics.noise import GradientNoise, noise_of_sums, rows_of_noise
from policygrad.diagnostics.sketch import CountSketch
from policygrad.diagnostics.sketch_error import EXACT
from policygrad.diagnostics.streaming import Classed, Part, check_groups, grouped


def noise_of_gradients(
    gradients: Any, *, groups: int = GROUPS, sketch: CountSketch | None = None
) -> GradientNoise:
    """`gradient_noise` for per-episode gradients from another source.

    Args:
        gradients: `[N, d]`, or name -> `[N, ...]` by parameter group; one row an episode. Or an
            iterator of such chunks, of any number of episodes each; memory holds one.
        groups: K of the jackknife.
        sketch: the sketch that the rows are of, `[N, width]`. Its error is part of every interval.
            `mean` is then the sketch of the mean gradient.

    Returns:
        `GradientNoise`.

    Raises:
        UserError: fewer than two rows, groups of different lengths, a number that is not finite, or
            rows that are not of the sketch.

    Bias: as in `gradient_noise`; a sketch adds none to `variance` and `squared_norm`.

    >>> rows = np.random.default_rng(0).normal([3.0, 4.0], 1.0, size=(1000, 2))
    >>> found = noise_of_gradients(rows).total
    >>> found.norm.covers(5.0) and found.variance.covers(2.0)
    True
    """
    sums = RowSums(groups)
    parts: tuple[Part, ...] | None = None
    for chunk in _chunks(gradients):
        named = chunk if isinstance(chunk, Mapping) else {"parameters": chunk}
        flat, found = as_rows(named, sums.episodes)
        if parts not in (None, found):
            raise UserError(f"chunks of gradients differ in their parameters: {parts} and {found}")
        parts = found
        _check_sketched(sketch, parts)
        squares = [(flat[:, p.start : p.stop] ** 2).sum(axis=1) for p in parts]
        sums.add(rows_of_noise(flat, np.stack(squares, axis=1), np))
    total = sums.total()
    assert parts is not None
    if sketch is None:
        return noise_of_sums(total, parts)
    return with_size(noise_of_sums(total, parts, sketch.error), sketch.size)


def with_size(noise: GradientNoise, size: int) -> GradientNoise:
    """The noise of sketched gradients, with the number of parameters before the sketch."""
    total = replace(noise.total, parameters=size)
    return replace(noise, total=total, parts=dict.fromkeys(noise.parts, total))


def compare_gradients(
    gradients: Any,
    *,
    reference: str,
    batch_episodes: int,
    groups: int = GROUPS,
    sketch: CountSketch | None = None,
) -> Comparison:
    """`compare_estimators` for per-episode gradients `[N, d]` from another source, by estimator.

    Args:
        gradients: name of the estimator -> `[N, d]`, the same episodes for all; or an iterator of
            such chunks.
        reference, batch_episodes, groups: as in `compare_estimators`.
        sketch: the one sketch that all rows are of. Its error is part of every interval.

    >>> rng = np.random.default_rng(0)
    >>> exact, noise = rng.normal(1.0, 1.0, (400, 2)), rng.normal(0.0, 3.0, (400, 2))
    >>> rows = {"exact": exact, "noisy": exact + noise, "shrunk": 0.5 * exact}
    >>> compare_gradients(rows, reference="exact", batch_episodes=4).least_error
    'exact'
    """
    check_batch(batch_episodes)
    sums, names = RowSums(groups), None
    for chunk in _chunks(gradients):
        check_reference(chunk, reference)
        if names not in (None, tuple(chunk)):
            raise UserError(f"chunks of gradients differ: {names} and {tuple(chunk)}")
        names = tuple(chunk)
        flat, parts = as_rows(chunk, sums.episodes)
        sizes = {p.name: p.stop - p.start for p in parts}
        if len(set(sizes.values())) != 1:
            raise UserError(f"gradients of one policy have as many parameters each, got {sizes}")
        _check_sketched(sketch, parts[:1])
        by_name = flat.reshape(len(flat), len(parts), -1)
        sums.add(rows_of_pairs(by_name, names.index(reference), np))
    total = sums.total()
    assert names is not None
    error = EXACT if sketch is None else sketch.error
    return comparison_of_sums(total, names, reference, batch_episodes, error)


class RowSums:
    """Sums over groups, to which the rows of some episodes are added at a time.

    Args:
        groups: K; episode i is of group i mod K.
    """

    def __init__(self, groups: int = GROUPS) -> None:
        check_groups(groups)
        self._counts = np.zeros(groups, int)
        self._sums: dict[str, np.ndarray] = {}
        self._classed: set[str] = set()
        self.episodes = 0

    def add(self, rows: Mapping[str, Any], numbers: Int[np.ndarray, " m"] | None = None) -> None:
        """Add one row an episode, or `Classed` rows.

        Args:
            rows: name -> `[m, ...]` in NumPy.
            numbers: `[m]`, of the episodes; None for those that follow the episodes so far.
        """
        count = len(next(x.rows if isinstance(x, Classed) else x for x in rows.values()))
        if numbers is None:
            numbers = self.episodes + np.arange(count)
        groups = len(self._counts)
        of = numbers % groups
        self._counts += np.bincount(of, minlength=groups)
        for name, x in rows.items():
            if isinstance(x, Classed):
                self._classed.add(name)
                part = _summed(x.of, CLASSES, x.rows)
            else:
                part = _summed(of, groups, x)
            self._add(name, part)
        self.episodes += count

    def _add(self, name: str, part: np.ndarray) -> None:
        """In place where the shapes agree: a pass over K gradients takes as long as their sum."""
        total = self._sums.get(name)
        if total is None:
            self._sums[name] = part.astype(np.float64)
        elif total.shape == part.shape:
            total += part
        else:
            self._sums[name] = padded_sum(total, part)

    def total(self) -> GroupSums:
        """The sums so far; UserError for fewer than two episodes."""
        if self.episodes < 2:
            raise UserError(
                "gradients need one row an episode, at least 2 and equally many of each, got "
                f"{self.episodes}"
            )

        def one(name: str, x: np.ndarray) -> Any:
            return Classed(None, x.copy()) if name in self._classed else x.copy()

        return grouped(self._counts, {name: one(name, x) for name, x in self._sums.items()})


def _summed(index: np.ndarray, count: int, rows: np.ndarray) -> np.ndarray:
    """`[count, ...]`, the sums of the rows of every index."""
    from scipy.sparse import csr_array  # here: training needs none of it

    flat = rows.reshape(len(rows), -1)
    ones = np.ones(len(rows), flat.dtype)
    member = csr_array((ones, (index, np.arange(len(rows)))), shape=(count, len(rows)))
    return (member @ flat).reshape(count, *rows.shape[1:])


def _chunks(gradients: Any) -> Iterable[Any]:
    return gradients if isinstance(gradients, Iterator) else (gradients,)


def _check_sketched(sketch: CountSketch | None, parts: tuple[Part, ...]) -> None:
    if sketch is None:
        return
    width = parts[-1].stop - parts[0].start
    if len(parts) != 1 or width != sketch.width:
        raise UserError(
            f"sketched gradients are one row of width {sketch.width} an episode, got rows of "
            f"{width} in {len(parts)} parts; sketch all parameters together, sketch(gradients)"
        )


def as_rows(
    named: Mapping[str, Any], first: int = 0
) -> tuple[Float[np.ndarray, "N d"], tuple[Part, ...]]:
    """Per-episode gradients as one matrix, and the columns of each parameter group.

    Args:
        named: parameter group -> `[N, ...]`.
        first: number of the first episode, for messages.

    Raises:
        UserError: groups of different lengths, or numbers that are not real, finite and of a size
            that can be squared.
    """
    arrays = {k: _numbers(k, v) for k, v in named.items()}
    lengths = {k: len(v) if v.ndim else 0 for k, v in arrays.items()}
    if not lengths or len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
        raise UserError(
            f"gradients need one row an episode, at least 2 and equally many of each, got {lengths}"
        )
    for name, array in arrays.items():
        wrong = ~(np.abs(array) < 1e140)  # NaN, infinite, or so large that its square may be
        if wrong.any():
            bad = np.argwhere(wrong)[0]
            raise UserError(f"gradient {name!r} of episode {first + bad[0]} is {array[tuple(bad)]}")
    rows = {k: v.reshape(len(v), -1) for k, v in arrays.items()}
    stops = np.cumsum([v.shape[1] for v in rows.values()]).tolist()
    parts = tuple(
        Part(k, stop - v.shape[1], stop) for (k, v), stop in zip(rows.items(), stops, strict=True)
    )
    return np.concatenate(list(rows.values()), axis=1), parts


def _numbers(name: str, rows: Any) -> np.ndarray:
    try:
        found = np.asarray(rows)
        if np.iscomplexobj(found):
            raise TypeError("complex numbers")
        return found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"gradients {name!r} need to be an array of real numbers, one row an episode: {error}"
        ) from error
