"""Reading what environments hand over: observations, rewards and flags, each checked once."""

from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np

from policygrad.core.numbers import plain_number
from policygrad.environments.protocol import ById
from policygrad.spaces import observation_space_of
from policygrad.spaces.reading import Node, NotOfSpace, reader_of


def reader(space: gymnasium.Space) -> Node:
    """What reads the observations of a space; it is made once for each object."""
    return _reader(ById(space))


@lru_cache(maxsize=64)
def _reader(space: ById[gymnasium.Space]) -> Node:
    return reader_of(observation_space_of(space.value))


def place(observation: Any, rows: Any, lane: int) -> None:
    """Write one observation, as it was read, into the row of a lane."""
    if isinstance(rows, np.ndarray):
        rows[lane] = observation
        return
    for key in rows if isinstance(rows, dict) else range(len(rows)):
        place(observation[key], rows[key], lane)


def reward_of(value: Any) -> float:
    """The reward of one step; NotOfSpace if it is not one real number."""
    if type(value) is np.float64:
        return value
    number = plain_number(value)
    if number is None:
        raise NotOfSpace(f"reward {_described(value)}, expected one real number")
    return number


def flag_of(name: str, value: Any) -> bool:
    """One flag of one step; NotOfSpace if it is neither true nor false."""
    if value is True or value is False:
        return value
    number = plain_number(value)
    if number not in (0, 1):
        raise NotOfSpace(f"{name} {_described(value)}, expected True or False")
    return number == 1


def _described(value: Any) -> str:
    shape = np.shape(value) if isinstance(value, (np.ndarray, list, tuple)) else ()
    return f"{value!r} of shape {shape}" if shape else f"{value!r}"
