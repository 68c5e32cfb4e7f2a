import jax
import jax.numpy as jnp
import numpy as np
import pytest

import policygrad
from policygrad.core.errors import NonFiniteError
from policygrad.environments.catalogue import make
from policygrad.rollout import start_lanes
from policygrad.rollout.acting import keys_by_lane
from policygrad.rollout.compiled import CompiledSegments
from policygrad.runs import RunDirectory
from policygrad.training import entry
from policygrad.training.assembly import Task, assemble
from policygrad.training.given import Given
from policygrad.training.keys import RunKeys, keys_of_update
from policygrad.training.loop import Training
from policygrad.training.pace import Pace
from policygrad.training.programs import MOST_UPDATES
from tests.slow import params, slow
from tests.training.test_training import assert_bitwise, without_clock
from tests.worlds import GYMNAX_CHAIN, TINY, DuckChain


def advance(env, counts, **settings):
    """State, lanes and reports after programs of so many updates each."""
    assembly = assemble(Task(env, {}), entry.make_config(TINY | settings), Given())
    training, reports = Training.begin(assembly, None), []
    program = assembly.collector.program()
    assert program is not None
    for count in counts:
        reports += training.updates(program, count)
    return training.progress.state, assembly.collector.lanes, reports


def same_bits(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        if eqx_array(x):
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def eqx_array(x):
    return hasattr(x, "dtype") and not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize(
    "env", params({"chain": GYMNAX_CHAIN, "CartPole": "gymnax/CartPole-v1"}, {"CartPole"})
)
def test_how_many_updates_a_program_makes_changes_no_bit(env):
    one_by_one = advance(env, [1] * 8)
    same_bits(one_by_one, advance(env, [8]))
    same_bits(one_by_one, advance(env, [3, 5]))


def test_program_of_many_updates_equals_collecting_and_updating_by_hand(monkeypatch):
    """The path that a host environment takes, with the same environment: apart only by rounding."""
    whole = policygrad.train("gymnax/CartPole-v1", **(TINY | {"total_steps": 96}))
    monkeypatch.setattr(CompiledSegments, "program", lambda collector: None)
    by_hand = policygrad.train("gymnax/CartPole-v1", **(TINY | {"total_steps": 96}))
    for a, b in zip(without_clock(whole.metrics), without_clock(by_hand.metrics), strict=True):
        for name in ("kl", "gradient_norm", "step_size", "explained_variance_after"):
            assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5)
        for name in ("update", "env_steps", "episodes", "return_mean", "length_mean"):
            assert a[name] == b[name]


@pytest.mark.parametrize("updates", [1, 5, 41])
def test_every_update_has_its_line(updates, tmp_path):
    settings = TINY | {"total_steps": 32 * updates, "checkpoint_seconds": 1000.0}
    rows = []
    run = policygrad.train(GYMNAX_CHAIN, out=tmp_path / "a", on_update=rows.append, **settings)
    assert [row["update"] for row in rows] == list(range(1, updates + 1))
    assert rows == RunDirectory(tmp_path / "a").read_metrics() == run.metrics
    in_memory = policygrad.train(GYMNAX_CHAIN, **settings)
    assert without_clock(in_memory.metrics) == without_clock(rows)


class Breaks(DuckChain):
    """A chain whose reward is NaN where the number of its steps since the start says so."""

    def __init__(self, at):
        super().__init__(length=2**20)
        self.at = at

    def step(self, key, state, action, params):
        out = list(super().step(key, state, action, params))
        out[2] = jnp.where(state.time == self.at, jnp.nan, out[2])
        return tuple(out)


@pytest.mark.parametrize(
    "update", [1, pytest.param(2, marks=slow), 7, pytest.param(12, marks=slow)]
)
def test_first_update_that_breaks_is_named_and_those_before_it_stand(update, tmp_path):
    rows = 32 // TINY["num_envs"]
    env = Breaks(at=rows * (update - 1) + 2)
    settings = TINY | {"total_steps": 32 * 40, "checkpoint_seconds": 1000.0}
    with pytest.raises(NonFiniteError, match=rf"nan in the reward .* in update {update} ") as error:
        policygrad.train(env, out=tmp_path / "a", **settings)
    assert f"at step {rows * (update - 1) + 3} of its episode" in str(error.value)
    if update > 1:
        lines = RunDirectory(tmp_path / "a").read_metrics()
        assert [row["update"] for row in lines] == list(range(1, update))
        whole = policygrad.train(env, **(settings | {"total_steps": 32 * (update - 1)}))
        assert without_clock(lines) == without_clock(whole.metrics)


def test_resumed_in_the_middle_of_a_program_equals_uninterrupted(tmp_path):
    settings = TINY | {"total_steps": 32 * 20}
    whole = policygrad.train("gymnax/CartPole-v1", **settings)
    policygrad.train("gymnax/CartPole-v1", out=tmp_path / "a", **(TINY | {"total_steps": 32 * 11}))
    assert_bitwise(whole, policygrad.resume(tmp_path / "a", total_steps=32 * 20))


def test_pace_aims_at_its_time_and_never_above_what_is_wanted():
    pace = Pace(seconds=1.0)
    assert pace.count(100) == 1
    pace.took(1, 60.0)  # it compiled
    assert pace.count(100) == 1
    pace.took(1, 0.05)
    assert pace.count(100) == 8
    pace.took(8, 0.4)
    assert pace.count(100) == 20
    assert pace.count(3) == 3
    for _ in range(5):
        pace.took(pace.count(10**6), 1e-6)
    assert pace.count(10**6) == MOST_UPDATES
    pace.took(MOST_UPDATES, 1e6)
    assert pace.count(10**6) == 1


def test_pace_saves_after_every_update_where_that_is_asked_for():
    pace = Pace(one_by_one=True)
    for _ in range(4):
        assert pace.count(100) == 1
        pace.took(1, 1e-6)


def test_lanes_keep_their_types_from_one_program_to_the_next():
    """A weak type that turns strong would compile everything twice."""
    environment, policy = make("gymnax/CartPole-v1", 2), lambda observation: None
    lanes = start_lanes(environment, policy, jax.random.key(0), 2)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(lanes))


# ----- randomness


def words(keys):
    return [tuple(row) for row in np.reshape(jax.random.key_data(keys), (-1, 2)).tolist()]


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_no_two_draws_of_a_run_have_the_same_key(seed):
    """The parts of the seed, the lanes' first episodes, every update's collection and step, and
    what evaluation and the doctor make of the same seed."""
    root, keys = jax.random.key(seed), RunKeys.of(seed)
    updates = jax.vmap(keys_of_update, (None, 0))(keys.updates, jnp.arange(64))
    elsewhere = [jax.random.fold_in(root, salt) for salt in (0x5EED, 0xD0C)]
    found = [
        *words(root),
        *words(jnp.stack(keys)),
        *words(keys_by_lane(keys.environments, 64)),
        *words(jnp.stack(updates)),
        *words(jnp.stack(elsewhere)),
    ]
    assert len(found) == 1 + 4 + 64 + 128 + 2
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("algorithm", ["vanilla", pytest.param("ppo", marks=slow)])
def test_no_key_is_used_twice_in_a_program_of_updates(algorithm):
    with jax.debug_key_reuse(True):
        _, _, reports = advance(GYMNAX_CHAIN, [2], algorithm=algorithm, num_envs=2)
    assert len(reports) == 2
