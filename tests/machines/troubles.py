"""Environments that kill, hang or fail the process that steps them, as often as a file says."""

import os
import signal
import time
from typing import Any

import gymnasium

from tests.rollout.test_infos import Telling
from tests.worlds import Drift


def once(path: str) -> bool:
    """Whether this is the first call with this path, in whatever process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Troubled(Telling):
    """`Telling`, in which something happens at a step of its life."""

    def __init__(self, what: str = "nothing", at: int = 20, flag: str | None = None) -> None:
        super().__init__(7)
        self.what, self.at, self.flag, self.life = what, at, flag, 0

    def step(self, action: Any) -> Any:
        self.life += 1
        if self.life == self.at and (self.flag is None or once(self.flag)):
            match self.what:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang":
                    time.sleep(10_000)
                case "raise":
                    raise ZeroDivisionError("the pole is not there")
                case "sys.exit":
                    raise SystemExit(3)
        return super().step(action)


class TroubledDrift(Drift):
    """`Drift`, whose process is killed once, at a step of its life."""

    def __init__(self, flag: str, at: int = 20) -> None:
        self.flag, self.at, self.life = flag, at, 0

    def step(self, action: Any) -> Any:
        self.life += 1
        if self.life == self.at and once(self.flag):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Slow(Drift):
    """Takes a while for every step, and fails where its walk begins high."""

    def __init__(self, seconds: float = 0.002, ceiling: float = 1e9) -> None:
        self.seconds, self.ceiling = seconds, ceiling

    def step(self, action: Any) -> Any:
        time.sleep(self.seconds)
        row = super().step(action)
        if self.x > self.ceiling:
            raise ZeroDivisionError("too high")
        return row


def usable(worker: Any, numbers: Any) -> dict[int, Any]:
    """What a worker's process may use."""
    names = ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS")
    allowed = sorted(os.sched_getaffinity(0))
    return dict.fromkeys(numbers, (allowed, [os.environ.get(name) for name in names]))


gymnasium.register("Troubled-v0", "tests.machines.troubles:Troubled")
