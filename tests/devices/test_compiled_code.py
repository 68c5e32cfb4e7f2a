"""A process does not run out of memory maps by compiling."""

import jax
import jax.numpy as jnp

from policygrad import programs


def test_programs_are_forgotten_where_little_room_is_left(tmp_path, monkeypatch):
    maps, limit = tmp_path / "maps", tmp_path / "limit"
    maps.write_text("one\n" * 60)
    limit.write_text("100\n")
    monkeypatch.setattr(programs, "MAPS", maps)
    monkeypatch.setattr(programs, "LIMIT", limit)
    traced = []

    @jax.jit
    def double(x):
        traced.append(1)
        return 2 * x

    double(jnp.ones(3))
    programs.make_room(0.9)
    double(jnp.ones(3))
    assert len(traced) == 1
    programs.make_room()
    assert double(jnp.ones(3)).tolist() == [2, 2, 2]
    assert len(traced) == 2


def test_a_system_that_does_not_say_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "MAPS", tmp_path / "none")
    calls = []
    monkeypatch.setattr(jax, "clear_caches", lambda: calls.append(1))
    programs.make_room(0.0)
    assert not calls
