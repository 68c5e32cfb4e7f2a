"""Callbacks: evaluate while it trains, keep the best policy, and stop when it is good enough.

python examples/callbacks.py [steps] [directory]
"""

import sys

import policygrad
from policygrad import callbacks

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
out = sys.argv[2] if len(sys.argv) > 2 else "runs/callbacks"


def tell(run):
    """A callback of one's own: a mapping of the metrics, with the policy and more."""
    run.log(share_of_run=run["env_steps"] / steps)
    if run["update"] % 10 == 0:
        print(run["env_steps"], "steps, entropy", run["entropy"])


run = policygrad.train("CartPole-v1", total_steps=steps, out=out, on_update=[
    tell,
    callbacks.evaluate_every(20_000, episodes=10),
    callbacks.keep_best("evaluation/return_mean"),
    callbacks.stop_at_return(475, over=20),
])  # fmt: skip
print(run.summary["stopped_by"], run.summary["env_steps"])
best = policygrad.load(f"{out}/best")
print("best:", policygrad.evaluate(best, "CartPole-v1", episodes=10).deterministic.mean)
