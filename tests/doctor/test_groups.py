"""The doctor of a run whose episodes start in groups."""

import json

import numpy as np
import pytest

import policygrad
from policygrad.doctor.units import units_of, whole_groups
from tests.rollout.test_groups import IN_GROUPS, Start


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("episodes", [8, 64, 1500])
def test_units_hold_whole_groups(size, episodes):
    asked = whole_groups(episodes, size)
    units = units_of(asked, 512, size)
    assert sum(unit.episodes for unit in units) == asked
    assert all(unit.episodes % size == 0 and unit.episodes <= 512 for unit in units)
    assert asked >= max(episodes, 8 * size)


def test_a_unit_of_pictures_holds_two_groups_at_least():
    assert [unit.episodes for unit in units_of(32, 3, 4)] == [8, 8, 8, 8]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "together"),
    [
        ({"estimator": "rloo", "group_size": 4, "batch_episodes": 8, "baseline": None}, 2),
        ({"estimator": "grpo", "group_size": 3, "baseline": None}, 1),
        ({"estimator": "total-return"}, 1),
        ({"estimator": "remax", "group_size": 2, "baseline": None}, 1),
    ],
)
def test_a_run_in_groups_is_measured_in_groups(tmp_path, settings, together):
    run = policygrad.train(Start, out=tmp_path / "run", **(IN_GROUPS | settings))
    found = policygrad.diagnose(run.path, Start, episodes=50).examination
    size = run.config.group_size
    assert found.sample.episodes == whole_groups(50, size)
    assert found.noise.episodes == found.sample.episodes
    assert (found.groups.group_size, found.groups.weighed_together) == (size, together)
    assert found.groups.starts == found.sample.episodes // size
    assert found.groups.within.low <= found.groups.within.value <= found.groups.within.high
    told = json.loads(json.dumps(found.to_json()))["groups"]
    assert told["between"]["value"] == pytest.approx(found.groups.between.value)
    other = any("returns less the mean of the other groups" in note for note in found.notes)
    assert other == (settings["estimator"] == "grpo")
    assert np.isfinite(found.comparison.estimators["in use"].variance.value)
