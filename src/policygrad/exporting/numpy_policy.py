"""A trained policy that needs NumPy alone. `policygrad export` wrote it, as policy.py.

    from policy import load

    policy = load()                                             # from the folder of this file
    action = policy.act(observation)                            # the distribution's mode
    action = policy.act(observation, np.random.default_rng(0))  # a sample

Observations go in as the environment returns them; they are encoded and normalised here. Actions
come out as the environment's `step` takes them: scaled, clipped, and counted from their start. A
batch of observations has one more axis, at the front of every array.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1  # of policy.json
LARGEST = np.finfo(np.float32).max
FLOOR = -LARGEST  # the log-probability of what a mask forbids
ACTIVATIONS: dict[str, Callable] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}

Description = dict[str, Any]
Mask = np.ndarray | None  # `[B, m]`, the flags of all masks one after the other


def load(folder: str | Path | None = None) -> "Policy":
    """The policy in a folder.

    Args:
        folder: holds policy.json and policy.npz. Default: the folder of this file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or the files do not belong together.
    """
    folder = Path(__file__).parent if folder is None else Path(folder)
    path, arrays_path = folder / "policy.json", folder / "policy.npz"
    description = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{path} is not of the format {FORMAT} that this file reads; export again")
    if description.pop("checksum", None) != checksum(description):
        raise ValueError(f"{path} is damaged or was edited; export again")
    content = arrays_path.read_bytes()
    if hashlib.sha256(content).hexdigest() != description["sha256"]:
        raise ValueError(f"{arrays_path} is damaged, or of another policy; export again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return Policy(description, dict(arrays))


def checksum(description: Description) -> str:
    """The checksum of what policy.json says."""
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Policy:
    """Raw observations in, actions out.

    Attributes:
        description: what policy.json says: the parts of observations and actions, versions.
    """

    def __init__(self, description: Description, arrays: dict[str, np.ndarray]) -> None:
        self.description = description
        self._readers = {
            part["name"]: READERS[part["kind"]](part) for part in parts(description["observation"])
        }
        self._heads = {
            part["name"]: HEADS[part["kind"]](part, arrays) for part in parts(description["action"])
        }
        self._mean, self._scale, self._limit = (arrays[x] for x in ("mean", "scale", "limit"))
        self._activation = ACTIVATIONS[description["activation"]]
        self._layers = [
            (arrays[f"weight_{i}"].T, arrays[f"bias_{i}"]) for i in range(description["layers"])
        ]

    def act(self, observation: Any, rng: np.random.Generator | None = None) -> Any:
        """The action at one observation, or the actions at a batch of them.

        Args:
            observation: as the environment returned it, or with a batch axis `[B, ...]`.
            rng: what samples are drawn from; without one, the distribution's mode is returned.

        Returns:
            What the environment's `step` takes; `[B, ...]` for a batch.

        Raises:
            ValueError: the observation has another shape or other parts, holds a number that is not
                finite, a fraction where whole numbers are, a flag beside 0 and 1 or a choice that
                there is not, or its mask permits nothing.
        """
        if rng is not None and not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be as numpy.random.default_rng(0) makes it, got {rng!r}")
        outputs, mask, batched = self._outputs(observation)

        def action(part: Description) -> np.ndarray:
            head = self._heads[part["name"]]
            actions = head.act(head.parameters(outputs, mask), rng)
            return actions if batched else actions[0]

        return mapped(action, self.description["action"])

    def distribution(self, observation: Any) -> Any:
        """The parameters of the distribution at an observation; arguments and errors as of `act`.

        Returns:
            For each part of the action a dict of arrays: `log_probabilities` of choices, one choice
            after the other; `log_odds` of flags; `mean` and `log_std` of numbers, before a tanh, in
            units in which −1…1 is the range between the action's bounds.
        """
        outputs, mask, batched = self._outputs(observation)

        def parameters(part: Description) -> dict[str, np.ndarray]:
            named = self._heads[part["name"]].parameters(outputs, mask)
            return named if batched else {name: rows[0] for name, rows in named.items()}

        return mapped(parameters, self.description["action"])

    def _outputs(self, observation: Any) -> tuple[np.ndarray, Mask, bool]:
        """The network's outputs `[B, outputs]`, the mask `[B, m]`, and whether B was an axis."""
        features, mask, batched = self._read(observation)
        with np.errstate(over="ignore"):  # of what is clipped here
            x = np.clip((features - self._mean) / self._scale, -self._limit, self._limit)
        for weight, bias in self._layers[:-1]:
            x = self._activation(x @ weight + bias)
        weight, bias = self._layers[-1]
        return x @ weight + bias, mask, batched

    def _read(self, observation: Any) -> tuple[np.ndarray, Mask, bool]:
        """Features `[B, f]`, the mask `[B, m]`, and whether B was an axis."""
        found = [
            (part, numbers(part["shape"], value, place), place)
            for part, value, place in placed(
                self.description["observation"], observation, "observation"
            )
        ]
        leads = {array.shape[: array.ndim - len(part["shape"])] for part, array, _ in found}
        if len(leads) > 1:
            raise ValueError(f"the parts of the observation have unlike batch axes, {leads}")
        lead = leads.pop()
        features, flags = [], []
        for part, array, place in found:
            rows = array.reshape(*(lead or (1,)), math.prod(part["shape"]))
            read = self._readers[part["name"]](rows, place)
            if part["is_mask"]:
                flags.append(rows > 0)
            if part["is_feature"]:
                features.append(read)
        mask = np.concatenate(flags, axis=1) if flags else None
        return np.concatenate(features, axis=1), mask, bool(lead)


