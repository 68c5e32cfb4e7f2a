"""The diagnostics of a PyTorch policy: the same sums, of gradients that PyTorch computed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.comparison import (
    Candidates,
    Comparison,
    check_batch,
    check_candidates,
    comparison_of_sums,
    rows_of_pairs,
)
from policygrad.diagnostics.decomposition import DecomposedVariance, decomposition_of_sums
from policygrad.diagnostics.given import RowSums, with_size
from policygrad.diagnostics.intervals import GROUPS
from policygrad.diagnostics.noise import GradientNoise, noise_of_sums, rows_of_noise
from policygrad.diagnostics.sketch import CountSketch
from policygrad.diagnostics.sketch_error import EXACT
from policygrad.diagnostics.streaming import Episodes, Part, weights_of
from policygrad.gradients.weights import Estimator, EstimatorState
from policygrad.torch.critic import with_values
from policygrad.torch.episodes import check_bootstraps
from policygrad.torch.gradients import (
    NUMBERS,
    Differentiated,
    TorchPolicy,
    check_known,
    chunks_of_gradients,
    differentiated,
    step_scores,
)


class Gradients(NamedTuple):
    """Gradients of some episodes, by E estimators.

    Attributes:
        numbers: `[m]`, of the episodes, counted from the first.
        flat: `[m, E, d]`; or `[m, E, width]`, sketched.
        squares: `[m, E, P]`, ‖·‖² by part.
    """

    numbers: np.ndarray
    flat: Float[np.ndarray, "m E d"]
    squares: Float[np.ndarray, "m E P"]


def gradient_noise(
    policy: TorchPolicy,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    groups: int = GROUPS,
    sketch: CountSketch | None = None,
) -> GradientNoise:
    """`diagnostics.gradient_noise` of a PyTorch policy.

    Args:
        policy: at the parameters that acted.
        estimator, state, episodes, groups: as there. The critic or baseline may be
            `ModuleValues()`, which reads the policy's own.
        sketch: of the gradients, which are then not kept in full for more than a few episodes; its
            error is part of every interval. There is no result by parameter group then.

    Returns:
        `GradientNoise`, by the module's parameters.

    Raises:
        UserError: segments, episodes in groups, fewer than two episodes, or a sketch of another
            size.

    Bias: as there.
    """
    stream = Stream(policy, {"": (estimator, state)}, sketch)
    sums = RowSums(groups)
    for x in stream.gradients(episodes):
        sums.add(rows_of_noise(x.flat[:, 0], x.squares[:, 0], np), x.numbers)
    return stream.noise(sums)


def compare_estimators(
    policy: TorchPolicy,
    candidates: Candidates,
    episodes: Episodes,
    *,
    batch_episodes: int,
    reference: str,
    groups: int = GROUPS,
    sketch: CountSketch | None = None,
) -> Comparison:
    """`diagnostics.compare_estimators` of a PyTorch policy; `sketch` as in `gradient_noise`.

    One forward pass serves all estimators. The reference has to be named.
    """
    check_batch(batch_episodes)
    check_candidates(candidates, reference)
    stream = Stream(policy, candidates, sketch)
    sums, names = RowSums(groups), tuple(candidates)
    for x in stream.gradients(episodes):
        sums.add(rows_of_pairs(x.flat, names.index(reference), np), x.numbers)
    return stream.comparison(sums, reference, batch_episodes)


def decompose_variance(
    policy: TorchPolicy,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    *,
    groups: int = GROUPS,
) -> DecomposedVariance:
    """`diagnostics.decompose_variance` of a PyTorch policy.

    The score of every step is computed by itself, so it takes a few times as long as the noise.

    Raises:
        UserError: a policy with memory, whose steps have no scores of their own.
    """
    stream = Stream(policy, {"": (estimator, state)})
    sums = RowSums(groups)
    for record, first, psi in stream.weighed(episodes):
        steps = step_rows(stream, record, psi[0])
        for x in stream.of_record(record, first, psi):
            at = x.numbers - first
            rows = {"gradient": x.flat[:, 0], "square": x.squares[:, 0]}
            sums.add(rows | {name: y[at] for name, y in steps.items()}, x.numbers)
    return decomposition_of_sums(sums.total(), stream.parts)


def sketched_gradients(
    policy: TorchPolicy,
    estimator: Estimator,
    state: EstimatorState,
    episodes: Episodes,
    sketch: CountSketch,
) -> Float[np.ndarray, "N width"]:
    """Sketched gradients of all episodes, in their order, one row each.

    For `diagnostics.noise_of_gradients(rows, sketch=sketch)`, and for analyses of your own.
    """
    stream = Stream(policy, {"": (estimator, state)}, sketch)
    found = list(stream.gradients(episodes))
    rows = np.concatenate([x.flat[:, 0] for x in found])
    return rows[np.argsort(np.concatenate([x.numbers for x in found]))]


class Stream:
    """From episodes to gradients by several estimators, a few episodes at a time.

    Args:
        policy: at the parameters that acted.
        candidates: name -> estimator and state.
        sketch: of the gradients, or None.
    """

    def __init__(
        self,
        policy: TorchPolicy,
        candidates: Mapping[str, tuple[Estimator, EstimatorState]],
        sketch: CountSketch | None = None,
    ) -> None:
        self.policy, self.candidates, self.sketch = policy, dict(candidates), sketch
        self._known: Differentiated | None = None
        self._longest = 0

    def known(self, record: Trajectories) -> Differentiated:
        """What is differentiated, found with the first record.

        Raises:
            UserError: more parameters act in longer episodes of another record.
        """
        longest = int(np.sum(record.valid, axis=0).max())
        if longest > self._longest:
            found = differentiated(self.policy, record)
            self._known, self._longest = self._known or found, longest
            check_known(self._known, found.parameters)
        assert self._known is not None
        return self._known

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the gradients' columns."""
        if self.sketch is not None:
            return (Part("parameters", 0, self.sketch.width),)
        assert self._known is not None
        return self._known.parts

    def weighed(self, episodes: Episodes) -> Iterator[tuple[Trajectories, int, np.ndarray]]:
        """Records, the number of their first episode, and weights `[E, T, N]`.

        Raises:
            UserError: segments, or episodes in groups.
        """
        records: Iterable[Trajectories] = (
            [episodes] if isinstance(episodes, Trajectories) else episodes
        )
        seen = 0
        for record in records:
            if not record.whole_episodes:
                raise UserError(
                    "the diagnostics need whole episodes, got segments of "
                    f"{record.rewards.shape[0]} steps"
                )
            if record.group_size > 1:
                raise UserError(
                    "the episodes of a group depend on each other, and the diagnostics of a "
                    "PyTorch policy take each by itself: got group_size "
                    f"{record.group_size}; give the group means of gradients of your own to "
                    "policygrad.diagnostics.noise_of_gradients"
                )
            yield record, seen, self.weights(record, seen)
            seen += record.rewards.shape[1]

    def weights(self, record: Trajectories, first: int = 0) -> Float[np.ndarray, "E T N"]:
        """Ψ of every estimator; the record's first episode has the number `first`.

        Raises:
            UserError: an estimator bootstraps from an observation that was not given.
        """
        for name, (estimator, _) in self.candidates.items():
            check_bootstraps(name, estimator, record, first)
        states = ((e, with_values(self.policy, e, s, record)) for e, s in self.candidates.values())
        return np.stack([np.asarray(weights_of(e, s, record).psi) for e, s in states])

    def gradients(self, episodes: Episodes) -> Iterator[Gradients]:
        """Gradients of all episodes."""
        for record, first, psi in self.weighed(episodes):
            yield from self.of_record(record, first, psi)

    def of_record(self, record: Trajectories, first: int, psi: np.ndarray) -> Iterator[Gradients]:
        """Gradients of one record's episodes; the first of them has the number `first`."""
        known, sketch = self.known(record), self.sketch
        for columns, named in chunks_of_gradients(self.policy, known, record, psi):
            shape = len(columns), len(self.candidates)
            by_part = [x.reshape(*shape, -1) for x in named.values()]
            if sketch is None:
                flat = _joined(by_part)
                squares = np.stack([_squares(x) for x in by_part], axis=-1)
            else:
                rows = sketch([x.reshape(shape[0] * shape[1], -1) for x in by_part])
                flat = rows.reshape(*shape, -1).cpu().numpy()
                squares = np.sum(flat.astype(np.float64) ** 2, axis=-1, keepdims=True)
            yield Gradients(first + columns, flat, squares)

    def noise(self, sums: RowSums) -> GradientNoise:
        """The noise, from sums of `rows_of_noise`."""
        total = sums.total()
        if self.sketch is None:
            return noise_of_sums(total, self.parts)
        return with_size(noise_of_sums(total, self.parts, self.sketch.error), self.sketch.size)

    def comparison(self, sums: RowSums, reference: str, batch_episodes: int) -> Comparison:
        """The comparison, from sums of `rows_of_pairs`."""
        error = EXACT if self.sketch is None else self.sketch.error
        names = tuple(self.candidates)
        return comparison_of_sums(sums.total(), names, reference, batch_episodes, error)


