"""Do intervals from sketched gradients cover? Finite MDPs with a network, all values known exactly.

The logits of a gallery task are those of a tanh network of some 5,000 parameters φ. With J its
Jacobian, the gradient by φ is Jᵀ times that by the logits, whose moments the laboratory knows. In
every repetition fresh episodes are sampled, their gradients are sketched with a new seed, and each
interval is asked whether it holds the exact value. "none" measures the same without a sketch.

    python -m benchmarks.sketch_calibration [--tasks random chain ...] [--repetitions 200]
        [--episodes 1024] [--widths 0.01 0.05 0.2] [--all] [--json FILE]
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.calibration import BATCH, MAX_STEPS, _episodes_for, covers, task_of
from policygrad import baselines, estimators, scores
from policygrad.diagnostics import (
    CountSketch,
    Measured,
    compare_gradients,
    lengths,
    noise_of_gradients,
)
from policygrad.diagnostics.cosines import predicted_cosine
from policygrad.rollout.episodes import collect_episodes
from policygrad.tabular import as_environment, gallery, moments

lengths.DRAWS = 16  # of a prediction that takes longest and has no interval
TASKS = ("random", "chain", "gridworld")
HIDDEN = 64
NONE = "none"


def network(states: int, actions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[S, A]` of a tanh network of two layers on one-hot states, and ∂logits/∂φ `[SA, d]`.

    Source: backpropagation by hand, so that the benchmark depends on no other derivative.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(HIDDEN, states))
    second = rng.normal(size=(HIDDEN, HIDDEN)) / np.sqrt(HIDDEN)
    last = rng.normal(size=(actions, HIDDEN)) / np.sqrt(HIDDEN)
    one = np.tanh(first)  # [H, S]
    two = np.tanh(second @ one)
    by_two = last[:, :, None] * (1 - two**2)  # [A, H, S]
    by_one = np.einsum("ahs,hk->aks", by_two, second) * (1 - one**2)
    eye = np.eye(states)
    parts = (
        np.einsum("aks,st->sakt", by_one, eye),
        np.einsum("ahs,ks->sahk", by_two, one),
        np.einsum("ab,hs->sabh", np.eye(actions), two),
    )
    rows = [x.reshape(states * actions, -1) for x in parts]
    return (last @ two).T, np.concatenate(rows, axis=1)


class Case:
    """A task with a network's logits, three estimators, and what is exactly known of them."""

    def __init__(self, name: str, episodes: int) -> None:
        task = task_of(name)
        shape = np.shape(task.policy.theta)
        logits, self.jacobian = network(shape[-2], shape[-1], seed=1)
        assert len(shape) == 2
        self.policy = replace(task.policy, theta=jnp.asarray(logits))
        self.mdp, self.episodes = task.mdp, episodes
        discount = gallery.DISCOUNTS.get(name, 1.0)
        alive = np.asarray(task.mdp.edges.alive)
        table = baselines.table(alive * np.random.default_rng(0).normal(size=task.mdp.states) / 2)
        self.estimators = {
            "based": estimators.reward_to_go(discount=discount, baseline=table),
            "gae": estimators.gae(discount=discount, gae_lambda=0.5, critic=table),
        }
        # products of gradients by φ, in as few numbers as there are logits
        values, vectors = np.linalg.eigh(self.jacobian @ self.jacobian.T)
        self.root = vectors * np.sqrt(np.maximum(values, 0.0))
        self.sample = self._compiled(name)

    def truth(self) -> dict[str, float]:
        """name -> exact value."""
        found = {
            k: moments(self.mdp, self.policy, e, covariance=True)
            for k, e in self.estimators.items()
        }
        mean = {k: x.mean.ravel() @ self.root for k, x in found.items()}
        covariance = {k: self.root.T @ x.covariance @ self.root for k, x in found.items()}
        variance = {k: float(np.trace(x)) for k, x in covariance.items()}
        g, b = mean["based"], mean["gae"]
        norm2 = float(g @ g)
        self.snr = np.sqrt(norm2 / variance["based"])
        self.along = float(g @ covariance["based"] @ g / norm2 / variance["based"])
        bias2 = float(np.sum((b - g) ** 2))
        batch = float(b @ b) + variance["gae"] / BATCH
        return {
            "variance": variance["based"],
            "squared norm": norm2,
            "SNR": self.snr,
            "noise scale": self.snr**-2,
            "share along": self.along,
            "episodes for 0.5": _episodes_for(0.5, self.snr, self.along),
            "episodes for 0.9": _episodes_for(0.9, self.snr, self.along),
            "GAE variance": variance["gae"],
            "GAE variance ratio": variance["gae"] / variance["based"],
            "GAE bias²": bias2,
            "GAE MSE": bias2 + variance["gae"] / BATCH,
            "GAE cosine": float(b @ g / np.sqrt(norm2 * batch)),
        }

    def _compiled(self, name: str) -> Any:
        env = as_environment(self.mdp)
        steps = env.time_limit or MAX_STEPS.get(name, 16)

        @jax.jit
        def sample(key: Any) -> Any:
            batch = collect_episodes(env, self.policy, key, episodes=self.episodes, max_steps=steps)
            record = batch.trajectories
            found = {}
            for k, e in self.estimators.items():
                psi = e.weights(e.init(key, jnp.zeros((), int)), record).psi
                tree = scores.episode_gradients(self.policy, record, psi)
                found[k] = jax.tree.leaves(tree)[0].reshape(self.episodes, -1)
            return found

        return sample


