"""From an empty shell to a trained CartPole policy: whole processes, side by side with a peer.

Times `policygrad train CartPole-v1` with an empty and with a filled compilation cache, and
Stable-Baselines3's A2C doing as many environment steps, in turn and several times over.

    python -m venv .venv-sb3 && .venv-sb3/bin/pip install -r benchmarks/requirements-sb3.txt
    python benchmarks/cartpole_wall_time.py --peer .venv-sb3/bin/python [--repeats 3] [--json FILE]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

A2C = """
import sys
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
import torch
if len(sys.argv) > 2:
    torch.set_num_threads(int(sys.argv[2]))
env = make_vec_env("CartPole-v1", n_envs=8, seed=0)
A2C("MlpPolicy", env, seed=0, device="cpu").learn(int(sys.argv[1]))
"""


def timed(command: list[str], **environment: str) -> float:
    """Seconds that a whole process took."""
    started = time.perf_counter()
    subprocess.run(
        command, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def main() -> None:
    """Run everything and print a table of seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python with stable-baselines3; none: ourselves alone")
    parser.add_argument("--steps", type=int, default=250_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    command = [shutil.which("policygrad", path=str(Path(sys.executable).parent)) or "policygrad"]
    seconds: dict[str, list[float]] = {"policygrad, cold": [], "policygrad, warm": []}
    peer = options.peer and [options.peer, "-c", A2C, str(options.steps)]
    if peer:
        seconds |= {"SB3 A2C, 8 environments": [], "SB3 A2C, one thread": []}
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("policygrad, cold", "policygrad, warm"):
                train = ["train", "CartPole-v1", "--total-steps", str(options.steps)]
                out = ["--seed", str(repeat), "--out", f"{folder}/{name}"]
                seconds[name].append(timed([*command, *train, *out], XDG_CACHE_HOME=folder))
        if peer:
            seconds["SB3 A2C, 8 environments"].append(timed(peer))
            seconds["SB3 A2C, one thread"].append(timed([*peer, "1"]))
        print(f"round {repeat + 1} of {options.repeats} done", file=sys.stderr)

    median = {name: statistics.median(times) for name, times in seconds.items()}
    best_peer = min((median[n] for n in median if n.startswith("SB3")), default=None)
    print(f"CartPole-v1, {options.steps:,} environment steps, whole process, median of seconds")
    for name, times in seconds.items():
        ratio = "" if best_peer is None else f"{best_peer / median[name]:8.1f}× the faster A2C"
        spread = f"{min(times):.1f}–{max(times):.1f}"
        print(f"  {name:<26}{median[name]:7.2f} s   ({spread}){ratio}")
    if options.json:
        options.json.write_text(json.dumps({"steps": options.steps, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
