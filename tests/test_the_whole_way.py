"""One environment of a user's own, all the way: trained, stopped early, resumed, evaluated,
exported, and acting where there is no JAX."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import policygrad
from policygrad import callbacks

ALONE = """
import json, sys

class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "policygrad", "gymnasium", "equinox", "optax"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, NotHere())
sys.path.insert(0, sys.argv[1])
from policy import load

policy, rows = load(), json.loads(sys.stdin.read())
actions = [policy.act(row) for row in rows]
print(json.dumps([{"tool": int(a["tool"]), "force": a["force"].tolist()} for a in actions]))
"""


class Workshop(gym.Env):
    """Use the tool that is asked for, unless it is broken, and press as hard as is asked."""

    observation_space = gym.spaces.Dict(
        wanted=gym.spaces.Discrete(3),
        seen=gym.spaces.Dict(force=gym.spaces.Box(-1, 1, (2,), np.float64)),
        action_mask=gym.spaces.Dict(tool=gym.spaces.MultiBinary(3)),
    )
    action_space = gym.spaces.Dict(
        tool=gym.spaces.Discrete(3), force=gym.spaces.Box(-5, 5, (2,), np.float32)
    )

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def observe(self) -> dict[str, Any]:
        self.wanted = int(self.np_random.integers(3))
        self.force = self.np_random.uniform(-1, 1, 2)
        works = np.ones(3, np.int8)
        works[(self.wanted + 1 + self.time % 2) % 3] = 0
        self.works = works
        return {
            "wanted": self.wanted,
            "seen": {"force": self.force},
            "action_mask": {"tool": works},
        }

    def step(self, action: Any) -> Any:
        assert self.works[action["tool"]], "a broken tool was used"
        right = action["tool"] == self.wanted
        error = float(np.abs(action["force"] / 5 - self.force).mean())
        self.time += 1
        info = {"right": right, "reward": {"force": -error}, "success": bool(right and error < 0.3)}
        return self.observe(), right - error, False, self.time == self.length, info


class Doubled(gym.RewardWrapper):
    def reward(self, reward: Any) -> Any:
        return 2 * reward


def make(length: int) -> gym.Env:
    return Doubled(gym.wrappers.TransformObservation(Workshop(length), lambda o: o, None))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> policygrad.Run:
    out = tmp_path_factory.mktemp("whole") / "run"
    return policygrad.train(
        make,
        env_kwargs={"length": 8},
        algorithm="ppo",
        total_steps=200_000,
        out=out,
        on_update=[callbacks.stop_at_return(10.0), callbacks.keep_best()],
    )


def test_it_is_stopped_early_by_a_callback(run: policygrad.Run) -> None:
    assert run.summary["stopped_by"] == "callback"
    assert run.summary["env_steps"] < 200_000
    newest = run.metrics[-1]
    assert newest["length_mean"] == 8
    assert newest["return_mean"] >= 10
    assert newest["info/right"] > 0.5
    assert -1 < newest["info/reward/force"] < 0
    # the return is twice the right tools less twice the errors of force
    told = 2 * (newest["info_sum/right"] + newest["info_sum/reward/force"])
    assert newest["return_mean"] == pytest.approx(told, rel=1e-5)


def test_it_goes_on_and_is_evaluated(run: policygrad.Run) -> None:
    assert run.path is not None
    steps = run.summary["env_steps"] + 4096
    with pytest.warns(UserWarning, match="steps shrink to zero over"):
        longer = policygrad.resume(run.path, env=make, total_steps=steps)
    assert longer.summary["resumed_exactly"]
    for policy in (longer, policygrad.load(run.path / "best")):
        env = {} if policy is longer else {"env": make, "env_kwargs": {"length": 8}}
        result = policygrad.evaluate(policy, episodes=50, **env)
        assert result.deterministic.mean > 9
        assert result.deterministic.length_mean == 8
        assert result.deterministic.infos["success"].episodes == 50


def test_it_acts_where_there_is_no_jax(run: policygrad.Run, tmp_path: Path) -> None:
    policygrad.export(run, tmp_path / "workshop")
    env, rows = make(50), []
    observation, _ = env.reset(seed=1)
    for _ in range(50):
        rows.append(observation)
        observation, *_ = env.step(run.agent.act(observation))
    plain = json.dumps(rows, default=lambda x: x.tolist())
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path / "workshop")],
        input=plain,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for row, action in zip(rows, json.loads(done.stdout), strict=True):
        ours = run.agent.act(row)
        assert action["tool"] == ours["tool"]
        np.testing.assert_allclose(action["force"], ours["force"], atol=1e-5)
