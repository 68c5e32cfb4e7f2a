"""What is measured of the gradient on fresh episodes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from policygrad import diagnostics
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.examination import Examination
from policygrad.diagnostics.rules.values import WITH, WITHOUT
from policygrad.doctor.fitted_estimator import FittedEstimator

ROWS = 200_000  # gradients are measured on at most so many steps

Say = Callable[[str], None]


def with_gradients(
    found: Examination,
    fitted: FittedEstimator,
    policy: Any,
    record: Trajectories,
    say: Say,
    *,
    wide: bool,
) -> Examination:
    """The examination with noise and comparison, if they can be measured.

    Args:
        found: with its sample.
        fitted: the run's estimator.
        policy: the policy that acted.
        record: fresh episodes, their rewards raw.
        say: called with a few words about what is being done.
        wide: also compare estimators that only pictures show.
    """
    assert found.sample is not None
    if not found.sample.sound:
        return found
    record = fitted.scaled(_shortened(record, found))
    say("measuring the gradient")
    rows = record.rewards.size  # all at once, so that one shape is compiled
    noise = diagnostics.gradient_noise(policy, fitted.plain, fitted.state, record, rows=rows)
    found = replace(found, noise=noise)
    batch = found.batch_episodes
    if not batch >= 1:
        return found
    say("comparing estimators")
    candidates = fitted.candidates(wide=wide)
    # both are unbiased; the one with less noise measures every bias more exactly
    reference = WITH if WITH in candidates else WITHOUT
    comparison = diagnostics.compare_estimators(
        policy, candidates, record, batch_episodes=round(batch), reference=reference, rows=rows
    )
    return replace(found, comparison=comparison)


def with_pictures(
    found: Examination,
    fitted: FittedEstimator,
    policy: Any,
    record: Trajectories,
    predicted: tuple[np.ndarray, np.ndarray] | None,
    say: Say,
) -> Examination:
    """The examination with what only pictures show; arguments as in `with_gradients`.

    Args:
        predicted: `[T, N]` each, of `FittedEstimator.predicted_returns`.
    """
    if predicted is not None:
        valid = np.asarray(record.valid)
        returns, baseline = predicted
        found = replace(found, predicted_returns=(returns[valid], baseline[valid]))
    if found.noise is None:
        return found
    say("decomposing the variance")
    record = fitted.scaled(_shortened(record, found))
    parts = diagnostics.decompose_variance(policy, fitted.plain, fitted.state, record)
    return replace(found, decomposition=parts)


def _shortened(record: Trajectories, found: Examination) -> Trajectories:
    """The first episodes only, if all have too many steps to measure gradients on."""
    assert found.sample is not None
    if found.sample.steps <= ROWS:
        return record
    keep = max(8, int(ROWS / found.sample.lengths.mean))
    return jax.tree.map(lambda x: x[:, :keep], record)
