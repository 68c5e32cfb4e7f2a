"""The versions of what a run was computed with."""

import contextlib
import importlib.metadata
import platform
import sys

PACKAGES = (
    "jax", "numpy", "equinox", "optax", "gymnasium", "gymnax", "envpool", "mujoco", "ale_py",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Name -> version: of Python, and of those of `PACKAGES` that this process has imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if name in sys.modules:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found
