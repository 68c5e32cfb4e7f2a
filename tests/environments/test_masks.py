"""Masks of actions beside the observation: applied where it is clear how, else refused."""

import gymnasium
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import policygrad
from policygrad import environments
from policygrad.core.errors import EnvironmentFailure, UserError
from tests.slow import params
from tests.worlds import TINY, GymnaxChain

BOX = spaces.Box(-1, 1, (2,), np.float32)
MASKS = np.array([(1, 0, 1), (0, 1, 0), (1, 1, 1), (0, 0, 1)], np.int8)


class Given(gymnasium.Env):
    """Three actions of which a mask permits some, in its info; taking another one is an error."""

    def __init__(self, *, space=BOX, actions=None, convert=lambda mask: mask, name="action_mask"):
        self.observation_space = space
        self.action_space = spaces.Discrete(3) if actions is None else actions
        self.convert, self.name = convert, name

    def row(self):
        self.mask = MASKS[self.time % len(MASKS)]
        observation = np.full(2, self.time / 8, np.float32)
        nested = isinstance(self.observation_space, spaces.Dict)
        return {"x": observation} if nested else observation

    def info(self):
        return {self.name: self.convert(self.mask)}

    def permits(self, action):
        return self.mask[action]

    def reward(self, action):
        return float(np.sum(action))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.row(), self.info()

    def step(self, action):
        assert self.permits(action), f"action {action} under mask {self.mask}"
        self.time += 1
        return self.row(), self.reward(action), self.time == 6, False, self.info()


class ByMethod(Given):
    def info(self):
        return {}

    def action_masks(self):
        return self.mask


class ByOtherMethod(ByMethod):
    action_masks = None

    def action_mask(self):
        return self.mask.astype(bool)


class ByArray(ByMethod):
    """An attribute, which is None before the first reset."""

    action_masks = action_mask = None

    def row(self):
        observation = super().row()
        self.action_mask = self.mask
        return observation


class ByProperty(ByMethod):
    """A property, which raises before the first reset."""

    @property
    def action_masks(self):
        return self.mask


class ByPropertyThatFails(ByMethod):
    @property
    def action_masks(self):
        if not hasattr(self, "mask"):
            raise ValueError("reset it first")
        return self.mask


class InInfoBesideAMethod(Given):
    def action_mask(self, state):
        raise NotImplementedError


class Choices(Given):
    """Two choices of three; the mask is that of the first, the second is free."""

    def __init__(self, as_tuple=False):
        free = np.ones(3, np.int8)
        convert = lambda m: (m, free) if as_tuple else np.concatenate([m, free])  # noqa: E731
        super().__init__(actions=spaces.MultiDiscrete([3, 3]), convert=convert)

    def permits(self, action):
        return self.mask[action[0]]


class Flags(Given):
    """Three flags; one that the mask does not permit must stay 0."""

    def __init__(self):
        super().__init__(actions=spaces.MultiBinary(3))

    def permits(self, action):
        return not (np.asarray(action) & ~self.mask.astype(bool)).any()


class SilentAtTheEnd(Given):
    def step(self, action):
        *row, info = super().step(action)
        return *row, {} if row[2] else info


