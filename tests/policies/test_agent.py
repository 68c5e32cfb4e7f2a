"""What an agent is handed, checked: single observations, batches, and everything else."""

import copy
import pickle
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import policygrad
from policygrad.core.errors import UserError
from policygrad.maths.distributions import Categorical
from policygrad.policies import Agent, mlp, network_policy
from tests.spaces.test_spaces import NESTED
from tests.worlds import TINY, Chain, environment_variables

KEY = jax.random.key(0)
BOX = spaces.Box(-1.0, 1.0, (4,), np.float32)
MIXED = spaces.Dict({"x": spaces.Box(-1.0, 1.0, (2,)), "n": spaces.Discrete(3, start=5)})
HYBRID = spaces.Dict({"gear": spaces.Discrete(3), "move": spaces.Box(-2.0, 2.0, (2,))})


def agent_of(observations=BOX, actions=None, **kwargs):
    actions = spaces.Discrete(2) if actions is None else actions
    policy = network_policy(KEY, observations, actions, hidden=(8,), **kwargs)
    return Agent(policy, observations, actions)


class Counts(eqx.Module):
    """Acts by how many observations it has seen."""

    logits: jax.Array

    def initial_carry(self):
        return jnp.int32(0)

    def __call__(self, observation, carry):
        return Categorical(jnp.where(jnp.arange(4) == carry, 9.0, self.logits)), carry + 1


def remembering():
    return Agent(Counts(jnp.zeros(4)), BOX, spaces.Discrete(4))


# ----- batches


@pytest.mark.parametrize(
    "actions",
    [
        spaces.Discrete(3, start=1),
        spaces.MultiDiscrete([[2, 3], [2, 2]]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(-2.0, 2.0, (2,)),
        pytest.param(HYBRID, marks=pytest.mark.slow),
        spaces.Tuple([spaces.Discrete(2), HYBRID]),
    ],
    ids=str,
)
@pytest.mark.parametrize("observations", [BOX, MIXED, NESTED], ids=["Box", "Dict", "nested"])
def test_case_07_a_batch_of_observations_gives_a_batch_of_actions(observations, actions):
    agent = agent_of(observations, actions)
    observations.seed(0)
    seen = [observations.sample() for _ in range(3)]
    batch = jax.tree.map(lambda *rows: np.stack(rows), *seen)
    together = agent.act(batch)
    for i, one in enumerate(seen):
        mine = jax.tree.map(lambda x, i=i: x[i], together)
        assert actions.contains(mine)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), mine, agent.act(one))
    sampled = agent.act(batch, jax.random.key(1))
    assert jax.tree.map(np.shape, sampled) == jax.tree.map(np.shape, together)


def test_a_batch_of_none_and_of_one():
    assert agent_of().act(np.zeros((0, 4))).shape == (0,)
    assert agent_of().act(np.zeros((1, 4))).shape == (1,)


def test_lanes_of_a_batch_are_sampled_apart():
    drawn = agent_of(actions=spaces.Box(-2.0, 2.0, (1,))).act(np.zeros((50, 4)), 0)
    assert len(np.unique(drawn)) > 40


def test_a_policy_with_memory_takes_one_observation_at_a_time():
    agent = remembering()
    with pytest.raises(UserError, match="3 observations, and the policy has a memory"):
        agent.act(np.zeros((3, 4)))
    assert [agent.act(np.zeros(4)) for _ in range(3)] == [0, 1, 2]


def test_a_distribution_is_of_one_observation():
    with pytest.raises(UserError, match=r"got 2 observations, expected one.*jax\.vmap"):
        agent_of()(np.zeros((2, 4)))
    many = jax.vmap(agent_of())(jnp.zeros((2, 4)))
    assert many.logits.shape == (2, 2)


# ----- keys


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40, np.int64(3), jnp.int32(3)])
def test_case_07_a_seed_is_a_key(seed):
    agent = agent_of(actions=spaces.Box(-1.0, 1.0, (2,)))
    np.testing.assert_array_equal(agent.act(np.zeros(4), seed), agent.act(np.zeros(4), seed))
    assert not np.array_equal(agent.act(np.zeros(4), seed), agent.act(np.zeros(4)))


