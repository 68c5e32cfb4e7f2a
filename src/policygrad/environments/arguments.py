"""The arguments that a user gives to what makes an environment: all arrive, or none is taken."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from policygrad.core.errors import UserError
from policygrad.environments.names import nearest


@dataclass(frozen=True)
class Making:
    """A function that makes an environment, and the arguments to call it with.

    Attributes:
        function: makes one environment.
        kwargs: by name.
    """

    function: Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def __name__(self) -> str:  # for errors, as of a function
        return name_of(self.function)

    def __call__(self) -> Any:
        try:
            return self.function(**self.kwargs)
        except TypeError as error:
            if not self.kwargs or not are_not_taken(self.function, self.kwargs, error):
                raise
            check_arguments(self.function, self.kwargs)
            raise UserError(not_taken(name_of(self.function), self.kwargs, str(error))) from error


def checked_kwargs(kwargs: Any) -> dict[str, Any]:
    """What a user gave as `env_kwargs`; UserError unless it is a dict by name."""
    if kwargs is None:
        return {}
    if not isinstance(kwargs, dict) or not all(isinstance(name, str) for name in kwargs):
        raise UserError(f"env_kwargs must be a dict of arguments by name, got {kwargs!r}")
    return kwargs


def check_arguments(function: Callable[..., Any], kwargs: dict[str, Any]) -> None:
    """Raise UserError for arguments that a function does not take, and for those that it lacks."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # no signature is known
        return
    name, known = name_of(function), takes(function)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        unknown = [k for k in kwargs if k not in known]
        if unknown:
            near = nearest(unknown[0], known)
            raise UserError(
                not_taken(name, {k: kwargs[k] for k in unknown}, f"it takes {_list(known)}{near}")
            )
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    lacking = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in named and p.name not in kwargs
    ]
    if lacking:
        example = "{" + ", ".join(f'"{k}": …' for k in lacking) + "}"
        raise UserError(
            f"{name} needs the argument {_list(lacking)}; give it by env_kwargs={example} "
            f"(--env-kwargs '{example}')"
        )


def are_not_taken(function: Any, kwargs: dict[str, Any], error: TypeError) -> bool:
    """Whether arguments are not those of a function, or of one that it passes them on to.

    Otherwise the error is about the value of one.

    Args:
        function: was called, as far as it is known.
        kwargs: all that it was called with.
        error: was raised by that.
    """
    try:
        inspect.signature(function).bind(**kwargs)
    except ValueError:  # no signature is known
        pass
    except TypeError:
        return True
    named = re.search(r"(?:unexpected keyword argument|multiple values for .*) '(\w+)'", str(error))
    return named is not None and named[1] in kwargs


def takes(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a function takes by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return []
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return [p.name for p in parameters if p.kind in kinds]


def not_taken(name: str, kwargs: dict[str, Any], why: str) -> str:
    """The sentence for arguments that are not taken."""
    told = f"{name} does not take these arguments: {kwargs} ({why})"
    if "num_envs" in kwargs:
        told += "; how many environments there are is a setting of the run, --num-envs"
    return told


def name_of(function: Any) -> str:
    """The name of a function or class; that of a partial is the name of what it calls."""
    function = getattr(function, "func", function)
    return getattr(function, "__name__", None) or repr(function)


def _list(names: list[str]) -> str:
    return ", ".join(names) or "none"
