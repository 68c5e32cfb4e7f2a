"""How good is the policy that the command trains? Tasks × seeds, default settings, as a table.

Every cell runs `policygrad train` and `policygrad evaluate` as a user would. Reported are the
stochastic policy's mean return over 100 evaluation episodes, and the environment steps at which
training first reached the threshold.

    python benchmarks/learning.py [--seeds 5] [--json FILE]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TASKS = (
    ("CartPole-v1", 100_000, 475.0),
    ("CartPole-v1", 250_000, 475.0),
    ("gymnax/CartPole-v1", 100_000, 475.0),
    ("gymnax/CartPole-v1", 250_000, 475.0),
    ("CartPole-v0", 150_000, 195.0),
    ("Pendulum-v1", 500_000, -250.0),
)


def command(*arguments: str) -> dict:
    """Run the command with --json; what it printed."""
    name = shutil.which("policygrad", path=str(Path(sys.executable).parent)) or "policygrad"
    done = subprocess.run(
        [name, *arguments, "--json"], check=True, capture_output=True, text=True
    )  # fmt: skip
    return json.loads(done.stdout)


def cell(env: str, steps: int, threshold: float, seed: int) -> dict:
    """One training run and its evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        summary = command(
            "train", env, "--seed", str(seed), "--total-steps", str(steps), "--out", run
        )
        result = command("evaluate", run)
        lines = map(json.loads, Path(run, "metrics.jsonl").read_text().splitlines())
        reached = (
            m["env_steps"]
            for m in lines
            if m["return_mean"] is not None and m["return_mean"] >= threshold
        )
        return {
            "env": env,
            "steps": summary["env_steps"],
            "seed": seed,
            "deterministic": result["deterministic"]["mean"],
            "stochastic": result["stochastic"]["mean"],
            "ci95": result["stochastic"]["ci95"],
            "reached_at": next(reached, None),
            "seconds": summary["seconds"],
        }


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cells = []
    print("| task | steps | reached | mean return by seed | threshold passed at steps |")
    print("|---|---|---|---|---|")
    for env, steps, threshold in TASKS:
        row = [cell(env, steps, threshold, seed) for seed in range(options.seeds)]
        cells += row
        passed = sum(c["stochastic"] >= threshold for c in row)
        returns = ", ".join(f"{c['stochastic']:.1f}" for c in row)
        first = ", ".join(f"{c['reached_at']:,}" if c["reached_at"] else "–" for c in row)
        print(
            f"| {env} | {steps:,} | ≥ {threshold:g}: {passed} of {len(row)} "
            f"| {returns} | {first} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(cells, indent=1))


if __name__ == "__main__":
    main()