# ----- trees of parts: a space of several parts has kind Dict or Tuple, and parts


def parts(tree: Description) -> list[Description]:
    """The parts of a space that are not divided further."""
    found: list[Description] = []
    mapped(found.append, tree)
    return found


def mapped(function: Callable[[Description], Any], tree: Description) -> Any:
    """What a function gives for every part, in the structure of the space."""
    if tree["kind"] == "Dict":
        return {name: mapped(function, part) for name, part in tree["parts"].items()}
    if tree["kind"] == "Tuple":
        return tuple(mapped(function, part) for part in tree["parts"])
    return function(tree)


def placed(tree: Description, value: Any, place: str) -> Iterator[tuple[Description, Any, str]]:
    """The parts with the values of an observation that belong to them, and where those stand."""
    if tree["kind"] == "Dict":
        names = list(tree["parts"])
        if not isinstance(value, Mapping) or set(value) != set(names):
            got = list(value) if isinstance(value, Mapping) else type(value).__name__
            raise ValueError(f"{place} must be a dict with the entries {names}, got {got}")
        for name, part in tree["parts"].items():
            yield from placed(part, value[name], f"{place}[{name!r}]")
    elif tree["kind"] == "Tuple":
        n = len(tree["parts"])
        if not isinstance(value, (tuple, list)) or len(value) != n:
            got = f"{len(value)}" if isinstance(value, (tuple, list)) else type(value).__name__
            raise ValueError(f"{place} must be a tuple of {n} parts, got {got}")
        for number, part in enumerate(tree["parts"]):
            yield from placed(part, value[number], f"{place}[{number}]")
    else:
        yield tree, value, place


# ----- observations: what reads rows `[B, size]` of a part


def numbers(shape: list[int], value: Any, place: str) -> np.ndarray:
    """A value as one array of numbers of this shape, or a batch of it."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unlike lengths
        array = np.asarray(None)
    is_number = array.dtype.kind in "biuf"
    lead = array.ndim - len(shape)
    if not is_number or lead not in (0, 1) or list(array.shape[lead:]) != shape:
        got = f"shape {list(array.shape)}" if is_number else repr(value)[:80]
        raise ValueError(
            f"{place} must be numbers of shape {shape}, or {['B', *shape]} for a batch, got {got}"
        )
    return array


class Measurements:
    """Numbers, in 32 bits; whole numbers or flags where the space has these."""

    def __init__(self, part: Description) -> None:
        self._whole = part.get("whole")

    def __call__(self, rows: np.ndarray, place: str) -> np.ndarray:
        if not (np.isfinite(rows) & (np.abs(rows) <= LARGEST)).all():
            raise ValueError(f"{place} holds NaN, an infinity or a number too large for 32 bits")
        if self._whole is not None:
            low, high = self._whole
            if not ((rows >= low) & (rows <= high) & (rows == np.floor(rows))).all():
                raise ValueError(
                    f"{place} must be whole numbers from {low} to {high}, got {rows.tolist()}"
                )
        return rows.astype(np.float32)


class Choices:
    """Whole numbers as one-hot vectors, one after the other."""

    def __init__(self, part: Description) -> None:
        self._part = part
        self._which, self._values = one_hot_columns(part)

    def __call__(self, rows: np.ndarray, place: str) -> np.ndarray:
        chosen = rows[:, self._which] == self._values
        if not (chosen.sum(axis=1) == rows.shape[1]).all():
            raise ValueError(
                f"{place} must be choices of {self._part['sizes']} from {self._part['starts']} on, "
                f"got {rows.tolist()}"
            )
        return chosen.astype(np.float32)


def one_hot_columns(part: Description) -> tuple[np.ndarray, np.ndarray]:
    """For each entry of the one-hot vectors: which choice it tells of, and which value of it."""
    which = np.repeat(np.arange(len(part["sizes"])), part["sizes"])
    ranges = [np.arange(n) + start for n, start in zip(part["sizes"], part["starts"], strict=True)]
    return which, np.concatenate(ranges)


READERS: dict[str, Callable] = {"measurements": Measurements, "choices": Choices}


# ----- actions: parameters of a part's distribution, and how it acts


class Head:
    """A part of the action.

    Attributes:
        part: its description: shape, dtype, the ranges of the network's outputs and of the mask
            that are its own.
    """

    def __init__(self, part: Description, arrays: dict[str, np.ndarray]) -> None:
        self.part = part

    def own(self, outputs: np.ndarray, mask: Mask) -> tuple[np.ndarray, Mask]:
        """The part's outputs `[B, n]`, and their mask `[B, n]`; None permits all."""
        first, end = self.part["outputs"]
        if mask is None or self.part["mask"] is None:
            return outputs[:, first:end], None
        begin, stop = self.part["mask"]
        return outputs[:, first:end], mask[:, begin:stop]

    def shaped(self, rows: np.ndarray) -> np.ndarray:
        """`[B, size]` as `[B, *shape]`."""
        return rows.reshape(len(rows), *self.part["shape"])


