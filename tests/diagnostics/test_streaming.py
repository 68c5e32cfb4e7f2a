"""Sums over groups do not depend on how the episodes are taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from policygrad import baselines, estimators
from policygrad.diagnostics import baseline_quality, streaming
from policygrad.diagnostics.chunking import chunks
from policygrad.diagnostics.comparison import _ReducePairs
from policygrad.diagnostics.decomposition import reduce_steps
from policygrad.diagnostics.noise import reduce_gradients
from policygrad.tabular import gallery
from tests.diagnostics.sampling import sampler

REDUCERS = {
    "gradients": (lambda weights, details: weights, reduce_gradients),
    "steps": (lambda weights, details: weights, reduce_steps),
    "pairs": (lambda weights, details: jnp.stack([weights, 2 * weights]), _ReducePairs(0)),
    "baseline": (
        lambda weights, details: details,
        baseline_quality._ReduceBaseline(lambda s, t: jax.nn.one_hot(s, 9)),
    ),
}


@pytest.fixture(scope="module")
def sampled():
    """Chain: episodes of very different length."""
    with jax.enable_x64(True):
        task = gallery.chain()
        table = baselines.table(np.linspace(-1, 1, task.mdp.states))
        estimator = estimators.reward_to_go(discount=0.9, baseline=table)
        record = sampler(task, 300)(jax.random.key(0))  # a record holds 32 bits
        wide = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, record)
        return task.policy, estimator, wide


@pytest.mark.parametrize("name", REDUCERS)
def test_sums_are_those_of_episodes_taken_one_by_one(sampled, name, monkeypatch):
    policy, estimator, episodes = sampled
    of, reduce = REDUCERS[name]

    def sums(rows):
        state = estimator.init(jax.random.key(0), 0)

        def weigh(batch):
            weights = streaming.weights_of(estimator, state, batch).psi
            return of(weights, baseline_quality._details(estimator, state, batch))

        return streaming.stream(policy, episodes, streaming.Rows(weigh, reduce), rows=rows)

    with jax.enable_x64(True):
        whole, in_chunks = sums(rows=10**6), sums(rows=512)
        monkeypatch.setattr(streaming, "one_by_one", lambda: False)
        monkeypatch.setattr(streaming, "BYTES", 2**14)  # a few episodes at once
        at_once = sums(rows=512)
    assert len(chunks(np.asarray(episodes.valid), 512)) > 3
    for found in (in_chunks, at_once):
        for kind in ("sums", "classes"):
            for k, x in getattr(whole, kind).items():
                y = getattr(found, kind)[k]
                assert np.any(x), k
                np.testing.assert_allclose(y, x, rtol=1e-9, atol=1e-9, err_msg=f"{name} {k}")
