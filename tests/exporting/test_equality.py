"""Exported policies act as `Agent.act` does, on 1,000 observations of every supported space."""

from typing import Any

import jax
import numpy as np
import onnxruntime
import pytest
from gymnasium import spaces

import policygrad
from policygrad.maths.distributions import Bernoulli, Categorical, Joint, MultiCategorical
from policygrad.spaces import space_of
from tests.exporting.worlds import WORLDS, agent_of, load, observations_of, row
from tests.slow import params

N = 1000
SLOW = {
    "sees box of several axes", "sees float64 box", "sees float16 box", "sees int32 box",
    "sees discrete from -3", "sees multi-discrete", "sees multi-binary", "sees tuple",
    "acts discrete", "acts multi-discrete", "acts multi-binary", "acts box of one number",
    "acts shaped box", "acts wide box", "hybrid tuple", "flat mask of parts", "one layer",
}  # fmt: skip


def parameters_of(d: Any) -> Any:
    """The parameters of the agent's own distributions, in the form and under the names of an
    export."""
    match d:
        case Joint(parts=dict() as parts):
            return {key: parameters_of(part) for key, part in parts.items()}
        case Joint(parts=parts):
            return tuple(map(parameters_of, parts))
        case Categorical():
            return {"log_probabilities": d.log_probs}
        case MultiCategorical(parts=parts):
            return {"log_probabilities": np.concatenate([p.log_probs for p in parts], axis=1)}
        case Bernoulli(mask=None):
            return {"log_odds": d.logits}
        case Bernoulli():
            return {"log_odds": np.where(d.mask, d.logits, np.finfo(np.float32).min)}
    return {"mean": d.mean, "log_std": d.log_std}


def apart(space: Any, *trees: Any) -> list[tuple[Any, ...]]:
    """The parts of an action space that have no parts, with what belongs to them in each tree."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        keys = sorted(space.keys()) if isinstance(space, spaces.Dict) else range(len(space))
        return [x for k in keys for x in apart(space[k], *(tree[k] for tree in trees))]
    return [(space, *trees)]


def clear_margins(named: dict[str, Any], space: Any) -> np.ndarray:
    """`[B]`: whether a part's mode is not undecided between two actions."""
    if "log_odds" in named:
        return (np.abs(named["log_odds"]) > 1e-4).all(axis=1)
    if "mean" in named:
        return np.ones(len(named["mean"]), bool)
    rows = np.asarray(named["log_probabilities"])
    sizes = np.ravel(space.nvec) if isinstance(space, spaces.MultiDiscrete) else [space.n]
    clear = np.ones(len(rows), bool)
    for choice in np.split(rows, np.cumsum(sizes)[:-1], axis=1):
        if choice.shape[1] > 1:
            best = np.sort(choice, axis=1)
            clear &= best[:, -1] - best[:, -2] > 1e-4
    return clear


def assert_same_actions(actions: Any, expected: Any, named: Any, space: Any) -> None:
    for part, mine, theirs, parameters in apart(space, actions, expected, named):
        assert mine.shape == theirs.shape
        assert mine.dtype == part.dtype
        if isinstance(part, spaces.Box):
            unit = float(np.max(space_of(part).scale[1], initial=1))  # the policy's own
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * unit)
        else:
            clear = clear_margins(parameters, part)
            assert clear.mean() >= 0.98
            np.testing.assert_array_equal(mine[clear], theirs[clear])


def assert_close(mine: Any, theirs: Any) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module", params=params(WORLDS.keys(), SLOW))
def case(request) -> Any:
    """An agent, observations `[1000, ...]`, its actions there, and their parameters."""
    world = WORLDS[request.param]
    agent, batch = agent_of(world), observations_of(world, N)
    named = parameters_of(jax.jit(jax.vmap(agent.policy))(batch))
    return agent, batch, agent.act(batch), named


def test_numpy_acts_as_the_agent(case, tmp_path):
    agent, batch, expected, named = case
    policy = load(policygrad.export(agent, tmp_path / "policy"))
    actions, given = policy.act(batch), policy.distribution(batch)
    assert_same_actions(actions, expected, named, agent.action_space)
    jax.tree.map(assert_close, given, named)
    for i in range(5):
        one = policy.act(row(batch, i))
        for part, action in apart(agent.action_space, one):
            is_array = not isinstance(part, spaces.Discrete)
            assert part.contains(np.asarray(action) if is_array else action)
        # one row is multiplied in another order than many
        jax.tree.map(assert_close, policy.distribution(row(batch, i)), row(given, i))


def test_onnx_acts_as_the_agent(case, tmp_path):
    agent, batch, expected, named = case
    path = policygrad.export(agent, tmp_path / "policy.onnx", format="onnx")
    session = onnxruntime.InferenceSession(path)
    inputs = dict(zip([x.name for x in session.get_inputs()], jax.tree.leaves(batch), strict=True))
    names = [x.name for x in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    actions = jax.tree.unflatten(
        jax.tree.structure(expected), [x for name, x in outputs.items() if is_action(name)]
    )
    assert_same_actions(actions, expected, named, agent.action_space)
    parts = apart(agent.action_space, named)
    given = [x for name, x in outputs.items() if not is_action(name)]
    for x, theirs in zip(given, [x for _, part in parts for x in part.values()], strict=True):
        assert_close(x, theirs)
    for count in (0, 1):
        few = session.run(names, {name: x[:count] for name, x in inputs.items()})
        assert [x.shape for x in few] == [(count, *x.shape[1:]) for x in outputs.values()]


def is_action(name: str) -> bool:
    return name.partition("/")[0] == "action"
