"""Pairs of spaces, and policies between them with weights and statistics that are not trivial."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

import policygrad
from policygrad.policies import FullyConnected, update_statistics
from policygrad.spaces import action_space_of, permits_nothing

INF = np.inf
FOUR = spaces.Box(-1, 1, (4,))


class World(NamedTuple):
    """An observation space, an action space, and settings of the policy between them."""

    observations: spaces.Space
    actions: spaces.Space
    settings: dict[str, Any] = {}  # noqa: RUF012


def masked(n: int, **others: spaces.Space) -> spaces.Dict:
    return spaces.Dict(**others, action_mask=spaces.MultiBinary(n))


NESTED = spaces.Dict(
    {
        "a/b": spaces.Box(-1, 1, (2, 3)),
        "a": spaces.Dict({"b": spaces.Discrete(4, start=2), "~": spaces.MultiBinary(2)}),
        "t": spaces.Tuple([spaces.MultiDiscrete([3, 2]), spaces.Tuple([spaces.Box(0, 9, ())])]),
        "x.y": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    }
)
BOUNDS = np.array([-3, 0, -INF, -INF, 2], np.float32), np.array([1, 5, 2, INF, 2], np.float32)

# every kind of observation, with an action space that does not matter
OBSERVED = {
    "box": FOUR,
    "box of one number": spaces.Box(-1, 1, ()),
    "box of several axes": spaces.Box(-1, 1, (2, 3, 2)),
    "unbounded box": spaces.Box(-INF, INF, (3,)),
    "box far from zero": spaces.Box(1e5, 1e5 + 10, (3,)),
    "wide box": spaces.Box(-1e6, 1e6, (3,)),
    "float64 box": spaces.Box(-2, 2, (3,), np.float64),
    "float16 box": spaces.Box(-2, 2, (3,), np.float16),
    "int32 box": spaces.Box(-7, 7, (3,), np.int32),
    "int64 box": spaces.Box(0, 100, (3,), np.int64),
    "image": spaces.Box(0, 255, (6, 6, 3), np.uint8),
    "picture": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "picture from 20 to 235": spaces.Box(20, 235, (3, 9, 8), np.uint8),
    "picture of fractions": spaces.Box(0, 0.5, (8, 9, 2)),
    "picture beside numbers": spaces.Dict(
        a=spaces.Box(0, 255, (8, 8, 3), np.uint8), b=FOUR, c=spaces.Discrete(3)
    ),
    "discrete": spaces.Discrete(5),
    "discrete from 3": spaces.Discrete(5, start=3),
    "discrete from -3": spaces.Discrete(5, start=-3),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 3]),
    "multi-discrete, shaped, from elsewhere": spaces.MultiDiscrete(
        [[2, 3], [4, 2]], start=[[1, -1], [0, 7]]
    ),
    "multi-binary": spaces.MultiBinary(5),
    "multi-binary, shaped": spaces.MultiBinary((2, 3)),
    "tuple": spaces.Tuple([FOUR, spaces.Discrete(3)]),
    "nested": NESTED,
}
ACTED = {
    "discrete": spaces.Discrete(4),
    "discrete from -2": spaces.Discrete(4, start=-2),
    "one choice": spaces.Discrete(1),
    "multi-discrete": spaces.MultiDiscrete([2, 5, 3]),
    "multi-discrete, shaped, from elsewhere": spaces.MultiDiscrete(
        [[2, 3], [4, 2]], start=[[1, -1], [0, 7]]
    ),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary, shaped": spaces.MultiBinary((2, 2)),
    "box": spaces.Box(-1, 1, (2,)),
    "box of one number": spaces.Box(-2, 1, ()),
    "box of all kinds of bounds": spaces.Box(*BOUNDS),
    "shaped box": spaces.Box(-4, 9, (2, 3)),
    "float64 box": spaces.Box(-0.1, 0.3, (2,), np.float64),
    "wide box": spaces.Box(0, 255, (2,)),
    "unbounded box": spaces.Box(-INF, INF, (3,)),
    "box to the largest number": spaces.Box(
        np.finfo(np.float32).min, np.finfo(np.float32).max, (2,)
    ),
}
BUTTONS, MOVE = spaces.Discrete(3, start=1), spaces.Box(-2, 3, (2,))
HYBRID = spaces.Dict(move=MOVE, buttons=BUTTONS)
DEEP = spaces.Dict(
    {
        "z": spaces.Tuple([spaces.MultiDiscrete([2, 3]), MOVE, spaces.MultiBinary(2)]),
        "a/b": spaces.Box(-1, 1, ()),
        "a": spaces.Dict(b=BUTTONS, c=spaces.Box(0, 1, (2, 2), np.float64)),
    }
)
FLAGS_3, FLAGS_5 = spaces.MultiBinary(3), spaces.Box(0, 1, (5,), np.uint8)
# Dicts and Tuples acted in, and masks of all forms and at any depth
COMPOSITE = {
    "hybrid": (FOUR, HYBRID),
    "hybrid tuple": (FOUR, spaces.Tuple([MOVE, BUTTONS, MOVE])),
    "deep": (NESTED, DEEP),
    "mask as a dict": (
        spaces.Dict(x=FOUR, action_mask=spaces.Dict(buttons=FLAGS_3)),
        HYBRID,
    ),
    "mask as a tuple": (
        spaces.Dict(x=FOUR, action_mask=spaces.Tuple([FLAGS_3, FLAGS_5])),
        spaces.Tuple([BUTTONS, MOVE, spaces.MultiDiscrete([2, 3])]),
    ),
    "flat mask of parts": (
        spaces.Dict(x=FOUR, action_mask=spaces.MultiBinary(8)),
        spaces.Dict(b=BUTTONS, c=spaces.MultiDiscrete([2, 3])),
    ),
    "mask below": (
        spaces.Tuple([FOUR, spaces.Dict(agent=spaces.Dict(action_mask=FLAGS_3, y=FOUR))]),
        BUTTONS,
    ),
    "mask alone": (spaces.Dict(action_mask=FLAGS_3), BUTTONS),
}
SQUASHED = {"squash": True}
WORLDS = {
    **{f"sees {k}": World(space, spaces.Discrete(3)) for k, space in OBSERVED.items()},
    **{f"acts {k}": World(FOUR, space) for k, space in ACTED.items()},
    **{name: World(*both) for name, both in COMPOSITE.items()},
    "squashed hybrid": World(FOUR, HYBRID, SQUASHED),
    "masked": World(masked(4, x=FOUR), spaces.Discrete(4, start=1)),
    "masked multi-discrete": World(masked(10, x=FOUR), spaces.MultiDiscrete([2, 5, 3])),
    "masked multi-binary": World(masked(4, x=FOUR), spaces.MultiBinary((2, 2))),
    "masked, nested": World(masked(3, x=NESTED, y=FOUR), spaces.Discrete(3)),
    "squashed": World(FOUR, spaces.Box(-2, 3, (2, 2)), SQUASHED),
    "clipped": World(FOUR, spaces.Box(-2, 3, (2,)), {"clipped": True}),
    "not normalised": World(
        spaces.Dict(x=FOUR, y=spaces.Discrete(3), z=spaces.Box(-9, 9, (2,), np.int32)),
        spaces.Box(-2, 3, (2,)),
        {"normalise_observations": False},
    ),
    "linear": World(FOUR, spaces.Discrete(3), {"hidden": ()}),
    "one layer": World(FOUR, spaces.Discrete(3), {"hidden": (7,)}),
    "three layers": World(FOUR, spaces.Box(-1, 1, (2,)), {"hidden": (16, 8, 16)}),
}


def agent_of(world: World, seed: int = 0) -> policygrad.Agent:
    """A policy with weights of order one and statistics of observations of the space."""
    rng = np.random.default_rng(seed)
    settings = {"hidden": (16, 16), **world.settings}
    network = FullyConnected(settings.pop("hidden"))  # also where an observation is a picture
    policy = policygrad.network_policy(
        jax.random.key(seed), world.observations, world.actions, network=network, **settings
    )

    def noisy(x: jax.Array) -> jax.Array:
        size = 1 / np.sqrt(x.shape[-1]) if x.ndim == 2 else 0.5
        return x + jnp.asarray(rng.normal(scale=size, size=x.shape), jnp.float32)

    policy = eqx.tree_at(lambda p: p.network, policy, jax.tree.map(noisy, policy.network))
    if policy.log_std is not None:
        policy = eqx.tree_at(lambda p: p.log_std, policy, noisy(policy.log_std))
    rows = jax.tree.map(lambda x: jnp.asarray(x)[None], observations_of(world, 64, seed + 1))
    policy = update_statistics(policy, rows, jnp.ones((1, 64), bool))
    return policygrad.Agent(policy, world.observations, world.actions)


def observations_of(world: World, count: int, seed: int = 0) -> Any:
    """A batch of observations of the space, some more than once, so that all permit something."""
    space = world.observations
    space.seed(seed)
    batch = batch_of([space.sample() for _ in range(count)])
    record = jax.tree.map(lambda x: x[None], batch)
    forbidden = permits_nothing(record, action_space_of(world.actions))
    if forbidden is None:
        return batch
    good = np.flatnonzero(~forbidden[0])
    assert len(good) >= count / 3
    return jax.tree.map(lambda x: x[np.resize(good, count)], batch)


def batch_of(rows: list[Any]) -> Any:
    """Observations or actions as one batch."""
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def row(batch: Any, index: int) -> Any:
    """One observation of a batch."""
    return jax.tree.map(lambda x: x[index], batch)


def load(folder: Path) -> Any:
    """The exported policy, by the file that lies in its folder."""
    spec = importlib.util.spec_from_file_location("exported_policy", folder / "policy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()
