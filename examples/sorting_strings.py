"""Strings written token by token: a language model of one layer, trained as large ones are.

    python examples/sorting_strings.py [--estimators rloo grpo value] [--first-seed 1] [--seeds 5]

A prompt is four letters, the answer the same letters sorted, token by token. The policy is a gated
recurrent unit that reads the prompt and then what it has written itself. It is trained with eight
answers to each prompt, weighed by the others of their group (RLOO, GRPO), and with an answer to
each of as many prompts, weighed by a learned value. While it trains, the gradient's noise is
measured every ten updates. Prints a table and draws the curves.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from gymnasium import spaces

import policygrad

ANSWERS = 256  # a batch
GROUPS = {"batch_episodes": ANSWERS, "group_size": 8}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "rloo": {"estimator": "rloo", **GROUPS},
    "grpo": {"estimator": "grpo", **GROUPS},
    "value": {"estimator": "reward-to-go", "discount": 1.0, "batch_episodes": ANSWERS},
}
SHARED = {
    "algorithm": "vanilla", "memory": "gru", "step_size": 3e-3, "target_kl": 0.0,
    "entropy_coefficient": 0.05, "monitor_every": 10,
}  # fmt: skip
SHOWN = {"return_mean": "share of right places", "signal_to_noise": "signal to noise of a batch"}


class Sorting:
    """Letters in any order are answered by the same letters sorted, then the end token.

    An action is one token. The first observation shows the prompt, the later ones only the token
    before, so a policy has to remember. An answer ends with the end token, or after seven tokens.
    It is paid once, at its end: the share of places with the right token, the end among them.
    """

    letters, length = 5, 4
    end, nothing = letters, letters + 1
    time_limit = length + 3
    observation_space = spaces.Dict(
        {
            "prompt": spaces.MultiDiscrete([letters + 1] * length),
            "before": spaces.Discrete(letters + 2),
        }
    )
    action_space = spaces.Discrete(letters + 1)

    def reset(self, key):
        """-> (state, observation)."""
        prompt = jax.random.randint(key, (self.length,), 0, self.letters)
        state = {"wanted": jnp.append(jnp.sort(prompt), self.end), "at": 0, "right": 0}
        return jax.tree.map(jnp.int32, state), {"prompt": prompt, "before": jnp.int32(self.nothing)}

    def step(self, key, state, token):
        """-> (state, observation, reward, terminated, truncated)."""
        wanted, at = state["wanted"], state["at"]
        hit = (at <= self.length) & (wanted[jnp.minimum(at, self.length)] == token)
        right = state["right"] + hit
        last = (token == self.end) | (at + 1 == self.time_limit)
        reward = jnp.where(last, right / (self.length + 1), 0.0)
        hidden = jnp.full(self.length, self.letters, jnp.int32)
        state = {"wanted": wanted, "at": at + 1, "right": right}
        return state, {"prompt": hidden, "before": token}, reward, last, jnp.bool_(False)


def trained(env: Sorting, name: str, seed: int, tokens: int) -> dict[str, Any]:
    """One run: its curves, and the mean return of 1,000 fresh answers."""
    run = policygrad.train(env, seed=seed, total_steps=tokens, **ESTIMATORS[name], **SHARED)
    measured = [m for m in run.metrics if m.get("signal_to_noise") is not None]
    curves = {key: [m[key] for m in measured] for key in ("env_steps", *SHOWN)}
    played = policygrad.evaluate(run, episodes=1000, seed=10_000 + seed)
    return {"estimator": name, "seed": seed, "return": played.stochastic.mean, **curves}


def at(line: dict[str, Any], key: str, share: float, tokens: int) -> float:
    """The mean of a curve around a share of the run."""
    steps = np.array(line["env_steps"]) / tokens
    return float(np.mean(np.array(line[key])[np.abs(steps - share) <= 0.1]))


def table(lines: list[dict[str, Any]], tokens: int) -> None:
    """Print the means over seeds, with the least and the greatest."""

    def spread(numbers: list[float], form: str) -> str:
        return f"{np.mean(numbers):{form}} ({min(numbers):{form}}–{max(numbers):{form}})"

    print("| estimator | return at the end | signal to noise at 20 % | at 50 % | at 90 % |")
    print("|---|---|---|---|---|")
    for name in dict.fromkeys(line["estimator"] for line in lines):
        of_name = [line for line in lines if line["estimator"] == name]
        ratios = [[at(x, "signal_to_noise", s, tokens) for x in of_name] for s in (0.2, 0.5, 0.9)]
        cells = [spread([line["return"] for line in of_name], ".3f")]
        print("|", " | ".join([name, *cells, *(spread(r, ".2f") for r in ratios)]), "|")


def draw(lines: list[dict[str, Any]], out: Path) -> None:
    """Draw a thin curve for each seed."""
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(10, 4), layout="constrained")
    names = list(dict.fromkeys(line["estimator"] for line in lines))
    for axis, (key, label) in zip(axes, SHOWN.items(), strict=True):
        for line in lines:
            smooth = np.convolve(line[key], np.ones(5) / 5, "valid")
            axis.plot(
                line["env_steps"][2:-2], smooth, color=f"C{names.index(line['estimator'])}",
                alpha=0.6, label=line["estimator"],
            )  # fmt: skip
        axis.set(xlabel="tokens", ylabel=label)
    handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
    axes[0].legend(handles.values(), handles.keys())
    figure.savefig(out, dpi=150)


def main() -> None:
    """Parse the command line, train, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--estimators", nargs="+", choices=list(ESTIMATORS), default=[*ESTIMATORS])
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("sorting_strings.png"))
    asked = parser.parse_args()
    env, lines = Sorting(), []
    for name in asked.estimators:
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            lines.append(trained(env, name, seed, asked.tokens))
            print(f"{name}, seed {seed}: {lines[-1]['return']:.3f}", flush=True)
    table(lines, asked.tokens)
    draw(lines, asked.out)
    asked.out.with_suffix(".json").write_text(json.dumps(lines))


if __name__ == "__main__":
    main()
