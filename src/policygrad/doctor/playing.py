"""Episodes that a run's return is compared with: of random actions, and by the policy's mode."""

import jax
import numpy as np

from policygrad.core.errors import NonFiniteError, PolicygradError
from policygrad.diagnostics.spread import Spread
from policygrad.diagnostics.standing import Beside
from policygrad.policies.meeting import Policy
from policygrad.policies.uniform import UniformPolicy
from policygrad.rollout.source import Source
from policygrad.spaces import action_space_of

EPISODES = 64  # at most
SAME = "the policy's mode: every action that was sampled was the most probable one"
RANDOM, MODE = 0xFA1, 0xFA2  # distinguish the keys of these episodes from all others of the seed


def play_at_random(source: Source, seed: int, episodes: int, limit: int) -> Beside | str:
    """The returns of uniformly random actions, or why they are not known.

    Args:
        source: of the environment, which stays open.
        seed: of environments and actions.
        episodes: how many, 64 at most.
        limit: steps after which an episode is stopped.
    """
    policy = UniformPolicy(action_space_of(source.action_space))
    what = "random actions, which the return is compared with"
    return _played(source, policy, (seed, RANDOM), episodes, limit, what, greedy=False)


def play_by_mode(
    source: Source, policy: Policy, seed: int, episodes: int, limit: int
) -> Beside | str:
    """The returns of a policy's most probable actions, or why they are not known.

    Args:
        source, seed, episodes, limit: as in `play_at_random`.
        policy: whose mode acts.
    """
    what = "the policy's mode, which the return is compared with"
    return _played(source, policy, (seed, MODE), episodes, limit, what, greedy=True)


def _played(
    source: Source,
    policy: Policy,
    seeds: tuple[int, int],
    episodes: int,
    limit: int,
    what: str,
    *,
    greedy: bool,
) -> Beside | str:
    """The returns of a policy; or what is not known, and why."""
    key = jax.random.fold_in(jax.random.key(seeds[0]), seeds[1])
    try:
        played = source.play(
            policy, key, episodes=min(episodes, EPISODES), max_steps=limit, greedy=greedy
        )
        if not np.isfinite(played.returns).all():
            raise NonFiniteError("an observation or a reward was NaN or infinite")
    except PolicygradError as error:
        # without the environment's own traceback
        return f"{what}: {str(error).splitlines()[0]}"
    return Beside(
        episodes=len(played.returns),
        unfinished=int(np.sum(played.unfinished)),
        returns=Spread.of(played.returns),
        lengths=Spread.of(played.lengths),
    )
