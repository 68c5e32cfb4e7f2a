"""A baseline of one's own: least squares on random cosines (Rahimi & Recht 2007)."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from policygrad.baselines import Regression

import policygrad
from policygrad import estimators


class Cosines(NamedTuple):
    frequencies: Any
    phases: Any
    coefficients: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RandomCosines(Regression):
    features: int = field(default=64, metadata={"static": True})
    ridge: float = 1e-3

    may_bootstrap = True

    def init(self, key: Any, observation: Any) -> Cosines:
        first, second = jax.random.split(key)
        inputs = jnp.ravel(jnp.asarray(observation, jnp.float32)).shape[0]
        return Cosines(
            jax.random.normal(first, (self.features, inputs)),
            jax.random.uniform(second, (self.features,), maxval=2 * jnp.pi),
            jnp.zeros(self.features),
        )

    def read(self, state: Cosines, observation: Any) -> jax.Array:
        seen = jnp.ravel(jnp.asarray(observation, jnp.float32))
        return jnp.cos(state.frequencies @ seen + state.phases)

    def value(self, state: Cosines, observation: Any, time: Any) -> jax.Array:
        return self.read(state, observation) @ state.coefficients

    def regress(self, state, key, trajectories, targets, weights) -> Cosines:
        read = jax.vmap(jax.vmap(lambda x: self.read(state, x)))(trajectories.observations)
        x, y, w = read.reshape(-1, self.features), targets.reshape(-1), weights.reshape(-1)
        gram = (x * w[:, None]).T @ x / jnp.sum(w) + self.ridge * jnp.eye(self.features)
        solved = jax.scipy.linalg.solve(gram, x.T @ (w * y) / jnp.sum(w), assume_a="pos")
        return state._replace(coefficients=solved)


def main(total_steps: int = 60_000) -> float:
    """Train CartPole with it as critic; the mean return of the last hundred episodes."""
    estimator = estimators.gae(critic=RandomCosines(), normalise_advantages=True)
    run = policygrad.train("CartPole-v1", estimator=estimator, total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())
