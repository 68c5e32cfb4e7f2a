"""What a gradient through convolutions costs on this machine: XLA's derivatives, and the library's.

    python benchmarks/convolutions.py [--rows 2048] [--rounds 5]

Rows a second of the networks `small` and `nature` on pictures of 84×84×4 bytes, in the chunks that
training takes: forward, and the gradient of a policy's log-probabilities. Medians of the rounds,
taken in turns.
"""

import argparse
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from common import in_turns, seconds_of
from gymnasium import spaces
from policygrad.networks import nature, network_policy, small

from policygrad.core.modules import combine, split
from policygrad.devices.chunks import sum_and_map_in_chunks, sum_in_chunks
from policygrad.policies import pictures

SPACE = spaces.Box(0, 255, (4, 84, 84), np.uint8)
ACTIONS = spaces.Discrete(6)


def by_xla(picture, kernel, stride=1):
    """The same convolution, differentiated by XLA."""
    return jax.lax.conv_general_dilated(
        picture[None], kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def programs(policy, rows):
    """Forward and gradient, compiled."""
    differentiated, rest = split(policy)

    def log_probs(differentiated, some):
        of_row = lambda x: combine(differentiated, rest)(x).log_prob(0)  # noqa: E731
        return jnp.sum(jax.vmap(of_row)(some))

    def forward(some):
        return (), jax.vmap(lambda x: policy(x).logits)(some)

    gradient = lambda some: jax.grad(log_probs)(differentiated, some)  # noqa: E731
    found = {
        "forward": jax.jit(lambda rows: sum_and_map_in_chunks(forward, rows)[1]),
        "gradient": jax.jit(lambda rows: sum_in_chunks(gradient, rows)),
    }
    for program in found.values():
        jax.block_until_ready(program(rows))
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = jnp.asarray(rng.integers(0, 256, (asked.rows, *SPACE.shape), np.uint8))
    calls = {}
    for name, architecture in (("small", small()), ("nature", nature())):
        policy = network_policy(jax.random.key(0), SPACE, ACTIONS, network=architecture)
        ours = programs(policy, rows)
        with mock.patch.object(pictures, "convolve", by_xla):
            theirs = programs(policy, rows)
        for whose, found in (("XLA", theirs), ("policygrad", ours)):
            for what, program in found.items():
                calls[f"{name}, {what}, {whose}"] = lambda program=program: seconds_of(
                    lambda: jax.block_until_ready(program(rows))
                )
    found = {k: asked.rows / np.median(v) for k, v in in_turns(calls, asked.rounds).items()}
    if asked.json:
        print(json.dumps(found))
        return
    for what, speed in found.items():
        print(f"{what:32} {speed:10,.0f} rows/s")


if __name__ == "__main__":
    main()
