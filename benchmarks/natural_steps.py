"""What does one natural step gain, and would another estimator, damping or batch gain more?

To first order a step along x whose KL is δ raises the return J by

    √(2δ) g·x / √(xᵀF x),   g = ∇J,  F the Fisher information.

Steps are computed from independent batches of one policy, that of a run; g and F are estimated from
other batches than x. g is that of the estimator in use, in units of the return. Every estimator has
a critic of its own, fitted to the same batches beforehand.

The cosine is that of two steps from independent batches, in the metric of F. For a step along the
mean, its square root says how well one points at the truth.

    python benchmarks/natural_steps.py RUN [--task Humanoid-v5] [--batches 32] [--seed 1] \
        [--others]
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import policygrad
from policygrad.algorithms.base import Batch
from policygrad.algorithms.learner import Learner, LearnerState, RefitRequest
from policygrad.algorithms.natural import Natural
from policygrad.algorithms.policy_change import fisher_product
from policygrad.core.modules import split
from policygrad.core.trajectories import Trajectories, join_lanes
from policygrad.gradients.forms import LambdaReturn
from policygrad.gradients.scores import policy_gradient
from policygrad.training.assembly import Task, assemble
from policygrad.training.config import TrainConfig
from policygrad.training.given import Given

LANES, STEPS, TOGETHER = 16, 128, 8  # of a batch; batches that are collected at once
WARM_UP, HELD = 16, 4  # batches for the critics, and for the length of steps
IN_USE = (0.995, 0.95)  # γ, λ
OTHERS = ((0.995, 0.9), (0.995, 1.0), (0.98, 0.95), (0.97, 0.9), (0.95, 0.9))  # γ, λ
DAMPING = (0.01, 1.0, 10.0)
SIZES = (1, 4, 8)  # of a step, batches
TARGET_KL = 0.03


@dataclass(frozen=True)
class Record:
    """Batches of one policy.

    Attributes:
        policy: the policy.
        warm_up, batches: one record a batch, for the critics and for the steps.
        held: for the length of steps, one record.
        length: mean length of an episode, steps.
    """

    policy: Any
    warm_up: list[Trajectories]
    batches: list[Trajectories]
    held: Trajectories
    length: float


def collected(collector: Any, policy: Any, key: Any, count: int) -> Record:
    """So many batches, and those for the critics and for the length of steps.

    Many lanes are collected at once, which is faster, and cut into batches of a few.
    """
    wanted = WARM_UP + count + HELD
    keys = jax.random.split(key, 1 + -(-wanted // TOGETHER))
    wide = [jax.device_get(collector.collect(policy, k)) for k in keys][1:]  # away from starts
    ends = sum(int(np.sum((r.terminated | r.truncated) & r.valid)) for r in wide)
    steps = sum(int(np.sum(r.valid)) for r in wide)

    def lanes(record: Trajectories, first: int) -> Trajectories:
        return jax.tree.map(lambda x: x[:, first : first + LANES], record)

    records = [lanes(r, LANES * i) for r in wide for i in range(TOGETHER)][:wanted]
    return Record(
        policy, records[:WARM_UP], records[WARM_UP:-HELD], join_lanes(records[-HELD:]), steps / ends
    )


def with_critic(learner: Learner, state: LearnerState, record: Record) -> LearnerState:
    """The state after critic and reward scale have seen the first batches, the policy held."""
    weigh, refit = jax.jit(Learner.weigh), jax.jit(Learner.refit)
    for number, batch in enumerate(record.warm_up):
        scale, after, weights = weigh(learner, state, batch)
        returns = weights.returns * (after.factor / scale.factor)
        request = RefitRequest(
            jax.random.key(number), record.policy, after.scaled(batch), returns, None
        )
        fitted = refit(learner, state.estimator, request)
        state = state._replace(estimator=fitted.estimator, reward_scale=after)
    return state


def gradients(learner: Learner, state: LearnerState, record: Record) -> np.ndarray:
    """`[M, k]`: the gradient of every batch; in units of the return if it is not normalised."""

    @jax.jit
    def gradient(learner: Learner, state: LearnerState, batch: Trajectories) -> Any:
        scale, _, weights = learner.weigh(state, batch)
        found, _ = ravel_pytree(policy_gradient(state.policy, batch, weights.psi))
        return found if learner.estimator.normalise_advantages else found / scale.factor

    return np.stack([gradient(learner, state, batch) for batch in record.batches])


@jax.jit
def step(algorithm: Natural, policy: Any, gradient: Any, batch: Trajectories) -> Any:
    """x of a batch, or of several side by side, flat."""
    _, as_tree = ravel_pytree(split(policy)[0])
    given = Batch(batch, batch.rewards, jnp.float32(1.0))
    return ravel_pytree(algorithm.natural_step(policy, as_tree(gradient), given)[0])[0]


@jax.jit
def curved(policy: Any, x: Any, held: Trajectories) -> Any:
    """F x on the states of other batches, flat."""
    _, as_tree = ravel_pytree(split(policy)[0])
    return ravel_pytree(fisher_product(policy, as_tree(x), held))[0]


def products(
    record: Record, gradient: np.ndarray, truth: np.ndarray, damping: float, size: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Of groups of `size` batches: `[n, n]` gain of the step of each by the gradient of each, and
    cosine of each two steps; and N ĝᵀ(F + damping)⁻¹ĝ, for N steps. With advantages of unit size
    noise has the covariance F/N, so that this counts the directions that noise moves in."""
    algorithm = Natural(damping=damping)
    firsts = range(0, len(record.batches) - size + 1, size)
    of, true = (np.stack([x[i : i + size].mean(axis=0) for i in firsts]) for x in (gradient, truth))
    steps = [
        step(algorithm, record.policy, g, join_lanes(record.batches[i : i + size]))
        for g, i in zip(of, firsts, strict=True)
    ]
    x = np.stack(steps).astype(np.float64)
    image = np.stack([curved(record.policy, s, record.held) for s in steps]).astype(np.float64)
    length = np.sqrt(np.sum(x * image, axis=1))
    gain = record.length * np.sqrt(2 * TARGET_KL) * (x @ true.T) / length[:, None]
    cosine = (x @ image.T) / np.outer(length, length)
    rows = float(np.sum(record.batches[0].valid)) * size
    return gain, cosine, float(np.mean(np.sum(of * x, axis=1)) * rows)


