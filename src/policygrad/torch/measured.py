"""Everything that is measured of a PyTorch policy in one pass over its episodes, and its report."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from policygrad.core.errors import UserError
from policygrad.core.plain import to_json
from policygrad.core.shell import user_path
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.comparison import (
    Candidates,
    Comparison,
    check_candidates,
    rows_of_pairs,
)
from policygrad.diagnostics.decomposition import DecomposedVariance, decomposition_of_sums
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.given import RowSums
from policygrad.diagnostics.intervals import GROUPS
from policygrad.diagnostics.noise import GradientNoise, rows_of_noise
from policygrad.diagnostics.sketch import CountSketch
from policygrad.report.writing import write_report
from policygrad.torch.gradients import TorchPolicy
from policygrad.torch.measuring import Stream, step_rows


@dataclass(frozen=True)
class MeasuredPolicy:
    """What was measured of a policy.

    Attributes:
        name: of the environment.
        noise: of one episode's gradient, by the estimator in use.
        comparison: that estimator and others on the same episodes, for the batch in use.
        decomposition: the variance by steps and parameters; None if it was not asked for.
        returns: `[N]`, sums of each episode's rewards, as the estimators saw them.
        lengths: `[N]`, steps.
        env_steps: how long the policy had been trained, steps.
    """

    name: str
    noise: GradientNoise
    comparison: Comparison
    decomposition: DecomposedVariance | None
    returns: Float[np.ndarray, " N"] = field(metadata={"json": False})
    lengths: Float[np.ndarray, " N"] = field(metadata={"json": False})
    env_steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return to_json(self) | {"comparison": self.comparison.to_json()}

    def write_report(self, folder: str | Path) -> list[Path]:
        """Write `report.html`, its pictures and `report.json`; the files, the page first.

        Raises:
            UserError: the folder cannot be written.
        """
        examination = Examination(
            env=self.name,
            settings={"batch_episodes": self.comparison.batch_episodes},
            passed_as_objects=(),
            metrics={},
            env_steps=self.env_steps,
            noise=self.noise,
            comparison=self.comparison,
            decomposition=self.decomposition,
        )
        return write_report(user_path(folder), self.name, None, examination)


def measured_by(
    policy: TorchPolicy,
    candidates: Candidates,
    records: Iterable[Trajectories],
    *,
    in_use: str,
    reference: str,
    batch_steps: int,
    name: str = "policy",
    env_steps: int = 0,
    sketch: CountSketch | None = None,
    decompose: bool = False,
    groups: int = GROUPS,
) -> MeasuredPolicy:
    """Noise and comparison, and the decomposition if asked for, in one pass.

    Args:
        policy: at the parameters that acted.
        candidates: name -> estimator and state.
        records: whole episodes, some at a time.
        in_use: the candidate whose noise is measured.
        reference: the candidate that biases are measured against.
        batch_steps: steps of a batch in training; the comparison is for as many episodes of mean
            length.
        name: of the environment.
        env_steps: how long the policy had been trained.
        sketch: as in `gradient_noise`.
        decompose: whether to split the variance by steps.
        groups: K of the jackknife.
    """
    check_candidates(candidates, reference)
    if decompose and sketch is not None:
        raise UserError(
            "the decomposition by steps is of full gradients; leave out decompose or the sketch"
        )
    stream, names = Stream(policy, candidates, sketch), tuple(candidates)
    noise, pairs, steps = RowSums(groups), RowSums(groups), RowSums(groups)
    own, base = names.index(in_use), names.index(reference)
    returns, lengths = [], []
    for record, first, psi in stream.weighed(records):
        returns.append(np.sum(record.rewards, axis=0, where=np.asarray(record.valid)))
        lengths.append(np.sum(record.valid, axis=0))
        by_step = step_rows(stream, record, psi[own]) if decompose else {}
        for x in stream.of_record(record, first, psi):
            flat, squares = x.flat[:, own], x.squares[:, own]
            noise.add(rows_of_noise(flat, squares, np), x.numbers)
            pairs.add(rows_of_pairs(x.flat, base, np), x.numbers)
            if decompose:
                rows = {k: y[x.numbers - first] for k, y in by_step.items()}
                steps.add({"gradient": flat, "square": squares} | rows, x.numbers)
    measured = stream.noise(noise)
    length = np.concatenate(lengths)
    batch = max(round(batch_steps / float(np.mean(length))), 1)
    return MeasuredPolicy(
        name=name,
        noise=measured,
        comparison=stream.comparison(pairs, reference, batch),
        decomposition=decomposition_of_sums(steps.total(), stream.parts) if decompose else None,
        returns=np.concatenate(returns),
        lengths=length,
        env_steps=env_steps,
    )
