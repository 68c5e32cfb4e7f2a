"""Masks of actions under other usual names are not read, and a warning says so."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import environments
from tests.environments.test_masks import BOX, Given, Hybrid
from tests.worlds import TINY


class Free(Given):
    """Every action is permitted; what the info holds is no mask that is read."""

    def permits(self, action):
        return True

    def reward(self, action):
        return 1.0


def in_info(name, value=None, actions=None):
    return lambda: Free(
        name=name, convert=lambda mask: mask if value is None else value, actions=actions
    )


def by_method(name, value=None, actions=None, wrap=lambda env: env):
    """An environment with one more method, or with one more attribute if a value is given."""
    more = {name: (lambda self: self.mask) if value is None else value}
    made = type("Shop", (Free,), {**more, "info": lambda self: {}})
    return lambda: wrap(made(actions=actions))


NOT_READ = " is not read, and no action is masked by it; .*'action_mask'"
TOLD = {
    "mask": (in_info("mask"), r"info\['mask'\]"),
    "legal_actions, by their numbers": (in_info("legal_actions", [0, 2]), "legal_actions"),
    "avail_actions": (in_info("avail_actions"), "avail_actions"),
    "valid_actions": (in_info("valid_actions", {0, 1}), "valid_actions"),
    "legal_moves": (in_info("legal_moves"), "legal_moves"),
    "valid_action_mask": (in_info("valid_action_mask"), "valid_action_mask"),
    "capital letters": (in_info("Legal_Actions"), "Legal_Actions"),
    "of a hybrid": (in_info("mask", np.ones(3), Hybrid.DICT), "mask"),
    "valid_action_mask()": (by_method("valid_action_mask"), r"^Shop.valid_action_mask\(\)"),
    "get_action_mask()": (by_method("get_action_mask"), r"Shop.get_action_mask\(\)"),
    "legal_actions()": (by_method("legal_actions"), r"Shop.legal_actions\(\)"),
    "get_legal_actions()": (by_method("get_legal_actions"), "get_legal_actions"),
    "valid_actions()": (by_method("valid_actions"), "valid_actions"),
    "an attribute": (by_method("avail_actions", np.ones(3)), "^Shop.avail_actions"),
    "a property": (by_method("legal_mask", property(lambda self: self.mask)), "Shop.legal_mask"),
    "behind a wrapper": (
        by_method("legal_moves", wrap=lambda env: gymnasium.wrappers.TimeLimit(env, 50)),
        "Shop.legal_moves",
    ),
}


@pytest.mark.parametrize(("make", "found"), TOLD.values(), ids=TOLD)
def test_further_names_of_masks_beside_observations_are_told(make, found):
    with pytest.warns(UserWarning, match=f"{found}.*{NOT_READ}") as caught:
        lanes = environments.make(make, 2)
    assert len(caught) == 1
    assert lanes.observation_space == BOX


def silent(self, player):
    raise NotImplementedError


QUIET = {
    "a Box": in_info("legal_actions", actions=BOX),
    "a method, for a Box": by_method("legal_actions", actions=BOX),
    "another length": in_info("mask", np.ones(4)),
    "no flags": in_info("mask", np.array([0.5, 1, 2])),
    "a number of them": in_info("legal_actions", 3),
    "text": in_info("legal_moves", "e4"),
    "a method with arguments": by_method("legal_actions", silent),
    "a list of names": by_method("valid_actions", ["buy", "sell", "wait"]),
    "a list of numbers": by_method("valid_actions", [0, 1, 2]),
    "a space": by_method("legal_actions", spaces.Discrete(3)),
    "beside a mask that is read": lambda: Given(convert=lambda mask: mask),
}


class Beside(Given):
    def info(self):
        return super().info() | {"legal_actions": np.flatnonzero(self.mask)}


QUIET["beside one that is read"] = Beside


@pytest.mark.parametrize("make", QUIET.values(), ids=QUIET)
def test_what_is_no_mask_is_not_told(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environments.make(make, 2)


@pytest.mark.parametrize("make", [in_info("legal_actions"), by_method("legal_actions")])
def test_other_names_in_a_vector_environment_are_told(make):
    vector = SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.warns(UserWarning, match="legal_actions.* is not read") as caught:
        environments.make(vector, 2)
    assert len(caught) == 1


def test_other_names_are_told_once_in_training():
    with pytest.warns(UserWarning, match="is not read") as caught:
        policygrad.train(in_info("legal_actions"), **TINY)
    assert len(caught) == 1


@pytest.mark.slow
def test_other_names_in_workers_are_told_by_their_parent():
    with pytest.warns(UserWarning, match="valid_action_mask.* is not read") as caught:
        environments.make(by_method("valid_action_mask"), 2, processes=True).close()
    assert len(caught) == 1