def test_keys_of_both_kinds_are_one_key():
    agent = agent_of(actions=spaces.Box(-1.0, 1.0, (2,)))
    new, old = jax.random.key(5), jax.random.PRNGKey(5)
    np.testing.assert_array_equal(agent.act(np.zeros(4), new), agent.act(np.zeros(4), old))
    np.testing.assert_array_equal(agent.act(np.zeros(4), new), agent.act(np.zeros(4), 5))


@pytest.mark.parametrize("key", [True, "0", 0.5, np.zeros(3), [1, 2]], ids=str)
def test_other_keys_are_refused(key):
    with pytest.raises(UserError, match="is no key"):
        agent_of().act(np.zeros(4), key)


# ----- observations


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (BOX, [0, 1, 2, 3]),
        (BOX, (0.0, 1.0, 2.0, 3.0)),
        (BOX, np.arange(4, dtype=np.int64)),
        (BOX, np.float64([9, 9, 9, 9])),
        (BOX, jnp.zeros(4)),
        (BOX, [True, False, True, True]),
        (MIXED, {"n": 5, "x": [0, 1]}),
        (MIXED, {"n": np.float32(7.0), "x": np.zeros(2)}),
        (spaces.Tuple([BOX, spaces.MultiBinary(2)]), [np.zeros(4), [1, 0]]),
        (spaces.Box(0, 1, ()), 0.5),
    ],
    ids=str,
)
def test_further_observations_that_are_clear_are_taken(space, observation):
    assert agent_of(space).act(observation) in (0, 1)


