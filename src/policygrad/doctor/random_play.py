"""Episodes of uniformly random actions, which a run's return is compared with."""

import jax
import numpy as np

from policygrad.core.errors import NonFiniteError, PolicygradError
from policygrad.diagnostics.spread import Spread
from policygrad.diagnostics.standing import AtRandom
from policygrad.policies.uniform import UniformPolicy
from policygrad.rollout.source import Source
from policygrad.spaces import action_space_of

EPISODES = 64  # at most
PLAYED = 0xFA1  # distinguishes the keys of these episodes from all others of the same seed


def play_at_random(source: Source, seed: int, episodes: int, limit: int) -> AtRandom | str:
    """The returns of random actions, or why they are not known.

    Args:
        source: of the environment, which stays open.
        seed: of environments and actions.
        episodes: how many, 64 at most.
        limit: steps after which an episode is stopped.
    """
    policy = UniformPolicy(action_space_of(source.action_space))
    key = jax.random.fold_in(jax.random.key(seed), PLAYED)
    try:
        played = source.play(
            policy, key, episodes=min(episodes, EPISODES), max_steps=limit, greedy=False
        )
        if not np.isfinite(played.returns).all():
            raise NonFiniteError("an observation or a reward was NaN or infinite")
    except PolicygradError as error:
        reason = str(error).splitlines()[0]  # without the environment's own traceback
        return f"random actions, which the return is compared with: {reason}"
    return AtRandom(
        episodes=len(played.returns),
        unfinished=int(np.sum(played.unfinished)),
        returns=Spread.of(played.returns),
        lengths=Spread.of(played.lengths),
    )
