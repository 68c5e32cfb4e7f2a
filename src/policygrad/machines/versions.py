"""What must be installed alike in this process and in every worker."""

import importlib.metadata
import platform
from dataclasses import asdict, dataclass, fields
from typing import Any

from policygrad.core.errors import UserError


@dataclass(frozen=True)
class Versions:
    """What is installed, by name; read without importing any of it. None: it is not installed.

    Besides what computes it is what environments are made of: with another version of that, a
    worker would play another task.
    """

    python: str
    jax: str
    jaxlib: str
    policygrad: str
    numpy: str | None = None
    gymnasium: str | None = None
    mujoco: str | None = None
    envpool: str | None = None
    gymnax: str | None = None
    ale_py: str | None = None

    @classmethod
    def here(cls) -> "Versions":
        """Those of this process."""
        import policygrad

        found: dict[str, Any] = {field.name: _installed(field.name) for field in fields(cls)}
        found |= {"python": platform.python_version(), "policygrad": policygrad.__version__}
        return cls(**found)

    def refuse_others(self, theirs: "Versions", node: str) -> None:
        """UserError where a worker has others.

        Args:
            theirs: of the worker.
            node: the machine of the worker.
        """
        mine, others = asdict(self), asdict(theirs)
        unlike = [
            f"{_told(name, others[name])}, and this process {mine[name] or 'none'}"
            for name in mine
            if mine[name] != others[name]
        ]
        if unlike:
            raise UserError(
                f"the worker on {node} has {'; '.join(unlike)}: install the same versions on all "
                "machines"
            )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _told(name: str, version: str | None) -> str:
    name = name.replace("_", "-")
    return f"no {name}" if version is None else f"{name} {version}"
