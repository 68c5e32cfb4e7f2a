"""Per-episode gradients of a `torch.nn.Module`, some episodes at a time, by vmap of grad.

    ĝ_n = Σ_t Ψ_t ∇_θ log π_θ(a_t|s_t) of episode n.  [E3, E5, E6]

One forward and one backward pass serve all episodes of a chunk: the parameters are the same for all
of them, so that only the last product, of a layer's inputs with what comes back, is one an episode.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from policygrad.core.errors import UserError
from policygrad.core.trajectories import Trajectories
from policygrad.diagnostics.streaming import Part
from policygrad.environments.names import require_extra
from policygrad.torch.modes import check_mode

ROWS = 8_192  # steps of a chunk, padding among them
NUMBERS = 2**22  # of the gradients of a chunk

LogProbs = Callable[[Any, Any, Any], Any]


def torch_library() -> Any:
    """PyTorch; UserError if it is not installed."""
    return require_extra("torch", "measuring a PyTorch policy")


@dataclass(frozen=True)
class TorchPolicy:
    """A module, and how it says how probable actions are.

    Attributes:
        module: what is differentiated: all of its parameters that need gradients and that the
            log-probabilities depend on.
        log_probs: `(module, observations, actions) -> [T]`, log π(a_t|s_t) in nats of the steps of
            one episode, in their order. It gets tensors `[T, ...]`, or dictionaries of them.
        values: `(module, observations) -> [n]`, what the module itself says of the return to go;
            for `ModuleValues`. None without.
        memory: whether log-probabilities depend on earlier steps of the episode.
        vectorised: whether `log_probs` goes through `torch.func.vmap`, with episodes that are
            brought to one length: behind their end, the last step is repeated. Without, episodes
            are differentiated one after the other, as they are, with the same result.
    """

    module: Any
    log_probs: LogProbs
    values: Callable[[Any, Any], Any] | None = None
    memory: bool = False
    vectorised: bool = True

    @cached_property
    def scorer(self) -> Any:
        """A module whose call is `log_probs`, so that its parameters can be exchanged."""
        torch, log_probs = torch_library(), self.log_probs
        if not isinstance(self.module, torch.nn.Module):
            raise UserError(f"a TorchPolicy needs a torch.nn.Module, got {type(self.module)}")

        class Scorer(torch.nn.Module):
            def __init__(self, module: Any) -> None:
                super().__init__()
                self.module = module

            def forward(self, observations: Any, actions: Any) -> Any:
                return log_probs(self.module, observations, actions)

        return Scorer(self.module)

    def tensors(self, record: Any) -> Any:
        """Arrays as tensors on the module's device; floating-point ones in its precision."""
        torch = torch_library()
        like = next(iter(self.module.parameters()))

        def one(x: Any) -> Any:
            found = torch.as_tensor(np.ascontiguousarray(x), device=like.device)
            return found.to(like.dtype) if found.is_floating_point() else found

        return jax.tree.map(one, record)


class Steps(NamedTuple):
    """Some episodes as tensors, `[m, T, ...]`; `valid` up to the end of each."""

    observations: Any
    actions: Any
    valid: Any