WRONG = {
    "case 07: with its info": (BOX, (np.zeros(4), {}), "is a pair with a dict, as `reset`"),
    "a Dict with its info": (
        MIXED, ({"x": np.zeros(2), "n": 5}, {}), r"expected a dict.*observation, info = env\.reset",
    ),
    "case 07: wrong shape": (BOX, np.zeros(3), r"shape \[3\], expected \[4\], or \[B, 4\]"),
    "two axes too many": (BOX, np.zeros((2, 2, 4)), r"shape \[2, 2, 4\], expected \[4\]"),
    "one number": (BOX, 1.0, r"shape \[\], expected \[4\]"),
    "None": (BOX, None, "None, expected Box"),
    "text": (BOX, "0000", "'0000', expected Box"),
    "an array of text": (BOX, np.array(list("0000")), "holds no numbers"),
    "objects": (BOX, np.array([None] * 4), "holds no numbers"),
    "complex": (BOX, np.zeros(4, complex), "holds no numbers"),
    "ragged": (BOX, [[0], [0, 1]], "is no array"),
    "a dict for a Box": (BOX, {"x": np.zeros(4)}, "expected Box"),
    "an array for a Dict": (MIXED, np.zeros(2), r"expected a dict with \['n', 'x'\]"),
    "a part too few": (MIXED, {"x": np.zeros(2)}, r"a dict with \['x'\], expected a dict"),
    "a part too many": (MIXED, {"x": np.zeros(2), "n": 5, "z": 0}, "expected a dict"),
    "another part": (MIXED, {"x": np.zeros(2), "m": 5}, r"\['x', 'm'\], expected a dict"),
    "a part of another shape": (
        MIXED, {"x": np.zeros(3), "n": 5}, r"observation\['x'\] has the shape \[3\]",
    ),
    "unequal batches": (
        MIXED, {"x": np.zeros((3, 2)), "n": [5, 6]}, "hold 2 observations and 3 observations",
    ),
    "a batch in one part": (
        MIXED, {"x": np.zeros((3, 2)), "n": 5}, "hold 3 observations and one observation",
    ),
    "case 07: a choice out of range": (
        MIXED, {"x": np.zeros(2), "n": 8}, r"8 in the observation\['n'\].* outside of 5 to 7",
    ),
    "a choice between two": (MIXED, {"x": np.zeros(2), "n": 5.5}, r"5.5 in the observation\['n'\]"),
    "a flag of 2": (spaces.MultiBinary(2), [1, 2], "2 in the observation.* of 0 to 1"),
    "choices out of range": (spaces.MultiDiscrete([2, 3]), [0, 3], "3 in the observ.* of 0 to 2"),
    "a tuple of another length": (spaces.Tuple([BOX]), (np.zeros(4), 0), "a tuple of 1 parts"),
    "case 07: NaN": (BOX, [0, 0, np.nan, 0], r"nan in observation\[2\]: no action"),
    "infinity in a part": (MIXED, {"x": [0, -np.inf], "n": 5}, r"-inf in observation\['x'\]\[1\]"),
    "NaN in a batch": (BOX, [[0] * 4, [np.nan] * 4], r"nan in observation\[1\]\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize(("space", "observation", "told"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("way", ["act", "distribution"])
def test_further_observations_of_another_form_are_refused(space, observation, told, way):
    agent = agent_of(space)
    with pytest.raises(UserError, match=told):
        agent.act(observation) if way == "act" else agent(observation)


# ----- NaN


def test_fault_19_an_action_is_held_where_that_is_asked_for():
    agent = agent_of(actions=HYBRID)
    with pytest.raises(UserError, match="no action to hold"):
        agent.act([np.nan] * 4, on_nan="hold")
    taken = agent.act([0.5] * 4, 3)
    for lost in (np.nan, np.inf):
        held = agent.act([lost] * 4, 4, on_nan="hold")
        jax.tree.map(np.testing.assert_array_equal, held, taken)
    agent.reset()
    with pytest.raises(UserError, match="no action to hold"):
        agent.act([np.nan] * 4, on_nan="hold")


def test_a_memory_does_not_see_what_was_lost():
    agent = remembering()
    assert agent.act(np.zeros(4)) == 0
    assert agent.act([np.nan] * 4, on_nan="hold") == 0
    assert agent.act(np.zeros(4)) == 1


def test_other_ways_with_nan_are_refused():
    with pytest.raises(UserError, match="'refuse' or 'hold', got on_nan='zero'"):
        agent_of().act(np.zeros(4), on_nan="zero")


# ----- pickling


@pytest.fixture(scope="module")
def run():
    return policygrad.train(Chain, **TINY)


COPIES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("of", ["agent", "policy", "run"])
def test_case_08_copies_act_alike(run, again, of):
    if of == "run":
        agent = again(run).agent
    elif of == "agent":
        agent = again(run.agent)
    else:
        agent = Agent(again(run.policy), run.agent.observation_space, run.agent.action_space)
    assert jax.tree.structure(agent.policy) == jax.tree.structure(run.policy)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (agent.policy, run.policy))))
    assert agent.act([0.3, 1.0], 5) == run.agent.act([0.3, 1.0], 5)


@pytest.mark.slow
def test_case_08_an_agent_acts_in_another_process(run, tmp_path):
    (tmp_path / "agent").write_bytes(pickle.dumps(run.agent))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).act([0.3, 1.0], 5))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "agent")],
        capture_output=True, text=True, env=environment_variables(), check=True,
    )  # fmt: skip
    assert int(done.stdout) == run.agent.act([0.3, 1.0], 5)


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.lax.tanh, np.tanh])
def test_networks_of_any_activation_can_be_pickled(activation):
    network = mlp(KEY, 2, 2, (4,), activation=activation)
    back = pickle.loads(pickle.dumps(network))
    assert back.activation is activation
    assert jax.tree.structure(back) == jax.tree.structure(network)


# ----- what is held


def test_what_is_held_is_the_agents_own():
    space = spaces.Box(-1, 1, (2,), np.float32)
    agent = Agent(network_policy(jax.random.key(0), space, space), space, space)
    action = agent.act(np.array([0.5, -0.5]))
    chosen = action.copy()
    action *= 5  # as a controller may
    nan = np.array([np.nan, 0.0])
    np.testing.assert_array_equal(agent.act(nan, on_nan="hold"), chosen)
    agent.act(np.zeros((3, 2)))
    with pytest.raises(UserError, match="no action to hold"):
        agent.act(nan, on_nan="hold")
    agent.act(np.zeros(2))
    with pytest.raises(UserError, match=r"correct the observation$"):
        agent.act(np.stack([nan, nan]), on_nan="hold")


