"""Small logs as other libraries write them, made in a folder."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

ROWS = 12
SB3 = {
    "rollout/ep_len_mean": np.linspace(20, 200, ROWS),
    "rollout/ep_rew_mean": np.linspace(20, 200, ROWS),
    "time/iterations": np.arange(1, ROWS + 1),
    "time/total_timesteps": 2048 * np.arange(1, ROWS + 1),
    "train/approx_kl": np.full(ROWS, 0.01),
    "train/clip_fraction": np.full(ROWS, 0.1),
    "train/entropy_loss": np.linspace(-0.69, -0.5, ROWS),
    "train/explained_variance": np.linspace(0.0, 0.7, ROWS),
    "train/learning_rate": np.full(ROWS, 3e-4),
    "train/value_loss": np.linspace(60, 20, ROWS),
}
NOT_IN_THE_FIRST_ROW = "train/"


def sb3_rows(**changes: Any) -> list[dict[str, Any]]:
    """Rows of a healthy run of PPO on CartPole; changes are by the last part of a name."""
    columns = dict(SB3)
    for name, values in changes.items():
        (whole,) = [k for k in columns if k.endswith(f"/{name}")]
        columns[whole] = np.broadcast_to(values, ROWS)
    return [
        {
            name: float(values[row])
            for name, values in columns.items()
            if row or not name.startswith(NOT_IN_THE_FIRST_ROW)
        }
        for row in range(ROWS)
    ]


def progress(folder: Path, rows: list[dict[str, Any]], name: str = "progress.csv") -> Path:
    """The rows as a CSV file; what a row lacks is an empty cell."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def events(
    folder: Path, scalars: dict[str, list[tuple[int, float]]], texts: dict[str, str] | None = None
) -> Path:
    """A file of TensorBoard events, by another package than the one that reads it."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for tag, pairs in scalars.items():
            for step, value in pairs:
                writer.add_scalar(tag, value, step)
        for tag, text in (texts or {}).items():
            writer.add_text(tag, text)
    return folder


def cleanrl(folder: Path, **settings: Any) -> Path:
    """A run of CleanRL's PPO of ten updates, with four episodes in each."""
    given = {
        "gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.01, "vf_coef": 0.5, "num_envs": 4,
        "num_steps": 128, "learning_rate": 2.5e-4, "env_id": "CartPole-v1", **settings,
    }  # fmt: skip
    steps = [512 * (i + 1) for i in range(10)]
    episodes = [128 * (i + 1) for i in range(40)]
    table = "\n".join(["|param|value|", "|-|-|", *(f"|{k}|{v}|" for k, v in given.items())])
    scalars = {
        "charts/episodic_return": [(s, 20.0 + s / 100) for s in episodes],
        "charts/episodic_length": [(s, 20.0 + s / 100) for s in episodes],
        "charts/learning_rate": [(s, 2.5e-4) for s in steps],
        "losses/approx_kl": [(s, 0.01) for s in steps],
        "losses/entropy": [(s, 0.69 - s / 50_000) for s in steps],
        "losses/explained_variance": [(s, s / 10_000) for s in steps],
        "losses/value_loss": [(s, 30.0 - s / 300) for s in steps],
    }
    return events(folder, scalars, {"hyperparameters": table})
