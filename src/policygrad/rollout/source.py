"""Sources: all that training, evaluation and diagnostics need of an environment.

Lanes on the host, EnvPool and JAX-native environments are each a source; so is what an engine of
your own opens.
"""

import inspect
from typing import Any, Protocol, runtime_checkable

from gymnasium import spaces
from jaxtyping import PRNGKeyArray

from policygrad.core.errors import UserError
from policygrad.environments.protocol import CompiledEnvironment
from policygrad.policies.meeting import Policy
from policygrad.rollout.collectors import Collector
from policygrad.rollout.play import Played


@runtime_checkable
class Source(Protocol):
    """An environment as a source of batches and of evaluation episodes.

    Attributes:
        observation_space, action_space: of one environment.
        time_limit: steps after which an episode is truncated at the latest; None if it is not
            known.
        num_envs: lanes that are stepped together.
        pure: the environment as functions of a state; None if it is not available as such.

    A source whose records hold numbers of infos (`Trajectories.infos`) has their names as
    `info_names`.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    time_limit: int | None
    num_envs: int

    @property
    def pure(self) -> CompiledEnvironment | None:
        """The environment as functions of a state, for code that returns to earlier states."""
        ...

    def segments(self, policy: Policy, key: PRNGKeyArray, steps: int) -> Collector:
        """Segments of T steps of the lanes, carried over from batch to batch.

        Args:
            policy: for its structure; `collect` takes the policy that acts.
            key: of the environments; consumed.
            steps: T.
        """
        ...

    def episodes(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        episodes: int,
        max_steps: int,
        *,
        keep_unfinished: bool = False,
        group_size: int = 1,
        with_greedy: bool = False,
    ) -> Collector:
        """Whole episodes, begun afresh for every batch.

        Args:
            policy, key: as for `segments`.
            episodes: in a batch, unless `collect` is given another number.
            max_steps: cap on an episode's length.
            keep_unfinished: whether to keep an episode that was stopped at the cap, whose last step
                then has no flag; otherwise such a batch is an error.
            group_size: k, which divides the number of episodes; every k episodes in a row start
                from the same reset, and act each by itself. It is passed only where it is not 1, so
                that a source without groups need not take it.
            with_greedy: also play from the start of each group, of 1 too, an episode of the
                distributions' modes (`Trajectories.greedy`). It is passed only where it is True.

        Raises:
            UserError: groups or greedy episodes, and the environment cannot be reset to the same
                start again.
        """
        ...

    def play(
        self,
        policy: Policy,
        key: PRNGKeyArray,
        *,
        episodes: int,
        max_steps: int,
        greedy: bool,
    ) -> Played:
        """The outcome of N episodes. All that begin run to their end or to the cap.

        Args:
            policy: the policy that acts.
            key: of actions and environments; consumed.
            episodes: N.
            max_steps: cap on an episode's length.
            greedy: act by the distributions' modes in place of samples.
        """
        ...

    def close(self) -> None:
        """Release the environments."""
        ...


def episodes_of(
    source: Source,
    policy: Policy,
    key: PRNGKeyArray,
    episodes: int,
    max_steps: int,
    *,
    keep_unfinished: bool = False,
    group_size: int = 1,
    with_greedy: bool = False,
) -> Collector:
    """`source.episodes`, whose `group_size` and `with_greedy` a source of one's own need not take.

    Raises:
        UserError: groups, or greedy episodes, of a source that cannot start them.
    """
    asked: dict[str, Any] = {"keep_unfinished": keep_unfinished}
    if group_size > 1:
        asked["group_size"] = group_size
    if with_greedy:
        asked["with_greedy"] = True
    wants = {
        "group_size": (f"its episodes cannot start in groups of {group_size}", "--group-size"),
        "with_greedy": ("ReMax has no greedy episodes to subtract", "--estimator remax"),
    }
    taken = inspect.signature(source.episodes).parameters
    for name, (lost, flag) in wants.items():
        if name in asked and name not in taken:
            raise UserError(
                f"{type(source).__name__}.episodes takes no {name}, so {lost}; add the argument, "
                f"or leave {flag} out"
            )
    return source.episodes(policy, key, episodes, max_steps, **asked)
