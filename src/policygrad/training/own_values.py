"""What a user passes as values, checked before it is used: each mistake is named."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from policygrad.algorithms import Algorithm
from policygrad.core.errors import UserError
from policygrad.core.modules import is_array
from policygrad.core.reflection import settings_of
from policygrad.core.settings import check_setting
from policygrad.core.trajectories import Trajectories
from policygrad.gradients.baselines import Baseline
from policygrad.gradients.checking import checked
from policygrad.gradients.forms import Form, innermost
from policygrad.gradients.weights import Estimator
from policygrad.rollout.blocks import Elsewhere

DESCRIBED = ("algorithm", "estimator", "network")  # what a run's file describes
REGISTER = "decorate its class with @jax.tree_util.register_dataclass and @dataclass(frozen=True)"


def check_arguments(**arguments: Any) -> None:
    """Raise UserError unless what `train` takes beside settings is of the kind that it takes.

    Args:
        arguments: some of `train`'s, by name; None is always taken.
    """
    for name, value in arguments.items():
        wanted, fits = _WANTED[name]
        if value is not None and not fits(value):
            raise UserError(f"{name}={value!r} was given; {name} must be {wanted}")


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and str(value) != ""


_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "out": ("a path, or None to write nothing", _is_path),
    "collector": (
        "a function (source, policy, key, config) -> a collector, or policygrad.remote(workers=N)",
        lambda value: callable(value) or isinstance(value, Elsewhere),
    ),
    "env_kwargs": ("a dict of arguments by name", lambda value: isinstance(value, Mapping)),
    "config": (
        "a policygrad.TrainConfig; give a dict's items by name: train(env, **settings)",
        lambda value: not isinstance(value, (Mapping, str, os.PathLike)),
    ),
}


def check_algorithm(record: Algorithm) -> None:
    """Raise UserError unless a user's own record can be traced, and its settings, where they are
    plain numbers and words, are in their ranges."""
    name = type(record).__name__
    if not dataclasses.is_dataclass(record):
        raise UserError(f"algorithm={name}(…) is not a dataclass; {REGISTER}")
    _check_registered("algorithm", record)
    for path, leaf in jax.tree_util.tree_flatten_with_path(record)[0]:
        if not (is_array(leaf) or isinstance(leaf, (bool, int, float))):
            raise UserError(
                f"{name}{jax.tree_util.keystr(path)} is {leaf!r}, which is no number; mark the "
                'field as static, field(metadata={"static": True})'
            )
    check_statics(record)
    for setting in settings_of(type(record)):
        value = getattr(record, setting.field)
        if is_array(value) and np.ndim(value) == 0:
            value = np.asarray(value).item()
        if not is_array(value):
            check_setting(setting.name, setting.kind, value)


def check_estimator(estimator: Any) -> None:
    """Raise UserError unless it is an estimator of instances, with numbers in their ranges."""
    if isinstance(estimator, Form):
        raise UserError(
            f"estimator={estimator!r} is a return form; pass "
            "policygrad.estimators.Estimator(form, baseline, critic, discount)"
        )
    if not isinstance(estimator, Estimator):
        raise UserError(
            f"estimator={estimator!r} is no estimator; pass a name, or a value such as "
            "policygrad.estimators.gae(gae_lambda=0.9)"
        )
    for name, kind in (("form", Form), ("baseline", Baseline), ("critic", Baseline)):
        value = getattr(estimator, name)
        if value is None and name != "form":
            continue
        if not isinstance(value, kind):
            raise UserError(f"the estimator's {name} must be a {kind.__name__}, got {value!r}")
        _check_registered(name, value)
        check_statics(value)
    _check_registered("form", innermost(estimator.form))
    try:
        checked(estimator)
    except ValueError as error:
        raise UserError(str(error)) from error


def check_record(
    record: Trajectories,
    columns: int,
    info_names: Sequence[str] = (),
    *,
    whole_episodes: bool,
    group_size: int = 1,
    greedy: bool = False,
) -> None:
    """Raise UserError unless what a collector of the user's own returned is a batch of the run.

    Args:
        record: as it was returned.
        columns: number of lanes; not read for whole episodes.
        info_names: of the numbers in `infos`.
        whole_episodes: whether whole episodes were.
        group_size: how many episodes start in a group.
        greedy: whether the estimator reads greedy episodes.
    """
    if not isinstance(record, Trajectories):
        raise UserError(f"the collector must return Trajectories, got {type(record).__name__}")
    steps = np.shape(record.rewards)[:1]
    if whole_episodes and np.ndim(record.rewards) == 2:  # which may be more, or fewer
        columns = np.shape(record.rewards)[1]
    for f in dataclasses.fields(Trajectories):
        value = getattr(record, f.name)
        if f.metadata.get("static") or f.name == "carry":
            continue
        cut = f.name.startswith("cut_")
        for leaf in jax.tree.leaves(value):
            shape = np.shape(leaf)
            if shape[1:2] != (columns,) or not (cut or shape[:1] == steps):
                rows = "K" if cut else "T"
                raise UserError(
                    f"the collector's {f.name} must have the shape [{rows}, {columns}, …] with T = "
                    f"{steps[0] if steps else '?'} (that of its rewards), got {list(shape)}"
                )
    infos = None if record.infos is None else list(np.shape(record.infos))
    if infos is not None and infos[2:] != [len(info_names)]:
        raise UserError(
            f"the collector's infos must have the shape [T, {columns}, {len(info_names)}], with a "
            f"number for each of the source's info_names {list(info_names)}, got "
            f"{infos}; leave them None, or return yours from "
            "Collector.infos()"
        )
    if record.whole_episodes != whole_episodes:
        kinds = {True: "whole episodes", False: "segments"}
        raise UserError(
            f"the collector returned {kinds[record.whole_episodes]}, and the run is of "
            f"{kinds[whole_episodes]} (Trajectories.whole_episodes)"
        )
    if record.group_size != group_size or np.shape(record.rewards)[1] % group_size:
        raise UserError(
            f"the collector returned {np.shape(record.rewards)[1]} episodes in groups of "
            f"{record.group_size}, and the run is of --group-size {group_size} "
            "(Trajectories.group_size)"
        )
    if greedy and record.greedy is None:
        raise UserError(
            "the collector returned no greedy episodes, and the estimator subtracts their returns "
            "(Trajectories.greedy)"
        )
    _check_valid(np.asarray(record.valid), whole_episodes=whole_episodes)


def _check_valid(valid: np.ndarray, *, whole_episodes: bool) -> None:
    if not np.any(valid):
        raise UserError("the collector returned a batch without any transition: valid is all False")
    if whole_episodes and not (np.all(valid[0]) and np.all(valid[:-1] >= valid[1:])):
        raise UserError(
            "the collector returned an episode with a gap: in each column of whole episodes, valid "
            "must be True from the first row to the episode's last step, and False after it"
        )


def _check_registered(what: str, value: Any) -> None:
    if jax.tree_util.all_leaves([value]):
        raise UserError(f"{what}={type(value).__name__}(…) is no pytree to JAX; {REGISTER}")


def check_statics(value: Any) -> None:
    """What is static must be hashable: JAX finds what it compiled by it."""
    structures = [jax.tree.structure(value)]
    try:
        for structure in structures:
            structures += structure.children()
            hash(structure.node_data())  # a structure's own hash leaves it out
    except TypeError as error:
        raise UserError(
            f"a static field of {value!r} is not hashable ({error}); pass a tuple in place of a "
            "list, or a frozen dataclass"
        ) from error
