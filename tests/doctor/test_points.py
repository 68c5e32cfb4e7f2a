"""Estimators compared at several points of a run, which is trained again to get there."""

import pytest

import policygrad
from policygrad.diagnostics import to_json
from policygrad.diagnostics.rules.values import IN_USE
from policygrad.doctor.diagnosis import examine
from policygrad.doctor.points import compare_at, lines_of
from tests.worlds import TINY


@pytest.mark.slow
def test_a_point_is_the_run_as_it_was_there(trained_compiled, tmp_path):
    look = {"episodes": 16, "seed": 1}
    last = examine(trained_compiled.path, **look)
    found = compare_at(trained_compiled.path, points=2, last=last, **look)
    assert (found.env_steps, found.steps) == ((32, 64), 32)
    assert last.comparison is not None
    assert found.found.cosines[IN_USE][1] == last.comparison.estimators[IN_USE].cosine
    policygrad.train(
        "gymnax/CartPole-v1", out=tmp_path / "a", **{**TINY, "total_steps": 32},
    )  # fmt: skip
    then = examine(tmp_path / "a", **look).comparison
    assert then is not None
    for name, cosines in found.found.cosines.items():
        assert to_json(cosines[0]) == to_json(then.estimators[name].cosine)
    assert found.found.recommended is None or found.found.better[found.found.recommended] == 2
    text = "\n".join(lines_of(found))
    assert "after 32, 64 steps" in text
    assert "It took 32 environment steps to train the run again." in text
