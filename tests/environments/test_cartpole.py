"""CartPole's copies: Gymnasium's dynamics, with resets and seeds of each copy's own."""

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv

from policygrad.environments.cartpole import CartPoleCopies
from policygrad.environments.catalogue import make
from policygrad.environments.gymnasium_lanes import GymnasiumLanes

SEEDS = [3, 14, 159]


def test_a_copy_begins_where_gymnasiums_environment_does():
    observations, _ = CartPoleCopies(3).reset(seed=SEEDS)
    for observation, seed in zip(observations, SEEDS, strict=True):
        np.testing.assert_array_equal(observation, CartPoleEnv().reset(seed=seed)[0])


def test_steps_are_gymnasiums_up_to_the_first_end():
    ours, theirs = CartPoleCopies(3, max_episode_steps=40), CartPoleVectorEnv(3, 40)
    ours.reset(seed=SEEDS)
    theirs.reset(seed=0)
    theirs.state = ours.state.copy()
    rng, running = np.random.default_rng(0), np.ones(3, bool)
    while running.any():
        actions = rng.integers(0, 2, 3)
        for a, b in zip(ours.step(actions)[:4], theirs.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(a[running], b[running])
        running &= ~theirs.prev_done


def test_a_reset_leaves_the_other_copies_alone():
    vector = CartPoleCopies(3)
    vector.reset(seed=SEEDS)
    before = vector.step(np.ones(3, int))[0]
    mask = np.array([False, True, False])
    after, _ = vector.reset(seed=[None, 7, None], options={"reset_mask": mask})
    np.testing.assert_array_equal(after[~mask], before[~mask])
    np.testing.assert_array_equal(after[1], CartPoleEnv().reset(seed=7)[0])
    assert vector.steps.tolist() == [1, 0, 1]


def test_the_id_is_stepped_by_copies_with_the_arguments_that_were_given():
    lanes = make("CartPole-v1", 2, kwargs={"sutton_barto_reward": True, "max_episode_steps": 7})
    assert isinstance(lanes, GymnasiumLanes)
    assert isinstance(lanes.vector.unwrapped, CartPoleCopies)
    assert lanes.seeds_each_lane
    lanes.start(0)
    steps = [lanes.step(np.array([t % 2, t % 2])) for t in range(7)]
    assert [step.rewards.max() for step in steps] == [0.0] * 7
    assert steps[-1].truncated.all()
    assert gymnasium.spec("CartPole-v1").vector_entry_point.endswith("CartPoleVectorEnv")
