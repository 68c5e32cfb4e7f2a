"""A hundred environments that are broken in a hundred small ways, and what each must lead to.

Each is `Five` with one fault: five steps, a reward of 1 each, then the end. A fault is either
refused with an error whose message matches a pattern, or does no harm, and the returns are right.
"""

import decimal
import fractions
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv


@dataclass(frozen=True)
class Broken:
    """One of them.

    Attributes:
        name: in words.
        make: what is passed as the environment.
        error: a pattern that the message of the error matches; None if the fault does no harm.
        returns: the mean return, where it does no harm.
        settings: of the run.
        evaluated: the mean return in an evaluation, which takes what training refuses; else None.
    """

    name: str
    make: Any
    error: str | None = None
    returns: float = 5.0
    settings: dict[str, Any] = field(default_factory=dict)
    evaluated: float | None = None


BROKEN: list[Broken] = []


def refused(pattern: str, evaluated: float | None = None, **settings: Any) -> Callable[[Any], Any]:
    """The class below must lead to an error whose message matches."""

    def add(make: Any) -> Any:
        made = Broken(make.__name__, make, pattern, settings=settings, evaluated=evaluated)
        BROKEN.append(made)
        return make

    return add


def harmless(returns: float = 5.0, **settings: Any) -> Callable[[Any], Any]:
    """The class below must be trained as if nothing were wrong."""

    def add(make: Any) -> Any:
        BROKEN.append(Broken(make.__name__, make, None, returns, settings))
        return make

    return add


class Five(gymnasium.Env):
    """Five steps of reward 1 each."""

    observation_space: Any = spaces.Box(-10, 10, (3,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), self.info()

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.observe(), self.reward(), self.terminated(), self.truncated(), self.info()

    def observe(self) -> Any:
        return np.full(3, self.time / 5, np.float32)

    def reward(self) -> Any:
        return 1.0

    def terminated(self) -> Any:
        return self.time >= 5

    def truncated(self) -> Any:
        return False

    def info(self) -> Any:
        return {}


# ----- reset


@refused("reset")
class ResetReturnsTheObservationAlone(Five):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


@refused("reset")
class ResetReturnsNone(Five):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)


@refused("reset")
class ResetReturnsThreeValues(Five):
    def reset(self, **kwargs: Any) -> Any:
        return (*super().reset(**kwargs), 0)


@refused("seed")
class ResetTakesNoSeed(Five):
    def reset(self) -> Any:  # pyright: ignore
        return super().reset()


@refused("broken in reset")
class ResetRaises(Five):
    def reset(self, **kwargs: Any) -> Any:
        raise RuntimeError("broken in reset")


@refused("broken in its second reset")
class SecondResetRaises(Five):
    count = 0

    def reset(self, **kwargs: Any) -> Any:
        self.count += 1
        if self.count > 1:
            raise ValueError("broken in its second reset")
        return super().reset(**kwargs)


@refused(r"\(2,\)")
class ResetHasAnotherShape(Five):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return observation[:2], info


@refused(r"\(4,\)")
class SecondResetHasAnotherShape(Five):
    count = 0

    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        self.count += 1
        return (np.zeros(4, np.float32) if self.count > 1 else observation), info


@harmless()
class ResetInfoIsNone(Five):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0], None


@refused("reset.*SystemExit|SystemExit.*reset|exit")
class ExitsInReset(Five):
    def reset(self, **kwargs: Any) -> Any:
        raise SystemExit(3)


@harmless()
class ResetReturnsAList(Five):
    def reset(self, **kwargs: Any) -> Any:
        observation, info = super().reset(**kwargs)
        return observation.tolist(), info


@harmless()
class ResetTakesTheSeedByPosition(Five):
    def reset(self, seed: Any = None, options: Any = None) -> Any:  # pyright: ignore
        return super().reset(seed=seed, options=options)


@refused("time|reset|step")
class ForgetsToResetItsState(Five):
    def reset(self, **kwargs: Any) -> Any:
        return np.zeros(3, np.float32), {}


# ----- what step returns


@refused("step.*4|4.*step|five|5 values")
class StepOfOldGym(Five):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


@refused("step|values")
class StepReturnsSixValues(Five):
    def step(self, action: Any) -> Any:
        return (*super().step(action), 0)


@refused("step|None")
class StepReturnsNone(Five):
    def step(self, action: Any) -> Any:
        super().step(action)


