"""Whether the mean return of the library's own runs rose, which is a mean over 100 episodes."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from policygrad.diagnostics.facts import return_rises
from policygrad.diagnostics.standing import WINDOW
from tests.diagnostics.test_rules import examination

RUNS = 200
RUN = examination()


def share_that_rises(new, gained, *, late):
    """Of runs of 60 updates with `new` episodes each, whose returns have a spread of 1."""
    rng, ends, rose = np.random.default_rng(new), new * np.arange(1, 61), 0
    window = np.minimum(ends, WINDOW)
    for _ in range(RUNS):
        episodes = rng.standard_normal(ends[-1]) + np.linspace(0, gained, ends[-1])
        total = np.append(0.0, np.cumsum(episodes))
        means = (total[ends] - total[ends - window]) / window
        run = replace(RUN, metrics={"return_mean": means, "episodes": ends.astype(float)})
        rose += return_rises(run, late=late)
    return rose / RUNS


@pytest.mark.parametrize(("new", "late"), [*product((1, 5, 20, 100), (False, True))])
def test_a_return_that_only_wanders_does_not_rise(new, late):
    """A test at two standard deviations is wrong in one of 44; 14 of 200 is beyond 1 in 1,000.

    Taken for rows of different episodes, up to 27 % of these seemed to rise.
    """
    assert share_that_rises(new, 0.0, late=late) < 0.07


@pytest.mark.parametrize(("new", "late"), [(5, False), (20, False), (20, True), (100, True)])
def test_a_return_that_grows_by_three_spreads_rises(new, late):
    assert share_that_rises(new, 3.0, late=late) >= 0.95
