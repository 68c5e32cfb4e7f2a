"""What is sent to other processes: by name, or by content."""

import pickle
import sys
import threading
from functools import partial

import cloudpickle
import pytest

from policygrad.core.errors import UserError
from policygrad.processes.sending import Sent

LOCK = threading.Lock()


def five():
    with LOCK:
        return 5


class Unreadable:
    def __setstate__(self, state):
        raise ImportError("not here")

    def __call__(self):
        pass


@pytest.mark.parametrize("kind", ["a lambda", "a local function", "a local class", "a partial"])
def test_what_no_module_names_goes_by_its_content(kind):
    value = 5

    def local():
        return value

    class Local(int):
        def __new__(cls):
            return int.__new__(cls, value)

    made = {
        "a lambda": lambda: value,
        "a local function": local,
        "a local class": Local,
        "a partial": partial(lambda x: x, value),
    }[kind]
    with pytest.raises(UserError, match=r"^it cannot be sent to a worker process"):
        Sent.by_name("it", made)
    sent = pickle.loads(pickle.dumps(Sent.by_content("it", made)))
    assert sent.read()() == 5


def test_what_a_module_names_goes_by_its_name():
    assert Sent.by_name("it", five).read() is five
    assert Sent.by_content("it", five).read() is five


def test_what_a_script_names_goes_by_its_name_where_its_content_cannot_be_sent():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)  # as functions of a script are
    try:
        assert Sent.by_content("it", five).read() is five
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_what_cannot_be_sent_is_named_with_what_to_do():
    lock = threading.Lock()
    with pytest.raises(UserError, match=r"^it cannot .* \(.*lock.*\); pass .* itself, or do with"):
        Sent.by_content("it", lambda: lock, ", or do without")


@pytest.mark.parametrize("way", [Sent.by_name, Sent.by_content])
def test_what_cannot_be_read_is_named(way):
    value = Unreadable()
    value.state = 1
    sent = way("it", value)
    with pytest.raises(UserError, match=r"it cannot be read in a worker process: ImportError\('no"):
        sent.read()