@refused("step|values|NoneType")
class ThirdStepReturnsNone(Five):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        return None if self.time == 3 else result


@refused("broken at 3")
class ThirdStepRaises(Five):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        if self.time == 3:
            raise ZeroDivisionError("broken at 3")
        return result


@refused("broken on its own terms")
class RaisesAnExceptionOfItsOwn(Five):
    class Own(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("broken on its own terms")

    def step(self, action: Any) -> Any:
        raise self.Own(1, 2)


@refused("StopIteration")
class RaisesStopIteration(Five):
    def step(self, action: Any) -> Any:
        raise StopIteration


@refused("SystemExit|exit")
class ExitsInAStep(Five):
    def step(self, action: Any) -> Any:
        raise SystemExit(0)


@refused("MemoryError")
class RunsOutOfMemory(Five):
    def step(self, action: Any) -> Any:
        raise MemoryError


@refused("KeyError.*speed|speed.*KeyError")
class RaisesAKeyError(Five):
    def step(self, action: Any) -> Any:
        return {}["speed"]


# ----- observations


@refused(r"\(3,\).*\(5,\)|\(5,\).*\(3,\)")
class StepHasAnotherShape(Five):
    def observe(self) -> Any:
        return np.zeros(3 if self.time == 0 else 5, np.float32)


@refused(r"\(1, 3\)")
class ObservationHasABatchAxis(Five):
    def observe(self) -> Any:
        return np.zeros((1, 3), np.float32)


@refused(r"\(3, 1\)")
class ObservationIsAColumn(Five):
    def observe(self) -> Any:
        return np.zeros((3, 1), np.float32)


@refused(r"\(\)|scalar|number")
class ObservationIsAScalar(Five):
    def observe(self) -> Any:
        return 0.5


@refused("None")
class ObservationIsNone(Five):
    def observe(self) -> Any:
        return None


@refused("None")
class LateObservationIsNone(Five):
    def observe(self) -> Any:
        return None if self.time == 4 else super().observe()


@refused("text|str|number|U3")
class ObservationIsText(Five):
    def observe(self) -> Any:
        return np.array(["1.0", "2.0", "3.0"])


@refused("nan")
class ObservationIsNaN(Five):
    def observe(self) -> Any:
        return np.full(3, np.nan if self.time == 2 else 0, np.float32)


@refused("inf")
class ObservationIsInfinite(Five):
    def observe(self) -> Any:
        return np.array([0, 0, np.inf if self.time == 2 else 0], np.float32)


@refused("complex")
class ObservationIsComplex(Five):
    def observe(self) -> Any:
        return np.array([1j, 0, 0])


@refused("dict|Dict")
class ObservationIsADict(Five):
    def observe(self) -> Any:
        return {"x": np.zeros(3, np.float32)}


@refused("3|length|shape")
class ObservationIsRagged(Five):
    def observe(self) -> Any:
        return [0.0, [1.0, 2.0], 0.0]


@refused("inf|3.4|1e\\+?300|float32|range")
class ObservationIsBeyond32Bits(Five):
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def observe(self) -> Any:
        return np.array([1e300, 0, 0])


@harmless()
class ObservationHas64Bits(Five):
    def observe(self) -> Any:
        return np.full(3, self.time / 5, np.float64)


@harmless()
class ObservationHas16Bits(Five):
    def observe(self) -> Any:
        return np.full(3, self.time / 5, np.float16)


@harmless()
class ObservationOfIntegers(Five):
    def observe(self) -> Any:
        return np.full(3, self.time, np.int64)


@harmless()
class ObservationIsAList(Five):
    def observe(self) -> Any:
        return [self.time / 5] * 3


@harmless()
class ObservationIsATuple(Five):
    def observe(self) -> Any:
        return (self.time / 5,) * 3


@harmless()
class ObservationIsJax(Five):
    def observe(self) -> Any:
        return jnp.full(3, self.time / 5)


@harmless()
class ObservationOutsideOfItsBounds(Five):
    observation_space = spaces.Box(0, 0.1, (3,), np.float32)


@harmless()
class ObservationIsReadOnly(Five):
    def observe(self) -> Any:
        return np.broadcast_to(np.float32(self.time / 5), (3,))


@harmless()
class ObservationIsOneBuffer(Five):
    buffer = None

    def observe(self) -> Any:
        if self.buffer is None:
            self.buffer = np.zeros(3, np.float32)
        self.buffer[:] = self.time / 5
        return self.buffer


@harmless()
class ObservationIsObjects(Five):
    def observe(self) -> Any:
        return np.array([self.time / 5] * 3, dtype=object)


@harmless()
class ObservationIsReversedInMemory(Five):
    def observe(self) -> Any:
        return np.full(6, self.time / 5, ">f4")[::-2]


@refused("range|0.*3|7")
class DiscreteObservationOutOfRange(Five):
    observation_space = spaces.Discrete(4)

    def observe(self) -> Any:
        return 7 if self.time == 3 else 0


@refused("-1|range")
class DiscreteObservationIsNegative(Five):
    observation_space = spaces.Discrete(4)

    def observe(self) -> Any:
        return -1


@refused("1.5|whole|integer")
class DiscreteObservationIsAFraction(Five):
    observation_space = spaces.Discrete(4)

    def observe(self) -> Any:
        return 1.5


@harmless()
class DiscreteObservationIsAWholeFloat(Five):
    observation_space = spaces.Discrete(6)

    def observe(self) -> Any:
        return float(self.time)


@refused(r"\(1,\)")
class DiscreteObservationIsAnArray(Five):
    observation_space = spaces.Discrete(6)

    def observe(self) -> Any:
        return np.array([self.time])


@refused("range|9")
class MultiDiscreteObservationOutOfRange(Five):
    observation_space = spaces.MultiDiscrete([3, 3])

    def observe(self) -> Any:
        return np.array([0, 9 if self.time == 2 else 0])


@refused("2|range|flag")
class BinaryObservationIsTwo(Five):
    observation_space = spaces.MultiBinary(3)

    def observe(self) -> Any:
        return np.array([0, 2, 1], np.int8)


class OfTwo(Five):
    observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2,), np.float32), b=spaces.Discrete(3))

    def observe(self) -> Any:
        return {"a": np.zeros(2, np.float32), "b": 1}


