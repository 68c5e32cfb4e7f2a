"""Copies of an environment, and whose Ctrl-C is whose."""

import multiprocessing
import signal
import threading
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from policygrad.environments.vectorise import vectorise


class Hearing(gymnasium.Env):
    """Says in its observation whether its process ignores Ctrl-C."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.array([signal.getsignal(signal.SIGINT) == signal.SIG_IGN], np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1, np.float32), 0.0, False, False, {}


def in_a_child(answers: Any) -> None:
    """Make environments in a child process, in its main thread and in another one."""

    def make(where: str) -> None:
        try:
            vectorise(Hearing, 2).close()
        except ValueError as error:
            answers.put((where, str(error)))
        else:
            answers.put((where, signal.getsignal(signal.SIGINT) is signal.default_int_handler))

    make("main thread")
    thread = threading.Thread(target=make, args=["thread"])
    thread.start()
    thread.join()


def test_environments_made_in_a_child_process_leave_its_ctrl_c_alone():
    """A child process that trains, or a thread of it, is no worker that steps environments."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    child = context.Process(target=in_a_child, args=[answers])
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [answers.get() for _ in range(2)] == [("main thread", True), ("thread", True)]


def test_worker_processes_leave_ctrl_c_to_the_trainer():
    before = signal.getsignal(signal.SIGINT)
    vector = vectorise(Hearing, 2, processes=True)
    try:
        observations, _ = vector.reset(seed=[0, 1])
    finally:
        vector.close()
    np.testing.assert_array_equal(observations, 1)
    assert signal.getsignal(signal.SIGINT) is before
