"""Fresh whole episodes of a Stable-Baselines3 model, played as the model plays in training."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import jax
import numpy as np

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.torch.episodes import Episode, record_of
from policygrad.torch.gradients import torch_library

BATCH = 250  # episodes in memory at a time
LANES = 16
LONGEST = 10_000

Env = str | gymnasium.Env | Callable[[], gymnasium.Env]


def collect(
    model: Any,
    env: Env,
    episodes: int,
    *,
    seed: int = 0,
    max_steps: int = LONGEST,
    batch: int = BATCH,
) -> Iterator[Trajectories]:
    """Fresh whole episodes, `batch` of them at a time; every episode that begins is kept.

    Observations and rewards are as the model saw them in training, normalised if they were.
    Actions are as the policy sampled them, before they are clipped to their bounds.

    Raises:
        UserError: an environment of other spaces, or an episode that does not end.
    """
    lanes = [env] if isinstance(env, gymnasium.Env) else [_made(env) for _ in range(LANES)]
    try:
        _check_spaces(model, lanes[0])
        for start in range(0, episodes, batch):
            count = min(batch, episodes - start)
            yield record_of(_play(model, lanes, start, count, seed, max_steps))
    finally:
        if not isinstance(env, gymnasium.Env):
            for lane in lanes:
                lane.close()


def _play(
    model: Any, lanes: list[Any], first: int, count: int, seed: int, max_steps: int
) -> list[Episode]:
    """Episodes number `first` on. A lane that ends one begins the next."""
    torch = torch_library()
    with acting(model), torch.random.fork_rng(devices=[]), torch.no_grad():
        entropy = np.random.SeedSequence([seed, first]).generate_state(1)[0]
        torch.manual_seed(int(entropy))
        return _play_in(model, lanes, first, count, seed, max_steps)


@contextlib.contextmanager
def acting(model: Any) -> Iterator[None]:
    """The model's policy in the mode in which it acts, also while it is trained: that of
    evaluation."""
    before = model.policy.training
    model.policy.set_training_mode(False)
    try:
        yield
    finally:
        model.policy.set_training_mode(before)


def _play_in(
    model: Any, lanes: list[Any], first: int, count: int, seed: int, max_steps: int
) -> list[Episode]:
    waiting = list(range(count))[::-1]
    done: dict[int, Episode] = {}
    playing: dict[int, _Playing] = {}
    while waiting or playing:
        for i, lane in enumerate(lanes):
            if i not in playing and waiting:
                playing[i] = _Playing(model, lane, first, waiting.pop(), seed)
        actions = _act(model, [x.observation for x in playing.values()])
        for (i, one), action in zip(list(playing.items()), actions, strict=True):
            one.step(action)
            if one.over:
                done[one.number] = one.episode()
                del playing[i]
            elif len(one.rewards) >= max_steps:
                raise UserError(
                    f"an episode did not end within {max_steps:,} steps; give the environment a "
                    "time limit (gymnasium.wrappers.TimeLimit), or a larger max_steps"
                )
    return [done[i] for i in range(count)]


class _Playing:
    """An episode that goes on in one environment."""

    def __init__(self, model: Any, lane: Any, first: int, number: int, seed: int) -> None:
        self.model, self.lane, self.number = model, lane, number
        self.seen, self.actions, self.rewards = [], [], []
        self.over = self.terminated = False
        entropy = np.random.SeedSequence([seed, first + number]).generate_state(1)[0]
        self.observation = self._as_seen(lane.reset(seed=int(entropy))[0])

    def _as_seen(self, observation: Any) -> Any:
        normaliser = self.model.get_vec_normalize_env()
        if normaliser is not None:
            observation = normaliser.normalize_obs(observation)
        return jax.tree.map(np.array, observation)

    def step(self, action: np.ndarray) -> None:
        space = self.model.action_space
        taken = action
        if isinstance(space, gymnasium.spaces.Box):
            policy = self.model.policy
            squashed = policy.squash_output
            taken = (
                policy.unscale_action(action) if squashed else action.clip(space.low, space.high)
            )
        elif isinstance(space, gymnasium.spaces.Discrete):
            taken = int(action)
        found = self.lane.step(taken)
        observation, reward, self.terminated, truncated, _ = found
        normaliser = self.model.get_vec_normalize_env()
        if normaliser is not None:
            reward = normaliser.normalize_reward(np.array([reward]))[0]
        self.seen.append(self.observation)
        self.actions.append(action)
        self.rewards.append(float(reward))
        self.observation = self._as_seen(observation)
        self.over = bool(self.terminated or truncated)

    def episode(self) -> Episode:
        seen = jax.tree.map(lambda *x: np.stack(x), *self.seen)
        rewards = np.array(self.rewards, np.float32)
        return Episode(
            seen, np.stack(self.actions), rewards, bool(self.terminated), self.observation
        )


def _act(model: Any, observations: list[Any]) -> np.ndarray:
    stacked = jax.tree.map(lambda *x: np.stack(x), *observations)
    tensor, _ = model.policy.obs_to_tensor(stacked)
    actions = model.policy.get_distribution(tensor).get_actions().cpu().numpy()
    return actions.reshape(-1, *model.action_space.shape)


def _made(env: Any) -> gymnasium.Env:
    if isinstance(env, str):
        return gymnasium.make(env)
    made = env() if callable(env) else None
    if isinstance(made, gymnasium.Env):
        return made
    raise UserError(
        "env must be an id, a Gymnasium environment or a function that makes one; a VecEnv's "
        f"environments are not taken, got {type(env).__name__}"
    )


def _check_spaces(model: Any, lane: gymnasium.Env) -> None:
    for name in ("observation_space", "action_space"):
        ours, theirs = getattr(lane, name), getattr(model, name)
        if ours != theirs:
            raise UserError(
                f"the model's {name} is {theirs}, and that of the environment is {ours}; give an "
                "environment like the one that the model was trained in"
            )