@refused("b")
class DictLacksAPart(OfTwo):
    def observe(self) -> Any:
        return {"a": np.zeros(2, np.float32)}


@refused("c")
class DictHasOnePartMore(OfTwo):
    def observe(self) -> Any:
        return super().observe() | {"c": 0}


@refused("a.*(1,)|shape")
class DictPartHasAnotherShape(OfTwo):
    def observe(self) -> Any:
        return {"a": np.zeros(1, np.float32), "b": 1}


@refused("Dict|dict")
class DictIsAnArray(OfTwo):
    def observe(self) -> Any:
        return np.zeros(3, np.float32)


@harmless()
class DictIsInAnotherOrder(OfTwo):
    def observe(self) -> Any:
        return {"b": 1, "a": np.zeros(2, np.float32)}


@refused("2|length|parts")
class TupleIsTooShort(Five):
    observation_space = spaces.Tuple([spaces.Discrete(3), spaces.Discrete(3)])

    def observe(self) -> Any:
        return (0,)


@harmless()
class LargeIntegers(Five):
    observation_space = spaces.Box(0, 2**62, (1,), np.int64)

    def observe(self) -> Any:
        return np.array([2**40 + self.time])


# ----- rewards


def with_reward(
    name: str, reward: Any, pattern: str | None, evaluated: float | None = None
) -> None:
    """`Five` with another reward."""
    made = type(name, (Five,), {"reward": lambda self: reward, "__module__": __name__})
    globals()[name] = made
    BROKEN.append(Broken(name, made, pattern, evaluated=evaluated))


