"""Exported policies act as `Agent.act` does, on 1,000 observations of every supported space."""

from typing import Any

import jax
import numpy as np
import onnxruntime
import pytest
from gymnasium.spaces import Discrete

import policygrad
from policygrad.maths.distributions import Bernoulli, Categorical, MultiCategorical
from policygrad.spaces import space_of
from tests.exporting.worlds import WORLDS, agent_of, load, observations_of, row

N = 1000
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def parameters_of(agent: Any, batch: Any) -> dict[str, np.ndarray]:
    """The parameters of the agent's own distributions, under the names of an export."""
    d = jax.jit(jax.vmap(agent.policy))(batch)
    floor = np.finfo(np.float32).min
    match d:
        case Categorical():
            named = {"log_probabilities": d.log_probs}
        case MultiCategorical(parts=parts):
            named = {"log_probabilities": np.concatenate([p.log_probs for p in parts], axis=1)}
        case Bernoulli():
            odds = d.logits if d.mask is None else np.where(d.mask, d.logits, floor)
            named = {"log_odds": odds}
        case _:
            named = {"mean": d.mean, "log_std": d.log_std}
    return {name: np.asarray(x) for name, x in named.items()}


def assert_same_actions(actions: Any, expected: Any, clear: Any, space: Any) -> None:
    actions, expected = np.asarray(actions), np.asarray(expected)
    assert actions.shape == expected.shape
    assert actions.dtype == space.dtype
    if np.issubdtype(space.dtype, np.floating):
        unit = float(np.max(space_of(space).scale[1], initial=1))  # the policy's own
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5 * unit)
    else:
        np.testing.assert_array_equal(actions[clear], expected[clear])


def clear_margins(named: dict[str, np.ndarray], space: Any) -> np.ndarray:
    """`[B]`: whether no choice is as good as undecided between two actions."""
    if "log_odds" in named:
        return (np.abs(named["log_odds"]) > 1e-4).all(axis=1)
    rows = named.get("log_probabilities")
    if rows is None:
        return np.ones(N, bool)
    sizes = np.ravel(space.nvec) if hasattr(space, "nvec") else [space.n]
    clear = np.ones(N, bool)
    for choice in np.split(rows, np.cumsum(sizes)[:-1], axis=1):
        if choice.shape[1] > 1:
            best = np.sort(choice, axis=1)
            clear &= best[:, -1] - best[:, -2] > 1e-4
    return clear


@pytest.fixture(scope="module", params=WORLDS)
def case(request) -> Any:
    """An agent, observations `[1000, ...]`, its actions there one by one, its parameters."""
    world = WORLDS[request.param]
    agent, batch = agent_of(world), observations_of(world, N)
    expected = np.stack([agent.act(row(batch, i)) for i in range(N)])
    named = parameters_of(agent, batch)
    return agent, batch, expected, named, clear_margins(named, world.actions)


def test_numpy_acts_as_the_agent(case, tmp_path):
    agent, batch, expected, named, clear = case
    policy = load(policygrad.export(agent, tmp_path / "policy"))
    actions, space = policy.act(batch), agent.action_space
    assert clear.mean() > 0.98
    assert_same_actions(actions, expected, clear, space)
    given = policy.distribution(batch)
    assert given.keys() == named.keys()
    for name, x in named.items():
        np.testing.assert_allclose(given[name], x, **CLOSE)
    for i in range(5):
        one = policy.act(row(batch, i))
        assert space.contains(one if isinstance(space, Discrete) else np.asarray(one))
        assert_same_actions(one[None], actions[i : i + 1], clear[i : i + 1], space)
        for name, x in policy.distribution(row(batch, i)).items():
            np.testing.assert_allclose(x, given[name][i], **CLOSE)


def test_onnx_acts_as_the_agent(case, tmp_path):
    agent, batch, expected, named, clear = case
    path = policygrad.export(agent, tmp_path / "policy.onnx", format="onnx")
    session = onnxruntime.InferenceSession(path)
    inputs = dict(zip([x.name for x in session.get_inputs()], jax.tree.leaves(batch), strict=True))
    names = [x.name for x in session.get_outputs()]
    assert names == ["action", *named]
    actions, *given = session.run(names, inputs)
    assert_same_actions(actions, expected, clear, agent.action_space)
    for mine, x in zip(given, named.values(), strict=True):
        np.testing.assert_allclose(mine, x, **CLOSE)
    for count in (0, 1):
        few = session.run(names, {name: x[:count] for name, x in inputs.items()})
        assert [x.shape for x in few] == [(count, *x.shape[1:]) for x in (actions, *given)]
