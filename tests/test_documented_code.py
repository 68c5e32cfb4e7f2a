"""Every Python block of the README and of the guide runs, with smaller numbers of steps.

A block stands in a page without what leads to it: `BEFORE` has that, by page and number.
"""

import functools
import re
from pathlib import Path

import pytest

import policygrad

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS = {
    (str(page.relative_to(ROOT)), number): block
    for page in PAGES
    for number, block in enumerate(FENCE.findall(page.read_text()))
}

MEASURED = """
import jax
import policygrad
from policygrad import diagnostics, estimators, rollout
source = rollout.open_source("gymnax/CartPole-v1", num_envs=4)
key = jax.random.key(0)
policy = policygrad.network_policy(key, source.observation_space, source.action_space)
estimator = estimators.reward_to_go(discount=0.99)
state = estimator.init(key, None)
episodes = source.episodes(policy, key, 16, 500).collect(policy, key)
"""
TORCH = """
import jax, numpy as np, torch
module = torch.nn.Linear(2, 3)
seen = np.ones((5, 2), np.float32)
played = [(seen, np.arange(5) % 3, np.arange(5.0) + i, True) for i in range(8)]
"""
EXPORTED = 'import policygrad; run = policygrad.train("CartPole-v1"); observation = np.zeros(4)\n'
BEFORE = {
    ("README.md", 0): """
import equinox as eqx, gymnasium, jax, numpy as np
from policygrad.distributions import Categorical
class MyNetwork(eqx.Module):
    inside: eqx.nn.Linear
    def __init__(self, key):
        self.inside = eqx.nn.Linear(4, 2, key=key)
    def __call__(self, observation):
        return Categorical(self.inside(observation))
MyEnv, key, observation = lambda: gymnasium.make("CartPole-v1"), jax.random.key(0), np.zeros(4)
""",
    ("docs/deploying.md", 0): f"""
import numpy as np
{EXPORTED}policygrad.export(run, "walker")
class Robot:
    left = 3
    def read(self):
        return observation
    def step(self, action):
        self.left -= 1
        if not self.left:
            raise StopIteration
        return observation
robot = Robot()
""",
    ("docs/deploying.md", 1): """
import sys
import numpy as np, policygrad
run = policygrad.train("CartPole-v1", out="runs/walker")
policygrad.export(run, "walker")
sys.path.insert(0, "walker")
from policy import load
policy, observations = load(), np.zeros((3, 4))
""",
    ("docs/deploying.md", 2): f"""
import numpy as np
{EXPORTED}observation = observation.astype(np.float32)
policygrad.export(run, "walker.onnx", format="onnx")
""",
    ("docs/deploying.md", 3): f"""
import numpy as np, onnxruntime
{EXPORTED}policygrad.export(run, "walker.onnx", format="onnx")
session, rng = onnxruntime.InferenceSession("walker.onnx"), np.random.default_rng(0)
inputs = {{"observation": observation[None].astype(np.float32)}}
""",
    ("docs/callbacks.md", 0): "import policygrad",
    ("docs/coming-from.md", 0): "import numpy as np, policygrad; observation = np.zeros(4)",
    ("docs/environments.md", 0): "import policygrad",
    ("docs/environments.md", 1): "import policygrad",
    ("docs/environments.md", 2): "import policygrad\n" + BLOCKS["docs/environments.md", 1],
    ("docs/laboratory.md", 0): "",
    ("docs/laboratory.md", 1): "",
    ("docs/machines.md", 0): "",
    ("docs/measuring.md", 0): MEASURED,
    ("docs/measuring.md", 1): MEASURED,
    ("docs/measuring.md", 2): """
import stable_baselines3
model = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu")
""",
    ("docs/measuring.md", 3): TORCH,
    ("docs/measuring.md", 4): """
import numpy as np, torch
from policygrad import diagnostics
parameters = list(torch.nn.Linear(2, 3).parameters())
number_of_parameters, loss = 9, sum((p * torch.randn(p.shape)).sum() for p in parameters)
rows = np.random.default_rng(0).normal(size=(64, 4096))
""",
    ("docs/measuring.md", 5): f"""{MEASURED}
import numpy as np
from policygrad import tabular
stay = np.stack([np.eye(2)] * 2, axis=1)
mdp = tabular.FiniteMDP(stay, [[0, 1], [1, 0]], [0.5, 0.5], horizon=2)
policy = tabular.SoftmaxPolicy.of(np.zeros((2, 2)))
episodes = rollout.collect_episodes(
    tabular.as_environment(mdp), policy, key, episodes=64, max_steps=2
).trajectories
gradients, starts = np.random.default_rng(0).normal(size=(64, 3)), [0, 1] * 32
""",
    ("docs/pictures-and-memory.md", 0): """
import gymnasium, numpy as np, policygrad
class env(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (20, 20, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        return np.zeros((20, 20, 3), np.uint8), {}
    def step(self, action):
        return np.zeros((20, 20, 3), np.uint8), 1.0, True, False, {}
""",
    ("docs/training.md", 0): """
import jax, numpy as np
key, observation, observations = jax.random.key(0), np.zeros(3), np.zeros((2, 3))
""",
}
NEEDS = {
    ("docs/measuring.md", 2): "stable_baselines3",
    ("docs/measuring.md", 3): "torch",
    ("docs/measuring.md", 4): "torch",
}
SLOW = {("docs/machines.md", 0), *(("docs/measuring.md", n) for n in range(3))}


def test_all_blocks_are_known():
    assert set(BLOCKS) == set(BEFORE)


@pytest.fixture
def in_short(monkeypatch):
    """`train` and what evaluates take a few steps, whatever the page says."""

    def short(name, **instead):
        whole = getattr(policygrad, name)

        @functools.wraps(whole)
        def fewer(*args, **given):
            return whole(*args, **(given | instead))

        monkeypatch.setattr(policygrad, name, fewer)

    short("train", batch_steps=64, total_steps=128)
    short("train_seeds", batch_steps=64, total_steps=128)
    short("evaluate", episodes=4)
    short("diagnose", episodes=1024)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p in SLOW else [], id=f"{p[0]}-{p[1]}")
        for p in BLOCKS
    ],
)
def test_it_runs(place, in_short, tmp_path, monkeypatch):
    if place in NEEDS:
        pytest.importorskip(NEEDS[place])
    monkeypatch.chdir(tmp_path)
    code = BEFORE[place] + "\n" + BLOCKS[place]
    code = code.replace("HalfCheetah-v5", "CartPole-v1").replace("range(32)", "range(4)")
    try:
        exec(compile(code, str(place), "exec"), {"__name__": "__main__"})
    except StopIteration:
        assert place == ("docs/deploying.md", 0)