with_reward("RewardIsNone", None, "None")
with_reward("RewardIsText", "1.5", "1.5")
with_reward("RewardIsComplex", 1j, "1j")
with_reward("RewardIsNaN", np.nan, "nan")
with_reward("RewardIsInfinite", -np.inf, "inf")
with_reward("RewardIsHuge", 1e20, "1e\\+20", evaluated=5e20)
with_reward("RewardIsBeyond32Bits", 1e300, "inf|1e\\+300")
with_reward("RewardIsTwoNumbers", np.ones(2), r"\(2,\)")
with_reward("RewardIsAnEmptyArray", np.ones(0), r"\(0,\)")
with_reward("RewardIsADict", {"a": 1.0}, "'a'")
with_reward("RewardIsALongInteger", 2**70, "1.18|1180591620717411303424", evaluated=5 * 2.0**70)
with_reward("RewardIsAnArrayOfOne", np.ones(1), None)
with_reward("RewardIsAMatrixOfOne", np.ones((1, 1)), None)
with_reward("RewardIsAZeroDimensionalArray", np.array(1.0), None)
with_reward("RewardIsAnInteger", 1, None)
with_reward("RewardIsAFlag", True, None)
with_reward("RewardHas16Bits", np.float16(1), None)
with_reward("RewardIsAFraction", fractions.Fraction(1), None)
with_reward("RewardIsADecimal", decimal.Decimal(1), None)
with_reward("RewardIsAnObjectArray", np.array(1.0, dtype=object), None)
with_reward("RewardIsJax", jnp.ones(()), None)
with_reward("RewardIsAListOfOne", [1.0], None)


@refused("1.5|None|reward")
class LateRewardIsText(Five):
    def reward(self) -> Any:
        return "1.5" if self.time == 4 else 1.0


# ----- flags


def with_flag(name: str, flag: str, values: tuple[Any, Any], pattern: str | None) -> None:
    """`Five` whose flag is one of two values: while it goes on, and at the end."""

    def value(self: Five) -> Any:
        return values[self.time >= 5]

    members = {flag: value, "__module__": __name__}
    if flag == "truncated":
        members["terminated"] = lambda self: False
    made = type(name, (Five,), members)
    globals()[name] = made
    BROKEN.append(Broken(name, made, pattern))


with_flag("TerminatedIsText", "terminated", ("False", "True"), "False")
with_flag("TerminatedIsNone", "terminated", (None, True), "None")
with_flag("TerminatedIsNaN", "terminated", (np.nan, 1.0), "nan")
with_flag("TerminatedIsAHalf", "terminated", (0.5, 1.0), "0.5")
with_flag("TerminatedIsTwo", "terminated", (0, 2), "2")
with_flag("TerminatedIsAList", "terminated", ([], [1, 1]), "list|shape|terminated")
with_flag("TruncatedIsText", "truncated", ("no", "yes"), "no")
with_flag("TruncatedIsNone", "truncated", (None, True), "None")
with_flag("TerminatedIsAnInteger", "terminated", (0, 1), None)
with_flag("TerminatedIsAFloat", "terminated", (0.0, 1.0), None)
with_flag("TerminatedIsNumPys", "terminated", (np.False_, np.True_), None)
with_flag("TerminatedIsAnArrayOfOne", "terminated", (np.array([False]), np.array([True])), None)
with_flag("TruncatedIsNumPys", "truncated", (np.False_, np.True_), None)


@harmless()
class BothFlagsAtOnce(Five):
    truncated = Five.terminated


@refused("end", evaluated=50.0, batch_steps=None, batch_episodes=4, max_episode_steps=50)
class NeverEnds(Five):
    def terminated(self) -> Any:
        return False


# ----- spaces


@refused("observation_space")
class HasNoSpaces(Five):
    observation_space = None
    action_space = None


@refused("action_space")
class HasNoActionSpace(Five):
    action_space = None


@refused("Text")
class ObservesText(Five):
    observation_space = spaces.Text(5)


@refused("Sequence|not supported")
class ObservesSequences(Five):
    observation_space = spaces.Sequence(spaces.Discrete(3))


@refused("Text|not supported")
class ActsInText(Five):
    action_space = spaces.Text(5)


@refused("not supported|int")
class ActsInABoxOfIntegers(Five):
    action_space = spaces.Box(0, 5, (2,), np.int32)


@harmless()
class ObservesNothing(Five):
    observation_space = spaces.Box(-1, 1, (0,), np.float32)

    def observe(self) -> Any:
        return np.zeros(0, np.float32)


@refused("not a .*[Ss]pace|observation_space")
class SpaceIsAShape(Five):
    observation_space = (3,)


@refused("observation_space")
class MakesItsSpacesInReset(Five):
    observation_space = None

    def reset(self, **kwargs: Any) -> Any:
        self.observation_space = Five.observation_space
        return super().reset(**kwargs)


@harmless()
class HasOneAction(Five):
    action_space = spaces.Discrete(1)


