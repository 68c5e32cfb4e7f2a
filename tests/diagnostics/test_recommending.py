"""What is recommended of estimators that were compared at several points."""

import pytest

from policygrad.core.errors import UserError
from policygrad.diagnostics import Measured, recommend
from policygrad.diagnostics.comparison import Compared, Comparison

ANY = Measured(1.0, 0.5, 2.0)


def point(**cosines):
    """A comparison with these intervals; the last has the least error."""
    found = {
        name: Compared(ANY, ANY, ANY, ANY, Measured(1.0 - i, 0.1, 2.0), Measured(sum(x) / 2, *x))
        for i, (name, x) in enumerate(cosines.items())
    }
    return Comparison(64, 16, "ours", found)


def test_it_points_better_at_every_point_beyond_the_intervals():
    first = point(ours=(0.1, 0.3), once=(0.4, 0.6), always=(0.35, 0.5), most=(0.5, 0.9))
    second = point(ours=(0.2, 0.4), once=(0.39, 0.9), always=(0.41, 0.5), most=(0.45, 0.5))
    found = recommend([first, second], "ours")
    assert found.better == {"once": 1, "always": 2, "most": 2}
    assert (found.recommended, found.points) == ("most", 2)


def test_the_least_error_is_not_recommended():
    points = [point(ours=(0.1, 0.3), least=(0.1, 0.9))] * 3
    assert points[0].least_error == "least"
    assert recommend(points, "ours").recommended is None


def test_one_point_is_not_enough():
    with pytest.raises(UserError, match="at least 2 points"):
        recommend([point(ours=(0.1, 0.3), other=(0.5, 0.6))], "ours")
    with pytest.raises(UserError, match="in_use must be one of ours"):
        recommend([point(ours=(0.1, 0.3))] * 2, "theirs")


def test_a_cosine_that_is_not_known_is_not_better():
    unknown = {"ours": (0.1, 0.3), "other": (-1.0, 1.0)}
    assert recommend([point(**unknown), point(**unknown)], "ours").recommended is None