def _joined(parts: list[Any]) -> Float[np.ndarray, "m E d"]:
    """Tensors `[m, E, ...]` side by side in one array."""
    return np.concatenate([x.cpu().numpy() for x in parts], axis=2)


def _squares(part: Any) -> np.ndarray:
    """`[m, E]`, ‖·‖² of a tensor `[m, E, n]`."""
    return (part**2).sum(dim=2).cpu().numpy().astype(np.float64)


def step_rows(
    stream: Stream, record: Trajectories, psi: Float[np.ndarray, "T N"]
) -> dict[str, np.ndarray]:
    """‖g_t‖², ‖z_t‖² by part, Ψ_t² and whether there is a step: `[N, T, ...]`.

    Raises:
        UserError: a policy with memory, whose steps have no scores of their own.
    """
    if stream.policy.memory:
        raise UserError(
            "the decomposition by steps needs a policy whose log-probability of a step depends on "
            "that step alone; this one has memory"
        )
    known = stream.known(record)
    z = np.zeros((*psi.shape, len(known.parts)), np.float64)
    size = known.parts[-1].stop
    for at, named in step_scores(stream.policy, known, record, max(NUMBERS // size, 1)):
        squares = [(x.reshape(len(x), -1) ** 2).sum(dim=1).cpu().numpy() for x in named.values()]
        z[at] = np.stack(squares, axis=-1)
    weight = psi.astype(np.float64) ** 2
    rows = {"diagonal": weight[..., None] * z, "score": z, "weight": weight}
    rows["alive"] = 1.0 * np.asarray(record.valid)
    return jax.tree.map(lambda x: np.moveaxis(x, 1, 0), rows)