def test_a_held_choice_is_a_number_still():
    space = spaces.Box(-1, 1, (2,), np.float32)
    choices = spaces.Discrete(3)
    agent = Agent(network_policy(jax.random.key(0), space, choices), space, choices)
    chosen = agent.act(np.zeros(2))
    held = agent.act(np.full(2, np.nan), on_nan="hold")
    assert {int(chosen): "found"}[held] == "found"


# ----- masks that permit no action

FLAGS = spaces.MultiBinary(3)
SEES = spaces.Box(-1, 1, (2,))
X = np.zeros(2, np.float32)
HYBRID = spaces.Dict(gear=spaces.Discrete(3), move=spaces.Box(-1, 1, (1,)))
EMPTY = {
    "a choice": (spaces.Dict(x=SEES, action_mask=FLAGS), spaces.Discrete(3), [0, 0, 0]),
    "numbers": (
        spaces.Dict(x=SEES, action_mask=spaces.Box(-1, 1, (3,))), spaces.Discrete(3), [-1, 0, -0.5],
    ),
    "whole numbers": (
        spaces.Dict(x=SEES, action_mask=spaces.MultiDiscrete([2, 2, 2])), spaces.Discrete(3),
        [0, 0, 0],
    ),
    "flags of a Box": (
        spaces.Dict(x=SEES, action_mask=spaces.Box(0, 1, (3,), np.bool_)), spaces.Discrete(3),
        [False] * 3,
    ),
    "the second of two choices": (
        spaces.Dict(x=SEES, action_mask=spaces.MultiBinary(5)), spaces.MultiDiscrete([3, 2]),
        [1, 1, 1, 0, 0],
    ),
    "a part": (
        spaces.Dict(x=SEES, action_mask=spaces.Dict(gear=FLAGS)), HYBRID, {"gear": [0, 0, 0]},
    ),
    "one mask of a Tuple": (
        spaces.Dict(x=SEES, action_mask=spaces.Tuple([FLAGS, FLAGS])),
        spaces.Tuple([spaces.Discrete(3), spaces.Discrete(3)]), ([1, 0, 0], [0, 0, 0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("observations", "actions", "mask"), EMPTY.values(), ids=EMPTY)
def test_a_mask_that_permits_no_action_is_refused(observations, actions, mask):
    agent = agent_of(observations, actions)
    seen = {"x": X, "action_mask": mask}
    told = "the action mask permits no action in the observation"
    for way in (agent.act, agent, lambda x: agent.act(x, 0), lambda x: agent.act(x, on_nan="hold")):
        with pytest.raises(UserError, match=f"{told}$"):
            way(seen)
    ones = jax.tree.map(lambda x: np.ones_like(np.array(x)), mask, is_leaf=is_list)
    agent.act({"x": X, "action_mask": ones})
    several = jax.tree.map(lambda *x: np.stack(x), ones, as_arrays(mask), ones)
    with pytest.raises(UserError, match=f"{told} 1$"):
        agent.act({"x": np.stack([X] * 3), "action_mask": several})


def is_list(x):
    return isinstance(x, list)


def as_arrays(mask):
    return jax.tree.map(np.array, mask, is_leaf=is_list)


def test_flags_may_all_be_forbidden():
    agent = agent_of(spaces.Dict(x=SEES, action_mask=FLAGS), spaces.MultiBinary(3))
    assert not agent.act({"x": X, "action_mask": [0, 0, 0]}).any()
    below = spaces.Tuple([SEES, spaces.Dict(agent=spaces.Dict(action_mask=FLAGS, y=SEES))])
    agent = agent_of(below, spaces.Discrete(3))
    assert agent.act((X, {"agent": {"action_mask": [0, 1, 0], "y": X}})) == 1
    with pytest.raises(UserError, match="permits no action"):
        agent.act((X, {"agent": {"action_mask": [0, 0, 0], "y": X}}))
