"""Algorithms: each a frozen configuration with `init` and a pure `update`."""

from policygrad.algorithms.vanilla import Vanilla, VanillaState

__all__ = ["Vanilla", "VanillaState"]
