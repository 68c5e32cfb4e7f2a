"""Which observed numbers reach the normaliser's clip, and how much of the first layer is theirs?

For the policy of a run on 4,096 steps: the share of entries at the clip, the largest normalised
number, and the share of the variance of the first layer's sums W z, for the observed numbers up to
one and from there on (on Ant, numbers 27 to 104 are contact forces).

    python benchmarks/inputs.py RUN [--from-input 27] [--seed 1]
"""

import argparse

import jax
import numpy as np

import policygrad
from policygrad import environments
from policygrad.rollout import make_collector

LANES, STEPS = 16, 256


def main() -> None:
    """Print one line for each group of observed numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--task", default="Ant-v5")
    parser.add_argument("--from-input", type=int, default=27)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    policy = policygrad.load(arguments.run).policy
    made, *drawn = jax.random.split(jax.random.key(arguments.seed), 3)
    collector = make_collector(
        environments.make(arguments.task, LANES), policy, made, num_envs=LANES, steps=STEPS
    )
    collector.collect(policy, drawn[0])  # away from the start of the episodes
    record = collector.collect(policy, drawn[1])
    z = np.asarray(jax.vmap(jax.vmap(policy.normaliser))(record.observations))
    z = z.reshape(-1, z.shape[-1])
    weights = np.asarray(policy.network.weights[0])
    whole = (z @ weights.T).var(axis=0).sum()
    for chosen in (slice(None, arguments.from_input), slice(arguments.from_input, None)):
        part, variance = z[:, chosen], (z[:, chosen] @ weights[:, chosen].T).var(axis=0).sum()
        clipped = np.abs(part) >= policy.normaliser.clip
        print(
            f"{part.shape[1]} numbers, of which {np.sum(part.std(axis=0) == 0)} never change: "
            f"{clipped.mean():.3%} of the entries at the clip, in {clipped.any(axis=1).mean():.1%} "
            f"of the steps; largest {np.abs(part).max():.1f}; {variance / whole:.0%} of the first "
            "layer's variance"
        )


if __name__ == "__main__":
    main()
