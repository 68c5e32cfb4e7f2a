"""Policies on disk: arrays and JSON. A loaded policy acts without an environment."""

import dataclasses
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gymnasium import spaces

from policygrad.core.describing import (
    class_name,
    described_without_arrays,
    differences,
    is_of_class,
)
from policygrad.core.errors import RunError
from policygrad.core.modules import is_array
from policygrad.core.shell import user_path
from policygrad.policies import architectures
from policygrad.policies.agent import Agent
from policygrad.policies.memory import Memory
from policygrad.policies.space_policy import RecurrentPolicy, SpacePolicy, network_policy
from policygrad.runs import storage
from policygrad.runs.directory import CONFIG, POLICY, RunDirectory, folders
from policygrad.spaces import observation_space_of, space_from_json, space_of

SPACES = "observation_space", "action_space"
SIZES = (
    "hidden",
    "shape",
    "n",
    "nvec",
    "size",
)  # what a description says of how many numbers it is of
FLAGS = ("squash", "clipped", "valued", "normalise_observations")
MOST_UNSAVED = 1_000_000  # a space may be larger than the network that reads it


def policy_to_files(
    policy: Any, observation_space: spaces.Space, action_space: spaces.Space
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a policy, and the JSON from which `load` rebuilds its structure."""
    data: dict[str, Any] = {
        "observation_space": space_of(observation_space).to_json(),
        "action_space": space_of(action_space).to_json(),
        "class": class_name(policy),
        "network": None,
    }
    if isinstance(policy, SpacePolicy):
        data["network"] = _network(policy)
        data["small_spreads"] = policy.normaliser.small_spreads
    else:
        data["values"] = described_without_arrays(policy)
    return storage.to_arrays(policy, "policy"), data


def _network(policy: SpacePolicy) -> dict[str, Any]:
    """What a policy of `network_policy` is made from again."""
    remembers = policy.memory if isinstance(policy, RecurrentPolicy) else None
    return {
        "architecture": architectures.describe(policy.architecture),
        "memory": None if remembers is None else dataclasses.asdict(remembers),
        "squash": policy.squash,
        "clipped": policy.clipped,
        "valued": policy.valued,
        "normalise_observations": policy.normaliser.normalises,
        "clip_observations": policy.normaliser.clip,
    }


def load(path: str | Path, *, network: Any = None, like: Any = None) -> Agent:
    """A saved policy, ready to act on raw observations without an environment.

    Args:
        path: a run directory, a checkpoint directory, or a policy file.
        network: the class of a user's own architecture, which is called with what its `to_json`
            gave when the policy was saved; or the architecture itself. Needed where the policy was
            made by `network_policy(network=...)` with an architecture that is not this library's.
        like: a policy of the user's own class with the structure that was saved; needed where the
            policy was not made by `network_policy`.

    Returns:
        An `Agent`: `agent(observation)` is the distribution, `agent.act(observation)` the action.

    Raises:
        RunError: there is no policy, or a file is damaged, of another program or of a newer format,
            or a class has to be passed, or the one that was passed is another. Files are read as
            arrays and JSON; nothing in them is executed, and no class is imported by a name.
    """
    stem = find(user_path(path))
    tensors, description = storage.pair(stem)
    arrays, data = storage.load(stem)
    if like is not None and network is None:  # both together are refused below
        check_class(like, data, description)
    with storage.rebuilding(description, "describes no policy"):
        _check_sizes(data, sum(x.size for x in arrays.values()), description)
        spaces_of = [space_from_json(data[name]).to_gymnasium() for name in SPACES]
        if like is None and data["network"] is not None:
            like = _fresh(data["network"], spaces_of, network, description)
            if not isinstance(small := data.get("small_spreads", False), bool):
                raise TypeError(f"small_spreads: {small!r}")
            like = like if small else _with_least_spread(like)
            if data["format"] == 1:
                arrays = _with_statistics_apart(arrays, like, spaces_of[0])
        elif network is not None:
            raise RunError(
                f"{description} holds a policy of the class {data.get('class')}, got network="
                f"{network!r}: an architecture goes with the policies of network_policy, and "
                "without like="
            )
    if like is None:
        raise RunError(
            f"{description} holds a policy of the class {data.get('class')}, which is not this "
            "library's: pass like=, a policy of that class, to policygrad.load"
        )
    policy = storage.from_arrays(like, arrays, "policy", tensors)
    policy = jax.tree.map(lambda x: jax.numpy.asarray(x) if is_array(x) else x, policy)
    return Agent(policy, *spaces_of)


def check_class(policy: Any, data: dict[str, Any], source: Path) -> None:
    """Look whether a policy that was passed is of the class that was saved, and warn where it has
    other settings: arrays are all that is read into it.

    Args:
        policy: as it was passed.
        data: the JSON that was saved.
        source: its file.

    Raises:
        OtherStructure: the class is another one.
    """
    saved, now = data.get("class"), class_name(policy)
    if not isinstance(saved, str):
        return
    if not is_of_class(policy, saved):
        module, _, name = saved.rpartition(".")
        own = type(policy).__qualname__
        raise storage.OtherStructure(
            f"{source} holds a policy of the class {saved}, got one of {now}; pass one of the "
            f"class that was saved. If it is the same class, moved or renamed, give it its name of "
            f"then first: {own}.__module__, {own}.__qualname__ = {module!r}, {name!r}"
        )
    own = isinstance(policy, SpacePolicy)
    was = data.get("network" if own else "values") or {}  # earlier versions saved no values
    is_now = json.loads(json.dumps(_network(policy) if own else described_without_arrays(policy)))
    if others := list(differences(was, is_now)):
        warnings.warn(
            f"{source} holds a policy of {saved} with other settings: {', '.join(others)}. Only "
            "arrays are read into the policy that was passed, which may act in another way than "
            "the one that was saved",
            stacklevel=3,
        )


def _check_sizes(data: dict[str, Any], saved: int, source: Path) -> None:
    """RunError where a description is of far more numbers than were saved with it: what it
    describes would be made in memory before it could be compared."""
    network = data.get("network") or {}
    described = [network, *(json.loads(data[name]) for name in SPACES)]
    while described:
        match described.pop():
            case dict() as parts:
                for name, value in parts.items():
                    sizes = value if isinstance(value, list) else [value]
                    if name in SIZES and all(type(x) is int for x in sizes):
                        together = math.prod if name == "shape" else sum
                        if together(sizes) > MOST_UNSAVED + saved:
                            raise RunError(
                                f"{source} is damaged: {name} is {value}, and {saved} numbers were "
                                "saved with it"
                            )
                    described.append(value)
            case list() as parts:
                described += parts


def _fresh(
    saved: dict[str, Any], spaces_of: list[spaces.Space], network: Any, source: Path
) -> SpacePolicy:
    """A policy of the saved structure, with weights of its own."""
    settings = dict(saved)
    if "hidden" in settings:  # as files were before there were architectures
        hidden = {"hidden": settings.pop("hidden")}
        settings["architecture"] = {"class": "FullyConnected", "settings": hidden}
    for name in FLAGS:
        if not isinstance(settings.get(name, False), bool):
            raise RunError(f"{source} is damaged: {name} is {settings[name]!r}")
    architecture = architectures.restore(settings.pop("architecture"), network, source)
    if "memory" not in settings and observation_space_of(spaces_of[0]).pictures:
        raise RunError(
            f"{source} is of a version that read pictures as plain numbers; train it again"
        )
    remembers = settings.pop("memory", None)  # of before there was memory
    memory = None if remembers is None else Memory(**remembers)
    return network_policy(
        jax.random.key(0), *spaces_of, network=architecture, memory=memory, **settings
    )


def _with_least_spread(policy: SpacePolicy) -> SpacePolicy:
    """A policy that normalises as it did when it was saved, by an earlier version."""
    return replace(policy, normaliser=replace(policy.normaliser, small_spreads=False))


def _with_statistics_apart(
    arrays: dict[str, np.ndarray], like: SpacePolicy, observation_space: spaces.Space
) -> dict[str, np.ndarray]:
    """The arrays of a policy of format 1, whose statistics were of all features as one vector, with
    those of each feature apart, and none of features that are not normalised."""
    place = "policy/normaliser/statistics/value"
    normaliser, example = like.normaliser, observation_space_of(observation_space).example()
    features, structure = jax.tree.flatten(jax.eval_shape(normaliser.encode, example))
    edges = np.cumsum([math.prod(x.shape) for x in features])[:-1]
    kept = dict(arrays)
    for name in ("mean", "variance"):
        parts = np.split(kept.pop(f"{place}/{name}"), edges)
        apart = [
            part.reshape(x.shape) if flag else None
            for part, x, flag in zip(parts, features, normaliser.normalised, strict=True)
        ]
        kept |= storage.to_arrays({name: structure.unflatten(apart)}, place)
    return kept


def find(path: Path) -> Path:
    """The stem of the policy's two files in a run, in a checkpoint, or of a policy file.

    Raises:
        RunError: there is none.
    """
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix("")
    if (path / CONFIG).exists():
        run = RunDirectory.open(path)
        # an interrupted run may not have written its policy yet; a checkpoint holds it too
        if (path / f"{POLICY}.json").exists():
            return path / POLICY
        return run.newest_checkpoint() / "state"
    if (path / "state.json").exists():
        return path / "state"
    if best := folders(path, POLICY):  # a run's `best`
        return best[-1] / POLICY
    if path in folders(path.parent, POLICY):
        return path / POLICY
    raise RunError(f"no run or policy at {path}")


def run_of(path: Path) -> RunDirectory | None:
    """The run that a run's directory, one of its checkpoints or its policy file belongs to."""
    places = [path, path.parent, *path.parents[1:2]]
    return next((RunDirectory(p) for p in places if (p / CONFIG).is_file()), None)
