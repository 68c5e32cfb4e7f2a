"""The exported policy for NumPy: what it takes, what it refuses, and where it runs."""

import json
import subprocess
import sys
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

import policygrad
from policygrad.core.errors import UserError
from policygrad.spaces import action_space_of
from tests.exporting.worlds import FOUR, WORLDS, World, agent_of, load, masked, observations_of, row

SEED = 3
DRAWS = 20_000
FALSE_ALARM = 1e-6  # of each statistical test, if both samples are of one distribution


@pytest.fixture
def exported(tmp_path):
    """world -> the exported policy of an agent in it."""
    return lambda world: load(policygrad.export(agent_of(world), tmp_path / "policy"))


ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"numpy", "policy"}:
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import numpy as np
from policy import load

policy = load()
observation = {"x": np.ones((2, 3)), "action_mask": [0, 1, 1, 0]}
print(policy.act(observation), policy.act(observation, np.random.default_rng(0)))
assert not {"jax", "policygrad", "gymnasium", "scipy"} & sys.modules.keys()
"""


def test_it_runs_where_only_numpy_can_be_imported(tmp_path):
    world = World(masked(4, x=spaces.Box(-1, 1, (2, 3))), spaces.Discrete(4, start=1))
    agent = agent_of(world)
    folder = policygrad.export(agent, tmp_path / "policy")
    ran = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", ALONE, str(folder)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    best, sampled = map(int, ran.stdout.split())
    observation = {"x": np.ones((2, 3), np.float32), "action_mask": np.array([0, 1, 1, 0], np.int8)}
    assert best == agent.act(observation)
    assert sampled in (2, 3)


class Workshop(gymnasium.Env):
    """A tool and a move at once; a mask says which tools are there."""

    observation_space = spaces.Dict(
        place=spaces.Box(-100, 100, (2,), np.float64),
        kind=spaces.Discrete(3, start=1),
        action_mask=spaces.Dict(tool=spaces.MultiBinary(4)),
    )
    action_space = spaces.Dict(tool=spaces.Discrete(4), move=spaces.Box(0, 10, (2,)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.seen(), {}

    def seen(self):
        tools = np.array([1, *self.np_random.integers(2, size=3)], np.int8)
        place = self.np_random.uniform(40, 60, size=2)
        kind = int(self.np_random.integers(1, 4))
        return {"place": place, "kind": kind, "action_mask": {"tool": tools}}

    def step(self, action):
        self.steps += 1
        return self.seen(), float(action["move"][0]), self.steps == 5, False, {}


RUN_ALONE = """
observation = {"place": [41.5, 58.5], "kind": 2, "action_mask": {"tool": [1, 0, 1, 0]}}
action = policy.act(observation)
print(json.dumps({name: x.tolist() for name, x in action.items()}))
"""


def test_a_trained_policy_of_dicts_and_masks_runs_where_only_numpy_is(tmp_path):
    run = policygrad.train(Workshop, total_steps=256, num_envs=2, hidden=(8,), out=tmp_path / "run")
    folder = policygrad.export(tmp_path / "run", tmp_path / "policy")
    code = ALONE.partition("observation =")[0] + "import json" + RUN_ALONE
    ran = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", code, str(folder)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    action = json.loads(ran.stdout)
    expected = run.agent.act(
        {
            "place": np.array([41.5, 58.5]),
            "kind": 2,
            "action_mask": {"tool": np.array([1, 0, 1, 0], np.int8)},
        }
    )
    assert action["tool"] == expected["tool"]
    np.testing.assert_allclose(action["move"], expected["move"], rtol=1e-5, atol=1e-4)


SAMPLED = {
    **{name: WORLDS[name] for name in ("masked", "acts discrete from -2", "squashed", "clipped")},
    "choices": World(masked(5, x=FOUR), spaces.MultiDiscrete([2, 3], start=[1, -1])),
    "flags": World(masked(3, x=FOUR), spaces.MultiBinary(3)),
    "numbers": World(FOUR, spaces.Box(-np.inf, np.inf, (2,))),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_of_the_agents_distribution(name, exported):
    world = SAMPLED[name]
    agent, policy = agent_of(world), exported(world)
    observation = row(observations_of(world, 3, seed=5), 2)
    many = jax.tree.map(lambda x: np.broadcast_to(x, (DRAWS, *np.shape(x))), observation)
    ours = policy.act(many, np.random.default_rng(SEED)).reshape(DRAWS, -1)
    keys = jax.random.split(jax.random.key(SEED), DRAWS)
    drawn = np.asarray(jax.vmap(agent(observation).sample)(keys))
    theirs = action_space_of(world.actions).to_environment(drawn).reshape(DRAWS, -1)
    if isinstance(world.actions, spaces.Box):
        for a, b in zip(ours.T, theirs.T, strict=True):
            assert stats.ks_2samp(a, b).pvalue > FALSE_ALARM
        return
    outcomes, counts = np.unique(np.concatenate([ours, theirs]), axis=0, return_inverse=True)
    table = [np.bincount(x, minlength=len(outcomes)) for x in np.split(counts.ravel(), 2)]
    assert len(outcomes) > 1
    often = np.sum(table, axis=0) >= 10  # chi-square's approximation needs some of each
    assert stats.chi2_contingency(np.array(table)[:, often]).pvalue > FALSE_ALARM


def test_the_same_generator_gives_the_same_samples(exported):
    policy, batch = exported(WORLDS["squashed"]), observations_of(WORLDS["squashed"], 7)
    first, again = (policy.act(batch, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, policy.act(batch))


@pytest.mark.parametrize("rng", [0, True, np.random.RandomState(0), jax.random.key(0)])
def test_what_is_no_generator_is_refused(rng, exported):
    with pytest.raises(TypeError, match="default_rng"):
        exported(WORLDS["sees box"]).act(np.zeros(4), rng)


def test_lists_and_other_types_of_numbers_are_taken(exported):
    policy = exported(WORLDS["acts box"])
    expected = policy.act(np.array([0, 1, 0, 1], np.float32))
    for observation in ([0, 1, 0, 1], (0.0, 1.0, 0.0, 1.0), np.array([False, True, False, True])):
        np.testing.assert_array_equal(policy.act(observation), expected)


BOX, CHOICE, PAIR = "sees box", "sees discrete from 3", "sees tuple"
GOOD = np.zeros(4, np.float32)
REFUSED: dict[str, tuple[str, Any, str]] = {
    "nan": (BOX, [0, np.nan, 0, 0], "NaN"),
    "infinity": (BOX, [0, np.inf, 0, 0], "infinity"),
    "too large": (BOX, [0, 1e300, 0, 0], "too large"),
    "nan in a batch": (BOX, [GOOD, GOOD * np.nan], "NaN"),
    "too short": (BOX, np.zeros(3), r"shape \[4\], or \['B', 4\] for a batch, got shape \[3\]"),
    "too long": (BOX, np.zeros((2, 5)), r"got shape \[2, 5\]"),
    "batch of batches": (BOX, np.zeros((2, 2, 4)), r"got shape \[2, 2, 4\]"),
    "one number": (BOX, 1.0, r"got shape \[\]"),
    "with info": (BOX, (GOOD, {}), "numbers of shape"),
    "None": (BOX, None, "numbers of shape"),
    "text": (BOX, "abcd", "numbers of shape"),
    "complex": (BOX, np.zeros(4, complex), "numbers of shape"),
    "ragged": (BOX, [[0, 0, 0, 0], [0, 0]], "numbers of shape"),
    "choice below the first": (CHOICE, 2, "choices of"),
    "choice beyond the last": (CHOICE, 8, "choices of"),
    "half a choice": (CHOICE, 3.5, "choices of"),
    "no choice": (CHOICE, np.nan, "choices of"),
    "choice in a batch": (CHOICE, [3, 4, 9], "choices of"),
    "array for a tuple": (PAIR, GOOD, "tuple of 2 parts"),
    "tuple too short": (PAIR, (GOOD,), "tuple of 2 parts"),
    "tuple with a wrong part": (PAIR, (GOOD, [1, 2]), "unlike batch axes"),
    "unlike batches": (PAIR, (np.zeros((3, 4)), [1, 2]), "unlike batch axes"),
    "array for a dict": ("masked", GOOD, "dict with the entries"),
    "dict without mask": ("masked", {"x": GOOD}, r"got \['x'\]"),
    "dict with more": ("masked", {"x": GOOD, "action_mask": [1] * 4, "y": 0}, "dict with the"),
    "short mask": ("masked", {"x": GOOD, "action_mask": [1] * 3}, "action_mask.*shape"),
    "nan in a mask": ("masked", {"x": GOOD, "action_mask": [1, 1, 1, np.nan]}, "NaN"),
    "mask of nothing": ("masked", {"x": GOOD, "action_mask": [0] * 4}, "permits nothing"),
    "mask of nothing in a choice": (
        "masked multi-discrete",
        {"x": GOOD, "action_mask": [0, 0] + [1] * 8},
        "permits nothing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_observations_are_refused(name, exported):
    world, observation, message = REFUSED[name]
    policy = exported(WORLDS[world])
    for call in (policy.act, policy.distribution):
        with pytest.raises(ValueError, match=message):
            call(observation)


def test_flags_may_all_be_forbidden(exported):
    policy = exported(WORLDS["masked multi-binary"])
    observation = {"x": GOOD, "action_mask": np.zeros(4)}
    for rng in (None, np.random.default_rng(0)):
        np.testing.assert_array_equal(policy.act(observation, rng), np.zeros((2, 2)))


def test_damaged_files_are_refused(tmp_path):
    folder = policygrad.export(agent_of(WORLDS["acts box"]), tmp_path / "policy")
    rng = np.random.default_rng(0)
    for name in ("policy.json", "policy.npz"):
        path = folder / name
        whole = path.read_bytes()
        changed = [whole[: len(whole) // 2], b"", b"[]", b"{}", b"null"]
        for place in rng.integers(len(whole), size=40):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << rng.integers(8)
            changed.append(bytes(flipped))
        for content in changed:
            path.write_bytes(content)
            if name == "policy.json" and means_the_same(content, whole):
                continue
            with pytest.raises(ValueError):  # noqa: PT011
                load(folder)
        path.write_bytes(whole)
    load(folder)


def means_the_same(content: bytes, whole: bytes) -> bool:
    """Whether a flipped bit changed only the space between the words of a JSON file."""
    try:
        return json.loads(content) == json.loads(whole)
    except ValueError:
        return False


def test_files_of_two_exports_do_not_mix(tmp_path):
    one, other = (
        policygrad.export(agent_of(WORLDS["acts box"], seed), tmp_path / str(seed))
        for seed in (0, 1)
    )
    (one / "policy.npz").write_bytes((other / "policy.npz").read_bytes())
    with pytest.raises(ValueError, match=r"policy\.npz is damaged, or of another policy"):
        load(one)


def test_another_format_is_refused(tmp_path):
    folder = policygrad.export(agent_of(WORLDS["acts box"]), tmp_path / "policy")
    path = folder / "policy.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="format 1 that this file reads"):
        load(folder)


VALUES = [
    0, 1, 2, -1, 3, 3.5, 0.5, -0.5, 255, 256, 1e9, 2.0**33, 3e38, 3.5e38, 1e300, np.nan, np.inf,
    -np.inf, True, "a", None,
]  # fmt: skip
SPACES = {
    "flags": spaces.MultiBinary(2),
    "shaped flags": spaces.MultiBinary((2, 2)),
    "choice": spaces.Discrete(3, start=1),
    "choices": spaces.MultiDiscrete([2, 4], start=[0, -1]),
    "numbers": spaces.Box(-1, 1, (2,)),
    "numbers in 64 bits": spaces.Box(-1, 1, (2,), np.float64),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "whole numbers": spaces.Box(-7, 7, (2,), np.int32),
    "whole numbers in 64 bits": spaces.Box(0, 9, (2,), np.int64),
    "large whole numbers": spaces.Box(0, 2**40, (2,), np.int64),
    "large whole numbers without a sign": spaces.Box(0, 2**32 - 1, (2,), np.uint64),
    "a Box of flags": spaces.Box(0, 1, (2,), np.bool_),
}
MASKS = {
    "flags": spaces.MultiBinary(2),
    "choices": spaces.MultiDiscrete([2, 2]),
    "numbers": spaces.Box(0, 1, (2,)),
    "bytes": spaces.Box(0, 1, (2,), np.uint8),
}


def refuses(error, act, observation):
    """Whether an observation is refused, by the error that is meant for it."""
    try:
        act(observation)
    except error:
        return True
    return False


def alike(world, exported, put):
    """That the agent and its export refuse the same observations; how many those are."""
    agent, policy, count = agent_of(world), exported(world), 0
    for value in VALUES:
        observation = put(value)
        ours = refuses(ValueError, policy.act, observation)
        assert ours == refuses(UserError, agent.act, observation), value
        count += ours
    return count


@pytest.mark.parametrize("name", SPACES)
def test_it_refuses_the_values_that_the_agent_refuses(name, exported):
    space = SPACES[name]
    world = World(spaces.Dict(x=space), spaces.Discrete(2))

    def put(value):
        x = np.full(space.shape, 1, object)
        x.flat[-1] = value
        return {"x": x.tolist()}

    assert 6 < alike(world, exported, put) < len(VALUES)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("alone", [True, False])
def test_it_refuses_the_masks_that_the_agent_refuses(name, alone, exported):
    others = {} if alone else {"x": FOUR}
    world = World(spaces.Dict(action_mask=MASKS[name], **others), spaces.Discrete(2))
    seen = {} if alone else {"x": GOOD}
    for other in (0, 1):
        assert alike(world, exported, lambda v, o=other: {**seen, "action_mask": [o, v]}) > 6


def test_a_mask_in_parts_is_read_as_the_agent_reads_it(exported):
    mask = spaces.Dict(gear=spaces.MultiDiscrete([2, 2]))
    actions = spaces.Dict(gear=spaces.Discrete(2), move=spaces.Box(-1, 1, (1,)))
    world = World(spaces.Dict(x=FOUR, action_mask=mask), actions)
    assert alike(world, exported, lambda v: {"x": GOOD, "action_mask": {"gear": [0, v]}}) > 6
