"""A resume near the end of a linear schedule says what is left."""

import warnings

import policygrad
from policygrad.training.schedule import little_left
from tests.worlds import DUCK, TINY


def test_little_is_left_of_a_linear_schedule_alone():
    assert little_left("linear", 99, 1000) is None
    assert little_left("constant", 999, 1000) is None
    assert little_left(None, 999, 1000) is None
    told = little_left("linear", 999, 1000)
    assert told is not None
    assert "0.10% of their first size" in told


def test_a_resume_at_the_end_of_a_linear_schedule_says_so(tmp_path):
    settings = {**TINY, "algorithm": "natural", "total_steps": 320}
    policygrad.train(DUCK, out=tmp_path / "a", **settings)
    hardly = "hardly anything is left to train; raise --total-steps"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        policygrad.resume(tmp_path / "a", env=DUCK, total_steps=322)
        assert any(hardly in str(w.message) for w in told)
        told.clear()
        policygrad.resume(tmp_path / "a", env=DUCK, total_steps=704)
        (only,) = told
        assert "steps shrink to zero over 704 steps now, not over 322" in str(only.message)
