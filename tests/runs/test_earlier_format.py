"""Runs of format 1, which an earlier version wrote and whose updates computed other numbers.

`format_1/run` is CartPole, two updates of it. `format_1/nested` and `format_1/image` are policies
of other observations, whose statistics were kept in one vector then.
"""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import RunError
from policygrad.runs import RunDirectory

EARLIER = Path(__file__).parent / "format_1"
# of the observation that the space draws from the seed 1, as the earlier version computed them
ACTED = {
    "nested": [[0.00939088, 0.01111945], [-0.50999945, -0.4900009]],
    "image": [[-0.00763445, -0.00181961], [-0.00727322, 0.00741238, -0.00373919]],
}


@pytest.mark.parametrize("use", [policygrad.resume, policygrad.diagnose])
def test_a_run_of_an_earlier_format_is_not_gone_on_with(use, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(EARLIER / "run", path)
    with pytest.raises(RunError) as caught:
        use(path)
    message = str(caught.value)
    assert f"{path / 'config.json'} has format 1: it was written by an earlier version" in message
    assert "compute other numbers" in message
    assert "train again" in message
    assert f"policygrad evaluate {path}" in message
    assert "\n" not in message


def test_a_policy_of_an_earlier_format_acts_and_is_evaluated():
    run = EARLIER / "run"
    logits = policygrad.load(run).policy(np.zeros(4, np.float32)).logits
    np.testing.assert_allclose(logits, [-0.00879206, 0.00848798], atol=1e-7)
    newest = RunDirectory.open(run).newest_checkpoint()
    np.testing.assert_array_equal(
        policygrad.load(newest).policy(np.zeros(4, np.float32)).logits, logits
    )
    found = policygrad.evaluate(run, episodes=4)
    assert found.env == "CartPole-v1"
    assert found.stochastic.mean > 8


@pytest.mark.parametrize("name", ACTED)
def test_statistics_of_an_earlier_format_are_taken_apart(name):
    agent = policygrad.load(EARLIER / f"{name}.json")
    agent.observation_space.seed(1)
    acted = agent.policy(agent.observation_space.sample())
    for leaf, expected in zip(jax.tree.leaves(acted), ACTED[name], strict=True):
        np.testing.assert_allclose(leaf, expected, atol=1e-6)
