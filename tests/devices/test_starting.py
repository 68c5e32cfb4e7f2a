"""How many devices JAX shows, in processes of their own, since JAX counts them once."""

import pytest

from policygrad.devices import starting
from tests.worlds import environment_variables, python

CODE = """
import jax
{before}
from policygrad.devices import starting
starting.processors_allowed = lambda: 3
starting.show_processors()
starting.show_processors()  # the command, then the training that it calls
print(len(jax.local_devices()))
"""


@pytest.mark.parametrize(
    ("told", "before", "shown"),
    [
        ({}, "", 3),
        ({"JAX_NUM_CPU_DEVICES": "1"}, "", 1),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, "", 4),
        ({}, "jax.config.update('jax_num_cpu_devices', 2)", 2),
        ({}, "jax.numpy.ones(3)", 1),
    ],
    ids=["nothing said", "said", "said to XLA", "said in Python", "JAX has begun"],
)
def test_jax_shows_every_processor_unless_told_otherwise(monkeypatch, told, before, shown):
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert environment_variables().items() >= told.items()
    done = python("-W", "error", "-c", CODE.format(before=before))
    assert done.stdout.split() == [str(shown)], done.stderr


@pytest.mark.parametrize("linux", [True, False], ids=["linux", "elsewhere"])
def test_processors_are_those_that_the_process_may_use(monkeypatch, linux):
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    if linux:
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1, 4, 5}, raising=False)
    assert starting.processors_allowed() == (3 if linux else 5)


def test_programs_are_kept_apart_for_unlike_processors(monkeypatch):
    here = starting.cpu_fingerprint()
    assert here == starting.cpu_fingerprint()
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert starting.cpu_fingerprint() != here


HOMES = {
    "no home": "import pathlib\ndef none(): raise RuntimeError\npathlib.Path.home = none",
    "a home that is a file": "import os\nos.environ['HOME'] = os.devnull",
    "a cache that is a file": "import os\nos.environ['XDG_CACHE_HOME'] = os.devnull",
    "a home that cannot be written": "import os\nos.environ['HOME'] = '/proc/nowhere'",
}


@pytest.mark.parametrize("before", list(HOMES.values()), ids=list(HOMES))
def test_case_14_without_a_home_the_cache_is_left_out(monkeypatch, before):
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    code = (
        f"{before}\nfrom policygrad.devices import starting\nstarting.prepare_jax()\n"
        "import jax\nprint(jax.config.jax_compilation_cache_dir)"
    )
    done = python("-W", "error", "-c", code)
    assert done.stdout.split() == ["None"], done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(("inherited", "then"), [("1", "3"), ("0", "0"), ("2", "2")])
def test_a_command_says_as_little_where_a_program_with_jax_starts_it(inherited, then):
    """JAX sets the level to 1 as it is imported, and the processes that it starts inherit that."""
    code = (
        f"import os\nos.environ['TF_CPP_MIN_LOG_LEVEL'] = '{inherited}'\n"
        "from policygrad.devices import starting\nstarting.prepare_jax()\n"
        "print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    assert python("-c", code).stdout.split() == [then]