@harmless()
class WritesIntoTheAction(Five):
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def step(self, action: Any) -> Any:
        action = np.asarray(action)
        if action.flags.writeable:
            action[...] = 99.0
        return super().step(action)


# ----- objects


@refused("gymnasium|Env")
class IsNoGymnasiumEnvironment:
    observation_space = Five.observation_space
    action_space = Five.action_space

    def reset(self) -> Any:
        return np.zeros(3, np.float32)

    def step(self, action: Any) -> Any:
        return np.zeros(3, np.float32), 1.0, False, {}


@refused("size")
class NeedsAnArgument(Five):
    def __init__(self, size: int) -> None:
        self.size = size


@refused("broken in its constructor")
class ConstructorRaises(Five):
    def __init__(self) -> None:
        raise OSError("broken in its constructor")


@refused("exit|SystemExit")
class ExitsInItsConstructor(Five):
    def __init__(self) -> None:
        raise SystemExit("no licence")


@refused("None")
def makes_nothing() -> Any:
    return None


@refused("int|17")
def makes_a_number() -> Any:
    return 17


@refused("vector")
def makes_a_vector_environment() -> Any:
    return SyncVectorEnv([Five, Five])


SHARED = Five()


@refused("same|one environment|one object")
def makes_the_same_one() -> Any:
    return SHARED


@refused("same|one environment|one object")
def wraps_the_same_one() -> Any:
    return gymnasium.wrappers.TimeLimit(SHARED, 100)


@refused("class Five")
def makes_a_class() -> Any:
    return Five


@harmless()
class ConstructorSetsNothing(Five):
    def __init__(self) -> None:
        pass


@harmless()
class HasNoMetadata(Five):
    metadata = None  # pyright: ignore


@harmless()
class CloseRaises(Five):
    def close(self) -> Any:
        raise RuntimeError("broken in close")


@harmless()
class ExitsInClose(Five):
    def close(self) -> Any:
        raise SystemExit(1)


# ----- infos


@refused("info|dict")
class InfoIsAList(Five):
    def info(self) -> Any:
        return [1, 2]


@harmless()
class InfoHoldsAnything(Five):
    def info(self) -> Any:
        return {"x": object(), "f": lambda: 0, "text": "a", "nested": {"y": 1}, 3: "three"}


@harmless()
class InfoChangesItsTypes(Five):
    def info(self) -> Any:
        return {"x": [1, "one", None, np.ones(2), True, 2.5][min(self.time, 5)]}


@harmless()
class InfoHoldsNaN(Five):
    def info(self) -> Any:
        return {"success": np.nan}


@refused("mask")
class MaskOfAnotherLength(Five):
    def info(self) -> Any:
        return {"action_mask": np.ones(5, np.int8)}


@refused("mask")
class MaskIsLostOnTheWay(Five):
    def info(self) -> Any:
        return {"action_mask": np.ones(2, np.int8)} if self.time < 3 else {}


@refused("mask")
class MaskPermitsNothing(Five):
    observation_space = spaces.Dict(x=Five.observation_space, action_mask=spaces.MultiBinary(2))

    def observe(self) -> Any:
        flags = np.zeros(2, np.int8) if self.time == 2 else np.ones(2, np.int8)
        return {"x": np.zeros(3, np.float32), "action_mask": flags}


# ----- time


@refused("timeout|seconds", step_timeout=0.5)
class HangsInAStep(Five):
    def step(self, action: Any) -> Any:
        result = super().step(action)
        if self.time == 3:
            time.sleep(3600)
        return result


@refused("timeout|seconds", step_timeout=0.5)
class HangsInReset(Five):
    def reset(self, **kwargs: Any) -> Any:
        time.sleep(3600)


# in worker processes: what ends the process itself


@refused("exit|ended|died|killed", processes=True)
class EndsItsProcess(Five):
    def step(self, action: Any) -> Any:
        import os

        os._exit(7)


@refused("SIG|signal|killed|died", processes=True)
class KillsItsProcess(Five):
    def step(self, action: Any) -> Any:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


@refused("timeout|seconds", processes=True, step_timeout=2.0)
class HangsInAWorker(HangsInAStep):
    pass


@refused("broken at 3", processes=True)
class RaisesInAWorker(ThirdStepRaises):
    pass


@harmless(processes=True)
class CloseHangsInAWorker(Five):
    def close(self) -> Any:
        time.sleep(3600)
