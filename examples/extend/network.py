"""An architecture of one's own: layers with a shortcut around each, shared by policy and critic.

`build` makes a network for features of these shapes; `to_json` is saved with the policy, and
`policygrad.load(path, network=Residual)` makes it again.
"""

from dataclasses import asdict, dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

import policygrad
from policygrad.spaces import flat


class ResidualNetwork(eqx.Module):
    first: eqx.nn.Linear
    blocks: list[eqx.nn.Linear]
    last: eqx.nn.Linear

    def __call__(self, features: Any) -> jax.Array:
        x = jnp.tanh(self.first(flat(features)))
        for block in self.blocks:
            x = x + jnp.tanh(block(x))
        return self.last(x)


@dataclass(frozen=True)
class Residual:
    width: int = 32
    depth: int = 2

    def build(
        self, key: Any, example: Any, outputs: int, *, last_scale: float = 1.0
    ) -> ResidualNetwork:
        first, last, *rest = jax.random.split(key, 2 + self.depth)
        inputs = flat(example).shape[0]
        end = eqx.nn.Linear(self.width, outputs, key=last)
        return ResidualNetwork(
            eqx.nn.Linear(inputs, self.width, key=first),
            [eqx.nn.Linear(self.width, self.width, key=k) for k in rest],
            jax.tree.map(lambda x: x * last_scale, end),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def main(total_steps: int = 60_000) -> float:
    """Train CartPole with it; the mean return of the last hundred episodes."""
    run = policygrad.train("CartPole-v1", network=Residual(), total_steps=total_steps)
    return run.summary["return_mean"]


if __name__ == "__main__":
    print(main())
