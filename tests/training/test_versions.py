"""What a run says of the versions that it was computed with."""

import platform
import sys

import jax

from policygrad.training.versions import versions


def test_python_and_what_was_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "envpool", raising=False)
    monkeypatch.setitem(sys.modules, "gymnax", sys)
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["jax"] == jax.__version__
    assert {"numpy", "equinox", "optax", "gymnasium", "gymnax"} < set(found)
    assert "envpool" not in found
