"""What must be installed alike in this process and in every worker."""

import importlib.metadata
import platform
from dataclasses import asdict, dataclass

from policygrad.core.errors import UserError


@dataclass(frozen=True)
class Versions:
    """What is installed; read without importing any of it."""

    python: str
    jax: str
    jaxlib: str
    policygrad: str

    @classmethod
    def here(cls) -> "Versions":
        """Those of this process."""
        import policygrad

        jax, jaxlib = (importlib.metadata.version(name) for name in ("jax", "jaxlib"))
        return cls(platform.python_version(), jax, jaxlib, policygrad.__version__)

    def refuse_others(self, theirs: "Versions", node: str) -> None:
        """UserError where a worker has others.

        Args:
            theirs: of the worker.
            node: the machine of the worker.
        """
        mine, others = asdict(self), asdict(theirs)
        unlike = [
            f"{name} {others[name]}, and this process {mine[name]}"
            for name in mine
            if mine[name] != others[name]
        ]
        if unlike:
            raise UserError(
                f"the worker on {node} has {'; '.join(unlike)}: install the same versions on all "
                "machines"
            )