def measured(
    rows: dict[str, np.ndarray], sketch: CountSketch | None
) -> tuple[dict[str, Measured], Any]:
    """name -> interval, and the cosines."""
    noise = noise_of_gradients(rows["based"], sketch=sketch)
    compared = compare_gradients(rows, reference="based", batch_episodes=BATCH, sketch=sketch)
    x, gae = noise.total, compared.estimators["gae"]
    return {
        "variance": x.variance,
        "squared norm": x.squared_norm,
        "SNR": x.signal_to_noise,
        "noise scale": x.noise_scale,
        "share along": x.along,
        "episodes for 0.5": x.episodes_for[0.5],
        "episodes for 0.9": x.episodes_for[0.9],
        "GAE variance": gae.variance,
        "GAE variance ratio": gae.variance_ratio,
        "GAE bias²": gae.squared_bias,
        "GAE MSE": gae.mean_squared_error,
        "GAE cosine": gae.cosine,
    }, noise.cosines


def coverage(
    case: Case, widths: dict[str, int], repetitions: int, seed: int = 0
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Width -> quantity -> share of the intervals that cover; and quantity -> exact value.

    The exact mean cosine of a batch is not known; the mean of what is measured without a sketch,
    over all repetitions, stands in.
    """
    found: dict[str, dict[str, list[Measured]]] = {name: {} for name in (NONE, *widths)}
    size = case.jacobian.shape[1]
    with jax.enable_x64(True):
        exact = case.truth()
        for i, key in enumerate(jax.random.split(jax.random.key(seed), repetitions)):
            by_logits = {k: np.asarray(x) for k, x in case.sample(key).items()}
            for name, into in found.items():
                sketch, to = None, case.root
                if name != NONE:
                    sketch = CountSketch(size, widths[name], seed=1000 * seed + i)
                    to = sketch(case.jacobian)
                intervals, curve = measured({k: g @ to for k, g in by_logits.items()}, sketch)
                for j, n in enumerate(curve.episodes):
                    for kind, of in (
                        ("between", curve.between),
                        ("truth", curve.with_truth),
                        ("predicted", curve.with_truth_predicted),
                    ):
                        intervals[f"cosine {kind} N={n:.0f}"] = of.map(lambda x, j=j: x[j])
                    predicted = predicted_cosine(case.snr, np.array([n]), case.along)
                    exact[f"cosine predicted N={n:.0f}"] = float(predicted[0])
                for k, x in intervals.items():
                    into.setdefault(k, []).append(x)
    for k, x in found[NONE].items():
        if k.startswith("cosine between"):
            exact[k] = float(np.mean([y.value for y in x]))
            exact[k.replace("between", "truth")] = float(np.sqrt(max(exact[k], 0.0)))
    return {
        name: {k: float(np.mean([covers(x, exact[k]) for x in v])) for k, v in of.items()}
        for name, of in found.items()
    }, exact


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--widths", type=float, nargs="+", default=[0.01, 0.05, 0.2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="print every quantity")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for task in arguments.tasks:
        start = time.perf_counter()
        case = Case(task, arguments.episodes)
        size = case.jacobian.shape[1]
        widths = {f"{100 * x:g} %": round(x * size) for x in arguments.widths}
        found, exact = coverage(case, widths, arguments.repetitions, arguments.seed)
        print(f"{task}, {size} parameters ({time.perf_counter() - start:.0f} s)", flush=True)
        for name, shares in found.items():
            outside = {k: v for k, v in shares.items() if not 0.9 <= v <= 0.99}
            print(
                f"  width {name} ({widths.get(name, size)}): {100 * min(shares.values()):.1f} to "
                f"{100 * max(shares.values()):.1f} %, mean "
                f"{100 * np.mean(list(shares.values())):.1f} %, {len(outside)} outside 90–99"
            )
            for k in shares if arguments.all else outside:
                print(f"    {k:<28}{100 * shares[k]:6.1f}   exact {exact[k]:.4g}")
            results.append({"task": task, "width": name, "coverage": shares})
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