class Differentiated(NamedTuple):
    """The parameters that are differentiated, by name, and all else that the module holds."""

    parameters: dict[str, Any]
    rest: dict[str, Any]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Names and columns of the flat gradient."""
        stops = np.cumsum([x.numel() for x in self.parameters.values()]).tolist()
        return tuple(
            Part(name.removeprefix("module."), stop - x.numel(), stop)
            for (name, x), stop in zip(self.parameters.items(), stops, strict=True)
        )


def differentiated(policy: TorchPolicy, record: Trajectories) -> Differentiated:
    """The parameters that the log-probabilities of the record's episodes depend on.

    With vmap, episodes are padded, and nothing can depend on their numbers: the longest stands for
    all. Without, all episodes are looked at, until every parameter is found.

    Raises:
        UserError: there are none; `log_probs` does not return one number a step, or other numbers
            when it is called again, or, with vmap, others for a step without those behind it; or a
            layer is in training mode.
    """
    check_mode(policy.scorer)
    named = _trainable(policy)
    lengths = np.asarray(record.valid).sum(axis=0)
    order = np.argsort(-lengths, kind="stable")
    acting: set[str] = set()
    with _unchecked():
        _check_log_probs(policy, *_episode(policy, record, order[0], lengths[order[0]]))
        for i in order[:1] if policy.vectorised else order:
            acting |= _acting(policy, named, *_episode(policy, record, i, lengths[i]))
            if len(acting) == len(named):
                break
    if not acting:
        raise UserError(
            "the log-probabilities depend on no parameter of the module that needs a gradient; "
            "log_probs must compute them with the module that it is given, without no_grad"
        )
    everything = dict(policy.scorer.named_parameters()) | dict(policy.scorer.named_buffers())
    parameters = {k: p.detach() for k, p in named.items() if k in acting}
    rest = {k: x.detach() for k, x in everything.items() if k not in parameters}
    return Differentiated(parameters, rest)


def check_known(known: Differentiated, acting: Iterable[str]) -> None:
    """Raise UserError if parameters act that are not among the known ones."""
    new = sorted(set(acting) - set(known.parameters))
    if new:
        raise UserError(
            "the log-probabilities of a later episode depend on parameters that those of the first "
            f"record do not depend on: {', '.join(x.removeprefix('module.') for x in new)}. Give a "
            "first record that is larger, or that has the longest episodes"
        )


def _trainable(policy: TorchPolicy) -> dict[str, Any]:
    return {k: p for k, p in policy.scorer.named_parameters() if p.requires_grad}


def _episode(policy: TorchPolicy, record: Trajectories, column: int, length: int) -> Any:
    """Observations and actions `[T, ...]` of one episode."""
    steps = _steps_of(policy, record, int(length), np.array([column]))
    return tuple(jax.tree.map(lambda x: x[0], part) for part in steps[:2])


def _check_log_probs(policy: TorchPolicy, observations: Any, actions: Any) -> None:
    torch = torch_library()
    steps = len(jax.tree.leaves(actions)[0])
    with torch.no_grad():
        found, again = (policy.scorer(observations, actions) for _ in range(2))
    if not isinstance(found, torch.Tensor):
        raise UserError(
            "log_probs must return a tensor of PyTorch, through which gradients go back; got "
            f"{type(found).__module__}.{type(found).__qualname__}"
        )
    if tuple(found.shape) != (steps,):
        raise UserError(
            "log_probs must return one number a step, of shape [T]; got shape "
            f"{list(found.shape)} for T = {steps}"
        )
    if not _alike_numbers(found, again):
        raise UserError(
            "log_probs returns other numbers if it is called again with the same episode, so that "
            "something in it is random, such as a dropout, or changes itself; turn that off, in "
            "most modules by module.eval()"
        )
    if policy.vectorised:
        with torch.no_grad():
            alone = policy.scorer(*jax.tree.map(lambda x: x[:1], (observations, actions)))
        if not _alike_numbers(found[:1], alone):
            raise UserError(
                "log_probs returns another number for the first step alone than within its "
                "episode, so that it depends on later steps or on their number. Give "
                "TorchPolicy(vectorised=False), which does not pad episodes to one length"
            )


def _alike_numbers(one: Any, other: Any) -> bool:
    """Whether log-probabilities are equal, but for what a device may round otherwise."""
    return bool(torch_library().allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True))


def _acting(
    policy: TorchPolicy, named: dict[str, Any], observations: Any, actions: Any
) -> set[str]:
    """Names of the parameters that the log-probabilities of one episode depend on."""
    torch = torch_library()
    with torch.enable_grad():
        total = policy.scorer(observations, actions).sum()
    found = _gradients_of(total, named)
    return {name for name, x in found.items() if x is not None}


def _gradients_of(number: Any, named: dict[str, Any]) -> dict[str, Any]:
    """Gradients by name; None where the number does not depend on a parameter."""
    if not (named and number.requires_grad):
        return dict.fromkeys(named)
    found = torch_library().autograd.grad(
        number, list(named.values()), retain_graph=True, allow_unused=True
    )
    return dict(zip(named, found, strict=True))


def episode_gradients(policy: TorchPolicy, record: Trajectories, weights: Any) -> dict[str, Any]:
    """The policy gradient of every episode separately.

    ĝ_n = Σ_t Ψ_t z_t of episode n.  [E3, E5, E6]

    Args:
        policy: at the parameters that acted.
        record: N whole episodes.
        weights: `[T, N]`, Ψ.

    Returns:
        parameter -> `[N, ...]`, tensors.

    Bias: that of the weights.
    """
    torch = torch_library()
    parameters = differentiated(policy, record)
    found: dict[str, list[Any]] = {name: [] for name in parameters.parameters}
    order = []
    for columns, gradients in chunks_of_gradients(
        policy, parameters, record, np.asarray(weights)[None]
    ):
        order.append(columns)
        for name, x in gradients.items():
            found[name].append(x[:, 0])
    back = torch.as_tensor(np.argsort(np.concatenate(order)))
    return {k.removeprefix("module."): torch.cat(x)[back] for k, x in found.items()}


def chunks_of_gradients(
    policy: TorchPolicy,
    parameters: Differentiated,
    record: Trajectories,
    weights: Float[np.ndarray, "E T N"],
) -> Iterator[tuple[Int[np.ndarray, " m"], dict[str, Any]]]:
    """Gradients of some episodes of similar length at a time, by each of E weights.

    Yields:
        `[m]`, columns of the record, and parameter -> `[m, E, ...]`.
    """
    lengths = np.asarray(record.valid).sum(axis=0)
    size = sum(x.numel() for x in parameters.parameters.values())
    most = max(NUMBERS // (size * len(weights)), 1)
    for columns in _alike(lengths, ROWS, most):
        height = max(int(lengths[columns[0]]), 1)
        steps = _steps_of(policy, record, height, columns)
        psi = policy.tensors(
            np.asarray(weights, np.float64)[:, :height, columns].transpose(2, 0, 1)
        )
        with _unchecked():
            yield columns, _gradients(policy, parameters, steps, psi)


def step_scores(
    policy: TorchPolicy, parameters: Differentiated, record: Trajectories, rows: int
) -> Iterator[tuple[tuple[Any, Any], dict[str, Any]]]:
    """∇_θ log π_θ(a_t|s_t) of single steps, for a policy without memory.

    Yields:
        numbers of row and column of some steps, and parameter -> `[n, ...]`.
    """
    times, columns = np.nonzero(np.asarray(record.valid))
    for start in range(0, len(times), rows):
        at = times[start : start + rows], columns[start : start + rows]
        seen, actions = (
            policy.tensors(jax.tree.map(lambda x, at=at: np.asarray(x)[at][:, None], part))
            for part in (record.observations, record.actions)
        )
        ones = policy.tensors(np.ones((len(at[0]), 1, 1)))
        steps = Steps(seen, actions, ones[:, 0] > 0)
        with _unchecked():
            found = _gradients(policy, parameters, steps, ones)
        yield at, {k: x[:, 0] for k, x in found.items()}


def _gradients(
    policy: TorchPolicy, parameters: Differentiated, steps: Steps, psi: Any
) -> dict[str, Any]:
    """parameter -> `[m, E, ...]`, from weights `[m, E, T]`."""
    if not policy.vectorised:
        return _one_by_one(policy, parameters, steps, psi)
    torch = torch_library()
    func = torch.func

    def surrogate(
        differentiated: Any, observations: Any, actions: Any, valid: Any, psi: Any
    ) -> Any:
        held = (differentiated, parameters.rest)
        log_probs = func.functional_call(policy.scorer, held, (observations, actions))
        return torch.sum(psi * torch.where(valid, log_probs, torch.zeros_like(log_probs)))

    of_weights = func.vmap(func.grad(surrogate), in_dims=(None, None, None, None, 0))
    try:
        return func.vmap(of_weights, in_dims=(None, 0, 0, 0, 0))(parameters.parameters, *steps, psi)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        # a mistake in log_probs is raised here as well, and then as it is
        _one_by_one(policy, parameters, *jax.tree.map(lambda x: x[:1], (steps, psi)))
        raise UserError(
            f"log_probs does not go through torch.func.vmap: {_first_line(error)}. "
            "Give TorchPolicy(vectorised=False), which takes the episodes one by one."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")


def _one_by_one(
    policy: TorchPolicy, parameters: Differentiated, steps: Steps, psi: Any
) -> dict[str, Any]:
    torch = torch_library()
    named = _trainable(policy)
    found: dict[str, list[Any]] = {name: [] for name in parameters.parameters}
    for i, length in enumerate(steps.valid.sum(dim=1).tolist()):
        seen, actions = (jax.tree.map(lambda x, i=i, n=length: x[i, :n], x) for x in steps[:2])
        with torch.enable_grad():
            log_probs = policy.scorer(seen, actions)
            each = [_gradients_of((w[:length] * log_probs).sum(), named) for w in psi[i]]
        for one in each:
            check_known(parameters, (name for name, x in one.items() if x is not None))
        for name, like in parameters.parameters.items():
            own = [torch.zeros_like(like) if x[name] is None else x[name] for x in each]
            found[name].append(torch.stack(own))
    return {name: torch.stack(x) for name, x in found.items()}


def _steps_of(
    policy: TorchPolicy, record: Trajectories, height: int, columns: Int[np.ndarray, " m"]
) -> Steps:
    """Some episodes, each with its last step repeated behind its end.

    What the record holds there is no observation. A module may give NaN for it (zeros are a mask
    that permits nothing), and a number that is selected away has the derivative 0 · NaN.
    """
    lengths = np.asarray(record.valid)[:, columns].sum(axis=0)[:, None]
    times = np.arange(height)
    rows = np.minimum(times, np.maximum(lengths - 1, 0))
    seen, actions = (
        policy.tensors(jax.tree.map(lambda x: np.asarray(x)[rows, columns[:, None]], part))
        for part in (record.observations, record.actions)
    )
    return Steps(seen, actions, policy.tensors(times < lengths))


def _alike(lengths: Int[np.ndarray, " N"], rows: int, most: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Columns of episodes of similar length, the longest first, at most so many rows together."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = min(max(rows // max(int(lengths[order[start]]), 1), 1), most)
        yield order[start : start + width]
        start += width


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Distributions without the checks of their arguments, which vmap cannot follow."""
    kind = torch_library().distributions.Distribution
    before = kind._validate_args
    kind.set_default_validate_args(False)
    try:
        yield
    finally:
        kind.set_default_validate_args(before)
