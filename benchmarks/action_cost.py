"""What an action costs: `Agent.act`, the export for NumPy, and the export for ONNX.

    python benchmarks/action_cost.py [--rounds 5] [--calls 400] [--json FILE]

Policies have hidden layers of 64 and 64 units. They are not trained, which costs the same. The
three must act alike before they are timed. A figure is the shortest call of all rounds, in
microseconds, for one observation and for a batch. Libraries start as many threads as they like.
"""

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime
from common import in_turns, provenance, seconds_of
from gymnasium import spaces

import policygrad

BATCHES = (1, 1_000)
POLICIES = {
    "CartPole: 4 numbers, 2 choices": (spaces.Box(-1, 1, (4,)), spaces.Discrete(2)),
    "HalfCheetah: 17 numbers, 6 numbers": (spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,))),
    "a Dict with a choice and a mask, a choice and 2 numbers": (
        spaces.Dict(
            x=spaces.Box(-1, 1, (4,)),
            tool=spaces.Discrete(3),
            action_mask=spaces.Dict(button=spaces.MultiBinary(3)),
        ),
        spaces.Dict(button=spaces.Discrete(3), move=spaces.Box(-1, 1, (2,))),
    ),
}


def observations(space: spaces.Space, count: int, seed: int = 0) -> Any:
    """A batch of samples; masks permit everything."""
    space.seed(seed)
    batch = jax.tree.map(lambda *x: np.stack(x), *(space.sample() for _ in range(count)))
    if isinstance(batch, dict):
        batch["action_mask"] = jax.tree.map(np.ones_like, batch["action_mask"])
    return batch


def numpy_policy(folder: Path) -> Any:
    """The exported policy, by the program in its folder."""
    spec = importlib.util.spec_from_file_location("exported_policy", folder / "policy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def onnx_act(file: Path, batch: Any) -> Callable[[], list[np.ndarray]]:
    """Acts on a batch by onnxruntime; it returns the parts of the action in order."""
    session = onnxruntime.InferenceSession(file)
    actions = [x.name for x in session.get_outputs() if x.name.partition("/")[0] == "action"]
    parts = jax.tree_util.tree_flatten_with_path(batch)[0]
    inputs = {"/".join(["observation", *(key.key for key in path)]): x for path, x in parts}
    return partial(session.run, actions, inputs)


def ways_to_act(
    observation_space: spaces.Space, action_space: spaces.Space, count: int, folder: Path
) -> dict[str, Callable[[], Any]]:
    """By name, what acts on a batch, or on one observation without an axis for the batch.

    Args:
        observation_space, action_space: of the policy.
        count: number of observations.
        folder: where the policy is exported to.
    """
    policy = policygrad.network_policy(jax.random.key(0), observation_space, action_space)
    agent = policygrad.Agent(policy, observation_space, action_space)
    exported = numpy_policy(policygrad.export(agent, folder / "numpy"))
    file = policygrad.export(agent, folder / "policy.onnx", format="onnx")
    batch = observations(observation_space, count)
    given = jax.tree.map(lambda x: x[0], batch) if count == 1 else batch
    return {
        "Agent.act": partial(agent.act, given),
        "NumPy": partial(exported.act, given),
        "onnxruntime": onnx_act(file, batch),
    }


def check_alike(ways: dict[str, Callable[[], Any]]) -> None:
    """AssertionError unless all act alike."""
    first, *others = (jax.tree.leaves(act()) for act in ways.values())
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(np.ravel(a), np.ravel(b), atol=1e-5)


def shortest_call(act: Callable[[], Any], calls: int) -> float:
    """Microseconds of the shortest call."""
    return 1e6 * min(seconds_of(act) for _ in range(calls))


def measure(rounds: int, calls: int) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Microseconds of every round, by policy, number of observations and way to act."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in POLICIES}
    for name, pair in POLICIES.items():
        for count in BATCHES:
            with tempfile.TemporaryDirectory() as folder:
                ways = ways_to_act(*pair, count, Path(folder))
                check_alike(ways)
                some = calls if count == 1 else max(1, calls // 10)
                timed = {way: partial(shortest_call, act, some) for way, act in ways.items()}
                found[name][f"{count:,}"] = in_turns(timed, rounds)
    return found


def table(found: dict[str, dict[str, dict[str, list[float]]]]) -> str:
    """The least of all rounds, as Markdown."""
    ways = list(next(iter(next(iter(found.values())).values())))
    lines = [f"| policy | observations | {' | '.join(ways)} |", "|---|---|" + "---|" * len(ways)]
    for name, by_count in found.items():
        for count, by_way in by_count.items():
            least = " | ".join(f"{min(by_way[way]):,.0f}" for way in ways)
            lines.append(f"| {name} | {count} | {least} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400, help="calls a round; a tenth of batches")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.rounds, options.calls)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(provenance() | {"microseconds": found}))


if __name__ == "__main__":
    main()
