"""Settings from a file, training on from a policy, and evaluation elsewhere."""

from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium

import policygrad

ELSEWHERE = {
    "as trained": {},
    "short": {"env_kwargs": {"max_episode_steps": 10}},
    "sticky": {"wrappers": [lambda env: gymnasium.wrappers.StickyAction(env, 0.25)]},
    "noisy": {"observation_noise": [0.1, 0.1, 0.02, 0.1]},
}


def main() -> dict[str, policygrad.Evaluation]:
    with TemporaryDirectory() as folder:
        first, second, mine = (Path(folder, name) for name in ("a", "b", "mine.toml"))
        mine.write_text('env = "CartPole-v1"\ntotal-steps = 4096\nalgorithm = "natural"\n')
        plan = policygrad.read_config(mine)
        policygrad.train(plan.env, config=plan.config, out=first)
        policygrad.train(plan.env, start=first, total_steps=4096, out=second)
        run = policygrad.resume(second, total_steps=6144, checkpoint_seconds=5)
        return {k: policygrad.evaluate(run, episodes=20, **v) for k, v in ELSEWHERE.items()}


if __name__ == "__main__":
    print({name: result.stochastic.quantiles for name, result in main().items()})