GOOD = {
    "in info": Given,
    "in info of a Dict": lambda: Given(space=spaces.Dict(x=BOX)),
    "as a list": lambda: Given(convert=lambda mask: mask.tolist()),
    "as flags": lambda: Given(convert=lambda mask: mask.astype(bool)),
    "as floats": lambda: Given(convert=lambda mask: mask.astype(float)),
    "action_masks in info": lambda: Given(name="action_masks"),
    "by a method": ByMethod,
    "by another method": ByOtherMethod,
    "in info, beside a method with arguments": InInfoBesideAMethod,
    "by an array": ByArray,
    "by an array behind a wrapper": lambda: gymnasium.wrappers.TimeLimit(ByArray(), 50),
    "by a property": ByProperty,
    "by a property behind a wrapper": lambda: gymnasium.wrappers.TimeLimit(ByProperty(), 50),
    "by a property that raises": ByPropertyThatFails,
    "behind wrappers": lambda: gymnasium.wrappers.TimeLimit(ByMethod(), 50),
    "MultiDiscrete": Choices,
    "MultiDiscrete, one by one": lambda: Choices(as_tuple=True),
    "MultiBinary": Flags,
    "not at the end": SilentAtTheEnd,
}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_case_11_and_further_masks_are_applied_in_training_and_evaluation(make):
    run = policygrad.train(make, **TINY)  # an action that is not permitted is an error
    space = run.agent.observation_space
    assert isinstance(space, spaces.Dict)
    assert set(space) in ({"observation", "action_mask"}, {"x", "action_mask"})
    policygrad.evaluate(run, episodes=4)


@pytest.mark.slow
def test_case_11_masks_cross_from_workers():
    run = policygrad.train(Given, processes=True, **TINY)  # a forbidden action is an error
    assert "action_mask" in run.agent.observation_space.spaces


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
def test_case_11_masks_of_a_vector_environments_infos_are_applied(mode):
    vector = SyncVectorEnv([Given] * 4, autoreset_mode=mode)
    run = policygrad.train(vector, **TINY)
    assert set(run.agent.observation_space) == {"observation", "action_mask"}


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda m: m.name)
@pytest.mark.parametrize("make", [ByMethod, ByOtherMethod, ByArray, ByProperty])
def test_masks_by_methods_of_a_vector_environments_copies_are_applied(make, mode):
    assert_masks_are_applied(SyncVectorEnv([make] * 2, autoreset_mode=mode))