class Categorical(Head):
    """Choices, each one of a few whole numbers."""

    def __init__(self, part: Description, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(part, arrays)
        self._starts = np.array(part["starts"], np.int64)
        self._cuts = np.cumsum(part["sizes"])[:-1]

    def parameters(self, outputs: np.ndarray, mask: Mask) -> dict[str, np.ndarray]:
        logits, mask = self.own(outputs, mask)
        if mask is not None:
            if not all(choice.any(axis=1).all() for choice in self._apart(mask)):
                raise ValueError(f"the mask permits nothing for {self.part['name']}")
            logits = np.where(mask, logits, FLOOR)
        log_probs = np.concatenate([log_softmax(x) for x in self._apart(logits)], axis=1)
        return {
            "log_probabilities": log_probs if mask is None else np.where(mask, log_probs, FLOOR)
        }

    def act(self, parameters: dict[str, np.ndarray], rng: np.random.Generator | None) -> np.ndarray:
        scores = parameters["log_probabilities"]
        if rng is not None:
            scores = scores + rng.gumbel(size=scores.shape)  # the greatest is a sample then
        chosen = np.stack([x.argmax(axis=1) for x in self._apart(scores)], axis=1)
        return self.shaped(chosen + self._starts).astype(self.part["dtype"])

    def _apart(self, rows: np.ndarray) -> list[np.ndarray]:
        return np.split(rows, self._cuts, axis=1)


class Bernoulli(Head):
    """Flags, 0 or 1."""

    def parameters(self, outputs: np.ndarray, mask: Mask) -> dict[str, np.ndarray]:
        log_odds, mask = self.own(outputs, mask)
        return {"log_odds": log_odds if mask is None else np.where(mask, log_odds, FLOOR)}

    def act(self, parameters: dict[str, np.ndarray], rng: np.random.Generator | None) -> np.ndarray:
        log_odds = parameters["log_odds"]
        ones = log_odds > (0 if rng is None else rng.logistic(size=log_odds.shape))
        return self.shaped(ones).astype(self.part["dtype"])


class Gaussian(Head):
    """Numbers, as fractions of the half range around its middle until they are acted by."""

    def __init__(self, part: Description, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(part, arrays)
        names = ("log_std", "middle", "half", "low", "high")
        self._log_std, self._middle, self._half, self._low, self._high = (
            arrays[f"{part['name']}/{name}"] for name in names
        )

    def parameters(self, outputs: np.ndarray, mask: Mask) -> dict[str, np.ndarray]:
        mean = self.shaped(self.own(outputs, mask)[0])
        return {"mean": mean, "log_std": np.broadcast_to(self._log_std, mean.shape)}

    def act(self, parameters: dict[str, np.ndarray], rng: np.random.Generator | None) -> np.ndarray:
        drawn = parameters["mean"]
        if rng is not None:
            drawn = drawn + np.exp(parameters["log_std"]) * rng.standard_normal(drawn.shape)
        if self.part["squash"]:
            drawn = np.tanh(drawn)
        action = np.clip(self._middle + self._half * drawn, self._low, self._high)
        return action.astype(self.part["dtype"])


HEADS = {"categorical": Categorical, "bernoulli": Bernoulli, "gaussian": Gaussian}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Normalised along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
