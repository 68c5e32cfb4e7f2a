"""Two algorithms, five seeds each, in one picture: the interquartile mean and a 95 % band.

python examples/plot_seeds.py [steps] [directory]
"""

import sys
from pathlib import Path

import policygrad
from policygrad.cli import run as command

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/compared")
for algorithm in ("vanilla", "ppo"):
    policygrad.train_seeds(
        "gymnax/CartPole-v1",
        range(5),
        algorithm=algorithm,
        total_steps=steps,
        out=folder / algorithm,
    )
picture = folder / "compared.png"
command(["plot", str(folder / "vanilla"), str(folder / "ppo"), "--out", str(picture)])