def test_masks_are_read_in_the_mode_of_their_own_vector_environment():
    vector = SyncVectorEnv([ByMethod] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    SyncVectorEnv([ByMethod], autoreset_mode=AutoresetMode.NEXT_STEP)  # in metadata of both
    assert_masks_are_applied(vector)


def assert_masks_are_applied(vector):
    lanes = environments.make(vector, 2)
    assert set(lanes.observation_space) == {"observation", "action_mask"}
    lanes.start(0)
    for _ in range(16):
        allowed = lanes.observations["action_mask"]
        times = np.round(lanes.observations["observation"][:, 0] * 8).astype(int)
        going = times < 6
        np.testing.assert_array_equal(allowed[going], MASKS[times[going] % len(MASKS)])
        lanes.step(allowed.argmax(axis=1))


@pytest.mark.slow
def test_masks_by_methods_in_other_processes_are_refused():
    vector = AsyncVectorEnv([ByMethod] * 2, context="spawn")
    try:
        with pytest.raises(UserError, match=r"AsyncVectorEnv give masks .* processes=True"):
            environments.make(vector, 2)
    finally:
        vector.close()


def test_masks_in_the_infos_of_a_gymnax_environment_are_refused():
    class Masked(GymnaxChain):
        def step_env(self, *args, **kwargs):
            *row, info = super().step_env(*args, **kwargs)
            return *row, {**info, "action_mask": jnp.ones(2)}

    with pytest.raises(UserError, match="Masked gives a mask of actions in the info of a step"):
        environments.make(Masked(), 2)


@pytest.mark.parametrize("value", [True, None, "yes", BOX, 3])
def test_attributes_that_are_no_masks_are_left_alone(value):
    def make():
        env = Given(convert=lambda mask: None)
        env.action_masks = value
        return env

    assert environments.make(make, 2).observation_space == BOX


@pytest.mark.parametrize("name", ["action_mask", "action_masks"])
@pytest.mark.parametrize("quiet", [False, True], ids=["flagged", "unflagged"])
def test_a_partial_reset_leaves_the_masks_of_other_lanes_alone(name, quiet):
    class Vector(SyncVectorEnv):
        def reset(self, **kwargs):
            observations, info = super().reset(**kwargs)
            return observations, {k: v for k, v in info.items() if not (quiet and k[0] == "_")}

    copies = [lambda: Given(name=name)] * 2
    lanes = environments.make(Vector(copies, autoreset_mode=AutoresetMode.DISABLED), 2)
    lanes.start(seed=0)
    lanes.vector.step(np.array([0, 0]))
    reset = {"reset_mask": np.array([True, False])}
    observations, _ = lanes.vector.reset(options=reset)
    np.testing.assert_array_equal(observations["action_mask"], MASKS[[0, 1]])


class Sometimes(Given):
    def step(self, action):
        *row, info = super().step(action)
        return *row, {} if self.time == 2 else info


class Late(Given):
    resets = 0

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        self.resets += 1
        return observation, {} if self.resets == 1 else info


class LateInAStep(Given):
    """A mask in the infos of some steps, and in no reset."""

    def __init__(self, at=2, **kwargs):
        super().__init__(**kwargs)
        self.at = at

    def info(self):
        return super().info() if self.time == self.at else {}

    def permits(self, action):
        return True


LATE = {
    "in the middle": (LateInAStep, "step 2"),
    "at the end": (lambda: LateInAStep(6), "step 6"),
    "of the other name": (lambda: LateInAStep(name="action_masks"), "step 2"),
}


@pytest.mark.parametrize("vector", [None, *AutoresetMode], ids=lambda m: m and m.name)
@pytest.mark.parametrize(("make", "where"), LATE.values(), ids=LATE.keys())
def test_masks_that_come_after_the_first_reset_are_refused(make, where, vector):
    env = make if vector is None else SyncVectorEnv([make] * 4, autoreset_mode=vector)
    found = f"environment 0 returned an info with 'action_mask', which.*at {where}"
    with pytest.raises(EnvironmentFailure, match=found):
        policygrad.train(env, **TINY)


@pytest.mark.slow
def test_late_masks_cross_from_workers():
    with pytest.raises(
        EnvironmentFailure, match=r"environment \d returned an info with.*step 2 of"
    ):
        policygrad.train(LateInAStep, processes=True, **TINY)


def test_late_masks_of_a_box_are_refused_with_their_place():
    make = lambda: LateInAStep(actions=BOX)  # noqa: E731
    for env in make, SyncVectorEnv([make] * 4):
        with pytest.raises(UserError, match=r"environment 0 \(at step 2.*gives a mask of actions"):
            policygrad.train(env, **TINY)


class WithArguments(ByMethod):
    def action_masks(self, player):
        return self.mask


BAD = {
    "wrong length": (
        lambda: Given(convert=lambda mask: mask[:2]), EnvironmentFailure,
        r"mask of actions of shape \(2,\), expected 3 flags",
    ),
    "no flags": (
        lambda: Given(convert=lambda mask: mask * 0.5), EnvironmentFailure,
        "a mask of actions that is not made of 0 and 1",
    ),
    "text": (
        lambda: Given(convert=lambda mask: ["a", "b", "c"]), EnvironmentFailure, "not made of 0",
    ),
    "sometimes": (
        Sometimes, EnvironmentFailure,
        r"environment \d returned an info without 'action_mask'.*at step 2 of its episode",
    ),
    "late": (Late, EnvironmentFailure, "an info with 'action_mask', which the info of its first"),
    "on a Box": (
        lambda: Given(actions=BOX), UserError, "gives a mask of actions, and its action space is B",
    ),
    "a method with arguments": (
        WithArguments, UserError, "gives masks of actions only with arguments .*player",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kind", "found"), BAD.values(), ids=BAD.keys())
def test_case_11_and_further_masks_that_cannot_be_applied_are_refused(make, kind, found):
    with pytest.raises(kind, match=found):
        policygrad.train(make, **TINY)


def test_environments_without_masks_keep_their_spaces():
    lanes = environments.make(lambda: Given(convert=lambda mask: None), 2)
    assert lanes.observation_space == BOX


class Twice(Given):
    """Gives a mask in its info, and by a method another one, or the same."""

    same = False

    def action_masks(self):
        return self.mask if self.same else 1 - self.mask


class TwiceTheSame(Twice):
    same = True

    def action_masks(self):
        return self.mask.astype(bool).tolist()


class TwiceInInfo(Given):
    def info(self):
        return {"action_mask": self.mask, "action_masks": np.ones(3)}


class TwoMethods(ByMethod):
    def action_mask(self):
        return np.ones(3)


class InObservationToo(Given):
    """A mask in the observation, and another one beside it."""

    def __init__(self, beside=lambda mask: 1 - mask):
        super().__init__(space=spaces.Dict(x=BOX, action_mask=spaces.MultiBinary(3)))
        self.beside = beside

    def row(self):
        return super().row() | {"action_mask": self.mask}

    def info(self):
        return {"action_mask": self.beside(self.mask)}


class InObservationAndByMethod(InObservationToo):
    def info(self):
        return {}

    def action_masks(self):
        return self.beside(self.mask)


class InObservationBesideAMethodThatFails(InObservationAndByMethod):
    def action_masks(self):
        raise NotImplementedError


class Shorter(Twice):
    def action_masks(self):
        return self.mask[:2]


class LaterInTheEpisode(Twice):
    def action_masks(self):
        return 1 - self.mask if self.time == 3 else self.mask


DIFFERING = {
    "info and method": (Twice, r"by info\['action_mask'\] and .* by Twice.action_masks\(\)"),
    "behind a wrapper": (
        lambda: gymnasium.wrappers.TimeLimit(Twice(), 50),
        r"by Twice\.action_masks",
    ),
    "two names in info": (TwiceInInfo, r"info\['action_mask'\] and .*info\['action_masks'\]"),
    "two methods": (TwoMethods, r"TwoMethods.action_mask\(\) and .*TwoMethods.action_masks\(\)"),
    "observation and info": (InObservationToo, r"observation\['action_mask'\] and .*info"),
    "observation and method": (
        InObservationAndByMethod,
        r"observation\['action_mask'\] and .*by In",
    ),
    "another length": (Shorter, "two masks of actions that differ"),
    "in a later step": (LaterInTheEpisode, "two masks of actions that differ.*at step 3"),
}


@pytest.mark.parametrize(("make", "found"), DIFFERING.values(), ids=DIFFERING.keys())
def test_further_masks_that_differ_are_refused_and_both_are_named(make, found):
    with pytest.raises(EnvironmentFailure, match=found):
        policygrad.train(make, **TINY)


def test_masks_that_differ_are_refused_in_a_vector_environment():
    vector = SyncVectorEnv([Twice] * 4, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(EnvironmentFailure, match=r"info\['action_mask'\] and .*Twice.action_masks"):
        policygrad.train(vector, **TINY)


@pytest.mark.parametrize(
    "make",
    [
        TwiceTheSame,
        lambda: InObservationToo(lambda mask: mask.tolist()),
        lambda: InObservationAndByMethod(lambda mask: mask.astype(bool)),
        InObservationBesideAMethodThatFails,
    ],
    ids=["info and method", "observation and info", "observation and method", "it fails"],
)
def test_masks_that_agree_are_taken(make):
    run = policygrad.train(make, **TINY)  # a forbidden action is an error
    assert "action_mask" in run.agent.observation_space.spaces


class Forgets(ByMethod):
    def action_masks(self):
        return None if self.time == 2 else self.mask


def test_a_method_that_returns_none_is_named():
    found = r"returned None by Forgets.action_masks\(\), expected a mask .*at step 2 of"
    with pytest.raises(EnvironmentFailure, match=found):
        policygrad.train(Forgets, **TINY)


class Hybrid(Given):
    """A gear under a mask, and a move that has none; the mask has this form."""

    DICT = spaces.Dict(gear=spaces.Discrete(3), move=BOX)
    TUPLE = spaces.Tuple([BOX, spaces.Discrete(3)])
    CHOICES = spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)])

    def __init__(self, actions=DICT, convert=lambda mask: {"gear": mask}, **kwargs):
        super().__init__(actions=actions, convert=convert, **kwargs)

    def permits(self, action):
        if isinstance(action, dict):
            return self.mask[action["gear"]]
        return self.mask[action[0 if self.action_space == self.CHOICES else 1]]

    def reward(self, action):
        return 1.0


class HybridByMethod(Hybrid):
    def info(self):
        return {}

    def action_masks(self):
        return self.convert(self.mask)


def both(mask):
    return np.concatenate([mask, [1, 0]])


HYBRIDS = {
    "a dict in info": Hybrid,
    "a dict by a method": HybridByMethod,
    "under the other name": lambda: Hybrid(name="action_masks"),
    "a tuple": lambda: Hybrid(Hybrid.TUPLE, lambda mask: (mask,)),
    "a list by a method": lambda: HybridByMethod(Hybrid.TUPLE, lambda mask: [mask.tolist()]),
    "of choices alone": lambda: Hybrid(Hybrid.CHOICES, lambda mask: (mask, [0, 1])),
    "of choices in a row": lambda: Hybrid(Hybrid.CHOICES, both),
    "beside a Dict": lambda: Hybrid(space=spaces.Dict(x=BOX)),
}


@pytest.mark.parametrize("make", params(HYBRIDS, {"of choices in a row"}))
def test_further_masks_of_several_actions_are_applied(make):
    run = policygrad.train(make, **TINY)  # an action that is not permitted is an error
    assert "action_mask" in run.agent.observation_space.spaces
    policygrad.evaluate(run, episodes=2)


@pytest.mark.slow
def test_masks_of_several_actions_cross_from_workers():
    run = policygrad.train(HybridByMethod, processes=True, **TINY)  # a forbidden action is an error
    assert "action_mask" in run.agent.observation_space.spaces


WHOLE = r"put the masks into the observation, as an entry 'action_mask' of the space "
UNCLEAR = {
    "flags alone": (lambda: Hybrid(convert=lambda mask: mask), WHOLE + r"Dict\('gear': MultiBi"),
    "another name": (lambda: Hybrid(convert=lambda m: {"gears": m}), WHOLE + r"Dict\('gear'"),
    "none": (lambda: Hybrid(convert=lambda m: {}), WHOLE),
    "for a Box": (lambda: Hybrid(convert=lambda m: {"gear": m, "move": m}), WHOLE),
    "too many": (lambda: Hybrid(Hybrid.TUPLE, lambda m: (m, m)), WHOLE + r"Tuple\(MultiBinary\(3"),
    "flags by a method": (lambda: HybridByMethod(convert=lambda m: m), WHOLE),
    "Boxes alone": (
        lambda: Hybrid(spaces.Dict(move=BOX)), "masks say which choices .* are permitted$",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "found"), UNCLEAR.values(), ids=UNCLEAR)
def test_further_masks_of_several_actions_without_a_meaning_are_refused(make, found):
    with pytest.raises(UserError, match=found):
        policygrad.train(make, **TINY)


def test_masks_of_several_actions_in_a_vector_environment_are_refused():
    vector = SyncVectorEnv([HybridByMethod] * 2)
    with pytest.raises(UserError, match=WHOLE):
        environments.make(vector, 2)


def test_a_part_without_its_mask_is_refused():
    make = lambda: Hybrid(  # noqa: E731
        spaces.Dict(gear=spaces.Discrete(3), flag=spaces.Discrete(2)),
        lambda m: {"gear": m} if m[1] else {"gear": m, "flag": [1, 1]},
    )
    with pytest.raises(EnvironmentFailure, match=r"a mask of actions \{.*expected a dict with"):
        policygrad.train(make, **TINY)