def between(products: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean over pairs of different groups; and the same without each group."""

    def mean(kept: np.ndarray) -> float:
        part = products[np.ix_(kept, kept)]
        return float((part.sum() - np.trace(part)) / (len(kept) * (len(kept) - 1)))

    every = np.arange(len(products))
    return mean(every), np.array([mean(np.delete(every, i)) for i in every])


def error(without: np.ndarray) -> float:
    """The standard error of a statistic from its values without each group (jackknife)."""
    return float(np.sqrt((len(without) - 1) * np.var(without)))


def rows(record: Record, learner: Learner, state: LearnerState, *, others: bool) -> Iterator[str]:
    """The table's rows: of what is in use, and of other estimators and dampings if asked for."""

    def found(pair: tuple[float, float], normalise: bool = True) -> np.ndarray:
        discount, gae_lambda = (jnp.float32(x) for x in pair)
        estimator = replace(
            learner.estimator, discount=discount, form=LambdaReturn(gae_lambda),
            normalise_advantages=normalise,
        )  # fmt: skip
        own = replace(learner, estimator=estimator)
        return gradients(own, with_critic(own, state, record), record)

    truth, usual, damping = found(IN_USE, normalise=False), found(IN_USE), 0.1
    per_step = int(np.sum(record.batches[0].valid))
    trials = [(IN_USE, usual, damping, size) for size in SIZES]
    if others:
        trials += [(IN_USE, usual, other, size) for other in DAMPING for size in SIZES[:2]]
        trials += [(pair, None, damping, 1) for pair in OTHERS]
    first: tuple[float, np.ndarray] | None = None
    for pair, gradient, damping, size in trials:
        gradient = found(pair) if gradient is None else gradient
        gain, cosine, directions = products(record, gradient, truth, damping, size)
        value, without = between(gain)
        first = first or (value, without)
        alike, of_alike = between(cosine)
        more = ""
        if len(without) == len(first[1]):
            more = f"{value - first[0]:+.2f} ± {error(without - first[1]):.2f}"
        yield (
            f"| {pair[0]:g}, {pair[1]:g} | {damping:g} | {size * per_step:,} | {directions:,.0f} "
            f"| {alike:.4f} ± {error(of_alike):.4f} | {value:.2f} ± {error(without):.2f} | {more} |"
        )


def main() -> None:
    """Print one row for each estimator, damping and size of batch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--task", default="Humanoid-v5")
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--others", action="store_true", help="other estimators and dampings too")
    arguments = parser.parse_args()
    config = TrainConfig(
        algorithm="natural", seed=arguments.seed, num_envs=TOGETHER * LANES,
        batch_steps=TOGETHER * LANES * STEPS,
    )  # fmt: skip
    assembly = assemble(Task.of(arguments.task, {}), config, Given())
    policy = policygrad.load(arguments.run).policy
    key = jax.random.key(arguments.seed)
    record = collected(assembly.collector, policy, key, arguments.batches)
    seen = jax.tree.map(lambda x: x[0, 0], record.held.observations)
    state = assembly.learner.init(key, policy, seen, LANES)
    print(f"{arguments.task}: episodes of {record.length:.0f} steps; ± one standard error")
    print("| γ, λ | damping | steps | directions | cosine | gain of a step | beside the first |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in rows(record, assembly.learner, state, others=arguments.others):
        print(row, flush=True)


if __name__ == "__main__":
    main()
