"""A crew of workers, by a stand-in for Ray whose workers die at chosen moments."""

import contextlib
import itertools
import os
import random
import warnings
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policygrad.core.errors import EnvironmentFailure, NonFiniteError, PolicygradError, UserError
from policygrad.machines import crew as crew_
from policygrad.machines import staff as staff_
from policygrad.machines.crew import Crew
from policygrad.machines.remote import Remote
from policygrad.machines.staff import DEATHS, START_SECONDS, InAWorker
from policygrad.machines.versions import Versions
from tests.machines.fake_ray import FakeRay, Present


@contextlib.contextmanager
def hired(ray, workers=2, timeout=None):
    """A crew of a fake Ray, in its time."""
    cluster = SimpleNamespace(ray=ray, require=lambda workers, cpus: None)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(crew_, "time", ray)
        patch.setattr(staff_, "time", ray)
        crew = Crew(cluster, Remote(workers, worker_timeout=timeout))  # type: ignore[arg-type]
        try:
            yield crew
        finally:
            crew.close()
            assert not ray.alive


# ----- what workers do: a duty counts its requests, and knows only what it was brought back to


def begin(worker, counts):
    worker.held.update(counts)
    return counts


def count(worker, duties):
    for duty in duties:
        worker.held[duty] += 1
    return {duty: (duty, worker.held[duty]) for duty in duties}


class Counting:
    """A run of requests to a crew, as `RayPlaces` makes them."""

    def __init__(self, crew, duties):
        self.crew, self.counts = crew, dict.fromkeys(range(duties), 0)
        for duty in self.counts:
            crew.hands[duty % len(crew.hands)].duties.append(duty)
        begun = crew.ask(self.again, lambda duties: (begin, (dict.fromkeys(duties, 0),)))
        assert begun == self.counts

    def again(self, duties):
        return begin, ({duty: self.counts[duty] for duty in duties},)

    def ask(self):
        answers = self.crew.ask(lambda duties: (count, (duties,)), self.again)
        self.counts = {duty: made + 1 for duty, made in self.counts.items()}
        assert answers == {duty: (duty, made) for duty, made in self.counts.items()}
        held = sorted(duty for hand in self.crew.hands for duty in hand.duties)
        assert held == sorted(self.counts)  # each has one owner


FATES = st.lists(st.sampled_from(["lives"] * 5 + ["dies", "dies after"]), max_size=60)
WITH_HANGS = st.lists(
    st.sampled_from(["lives"] * 6 + ["dies", "dies after", "hangs", "slow", "slowslow"]),
    max_size=60,
)  # fmt: skip


def by_list(fates, spared=()):
    """The fates in turn, and life after the last."""
    left = iter(fates)
    return lambda name, actor: "lives" if name in spared else next(left, "lives")


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 4), st.integers(0, 4), FATES, st.integers(1, 6),
    st.lists(st.tuples(st.sets(st.integers(0, 3)), st.integers(1, 6)), max_size=4),
    st.integers(0, 10**6),
)  # fmt: skip
def test_requests_are_answered_once_whatever_dies(workers, more, fates, cpus, rounds, seed):
    """Workers die as they start, as they are introduced, in requests, as they bring back what
    others had, and between requests; and the cluster has room for all or for one."""
    cpus = max(cpus, workers)
    ray = FakeRay(cpus, by_list(fates), random.Random(seed))
    try:
        with hired(ray, workers) as crew:
            run = Counting(crew, workers + more)
            for killed, cpus in [*rounds, (set(), 1), (set(), 1)]:
                for number in killed:
                    if number < len(crew.hands):
                        ray.die(crew.hands[number].actor)
                ray.cpus = cpus
                before = len(ray.died)
                run.ask()
                assert len(ray.died) >= before
            assert crew.restarts == len(ray.died)
            assert 1 <= len(crew.hands) <= workers
    except EnvironmentFailure as error:
        assert f"{DEATHS} workers died of the same request" in str(error)
        assert len(ray.died) >= DEATHS
    except PolicygradError as error:
        assert "die as they begin" in str(error)
        assert len(ray.died) >= DEATHS


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), WITH_HANGS, st.integers(0, 10**6))
def test_a_worker_that_is_late_counts_as_dead(workers, fates, seed):
    spared = ("place", "prepare")  # one that does not begin has no room, and is not dead
    ray = FakeRay(fate=by_list(fates, spared), order=random.Random(seed))
    with contextlib.suppress(EnvironmentFailure), hired(ray, workers, timeout=10.0) as crew:
        run = Counting(crew, 5)
        for _ in range(5):
            run.ask()
        assert crew.restarts == len(ray.died) + len(ray.killed)
        assert len(crew.hands) == workers


def test_as_many_workers_are_started_as_were_lost():
    ray = FakeRay()
    with hired(ray, 5) as crew:
        run = Counting(crew, 10)
        for hand in crew.hands[:3]:
            ray.die(hand.actor)
        run.ask()
        assert len(crew.hands) == 5
        assert sorted(len(hand.duties) for hand in crew.hands) == [2] * 5
        assert crew.restarts == 3


def test_survivors_take_over_where_there_is_no_room_and_give_back_when_there_is():
    ray = FakeRay(3)
    with hired(ray, 3) as crew:
        run = Counting(crew, 6)
        ray.cpus = 1
        for hand in crew.hands[:2]:
            ray.die(hand.actor)
        before = ray.now
        run.ask()
        assert START_SECONDS <= ray.now - before < 2 * START_SECONDS  # waited for both at once
        assert [len(hand.duties) for hand in crew.hands] == [6]
        ray.cpus = 3
        ray.die(crew.hands[0].actor)
        run.ask()
        assert [len(hand.duties) for hand in crew.hands] == [2, 2, 2]


def test_all_are_lost_and_none_can_be_started():
    ray = FakeRay(2)
    with hired(ray, 2) as crew:
        run = Counting(crew, 4)
        ray.cpus = 0
        for hand in crew.hands:
            ray.die(hand.actor)
        with pytest.raises(PolicygradError, match="all workers are lost, and none could be star"):
            run.ask()


def test_no_room_for_all_at_the_start_is_an_error_after_a_while():
    ray = FakeRay(2)
    with pytest.raises(PolicygradError, match=r"2 of 3 workers began within 60 seconds"), hired(
        ray, 3
    ):  # fmt: skip
        pass
    assert not ray.alive


def test_workers_that_never_begin_end_in_an_error():
    ray = FakeRay(fate=lambda name, actor: "dies" if name == "prepare" else "lives")
    words = f"die as they begin, {DEATHS} times in a row: the actor died"
    with pytest.raises(PolicygradError, match=words), hired(ray, 2):
        pass
    assert len(ray.started) == 2 * DEATHS
    assert not ray.alive


def test_an_error_as_workers_are_introduced_leaves_none(monkeypatch):
    theirs = Versions("3.1", "0.1", "0.1", "0.0.1")
    monkeypatch.setattr(Present, "versions", theirs)
    ray, mine = FakeRay(), Versions.here()
    with pytest.raises(UserError) as caught, hired(ray, 3):
        pass
    for name in ("python", "jax", "jaxlib", "policygrad"):
        told = f"{name} {getattr(theirs, name)}, and this process {getattr(mine, name)}"
        assert told in str(caught.value)
    assert "the worker on here has" in str(caught.value)
    assert len(ray.killed) == 3


def test_what_is_not_installed_on_a_machine_is_named():
    ray = FakeRay(fate=lambda name, actor: "cannot begin" if name == "count" else "lives")
    with hired(ray, 2) as crew:
        run = Counting(crew, 2)
        with pytest.raises(PolicygradError, match="could not begin: No module named 'mine'"):
            run.ask()
        assert crew.restarts == 0


@pytest.mark.parametrize("fate", ["dies", "dies after", "hangs"])
def test_a_request_that_kills_every_worker_is_no_endless_loop(fate):
    ray = FakeRay(fate=lambda name, actor: fate if name == "count" else "lives")
    with hired(ray, 1, timeout=5.0) as crew:
        run = Counting(crew, 2)
        with pytest.raises(EnvironmentFailure, match=f"{DEATHS} workers died of the same request"):
            run.ask()
        assert crew.restarts == DEATHS


@pytest.mark.parametrize("fate", ["dies", "hangs"])
def test_bringing_back_that_kills_every_worker_is_no_endless_loop(fate):
    spare = itertools.count()

    def fates(name, actor):
        if name == "count":
            return "dies" if next(spare) == 0 else "lives"
        return fate if name == "begin" and actor.worker.number > 0 else "lives"

    ray = FakeRay(fate=fates)
    with hired(ray, 1, timeout=5.0) as crew:
        run = Counting(crew, 2)
        with pytest.raises(EnvironmentFailure, match=f"{DEATHS} workers died of the same request"):
            run.ask()


def test_bringing_back_has_the_time_of_what_it_repeats():
    ray = FakeRay()
    with hired(ray, 1, timeout=5.0) as crew:
        run = Counting(crew, 1)
        ray.die(crew.hands[0].actor)
        ends = []
        patient, crew._end_of = crew._end_of, lambda n: ends.append(n) or patient(n)
        crew.ask(lambda duties: (count, (duties,)), run.again, repeats=16)
        assert ends == [1, 18, 1]


def test_without_a_limit_a_worker_may_take_any_time():
    ray = FakeRay(fate=lambda name, actor: "lives")
    with hired(ray, 1) as crew:
        assert crew._end_of(3) is None


def test_ranks_are_those_of_a_machine_and_are_taken_up_again():
    ray = FakeRay(nodes=("a", "b"))
    with hired(ray, 4) as crew:
        run = Counting(crew, 4)
        found = {(hand.place.node, hand.rank) for hand in crew.hands}
        assert found == {("a", 0), ("a", 1), ("b", 0), ("b", 1)}
        assert all(hand.actor.worker.rank - hand.rank == os.getpid() for hand in crew.hands)
        ray.nodes = ("a",)
        ray.die(next(hand.actor for hand in crew.hands if hand.place.node == "a"))
        run.ask()
        assert {(hand.place.node, hand.rank) for hand in crew.hands} == found


# ----- map


def double(worker, number):
    return 2 * number


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4), st.integers(0, 25), WITH_HANGS, st.integers(1, 4), st.integers(0, 10**6))
def test_items_are_answered_in_order_whatever_dies(workers, items, fates, cpus, seed):
    ray = FakeRay(4, by_list(fates, ("place", "prepare")), random.Random(seed))
    taken, answers = Counter(), []

    def given_out():
        for number in range(items):
            taken[number] += 1
            yield (number,)

    with contextlib.suppress(EnvironmentFailure), hired(ray, workers, timeout=10.0) as crew:
        ray.cpus = cpus
        for answer in crew.map(double, given_out()):
            answers.append(answer)
            assert len(taken) - len(answers) <= 2 * workers + 1
        assert answers == [2 * number for number in range(items)]
        assert set(taken.values()) <= {1}
        return
    assert answers == [2 * number for number in range(len(answers))]
    assert len(ray.died) + len(ray.killed) >= DEATHS


def test_memory_is_bounded_where_the_first_item_is_the_slowest():
    def fates(name, actor):
        return "slow" * 50 if name == "double" and actor is ray.started[0] else "lives"

    ray, taken = FakeRay(fate=fates), []
    with hired(ray, 3) as crew:
        items = ((taken.append(n) or n,) for n in range(100))
        answers = crew.map(double, items)
        assert next(answers) == 0
        assert len(taken) <= 7
        assert list(answers) == [2 * n for n in range(1, 100)]


@pytest.mark.parametrize("fate", ["dies", "dies after", "hangs"])
def test_an_item_that_kills_every_worker_is_no_endless_loop(fate):
    ray = FakeRay(fate=lambda name, actor: fate if name == "double" else "lives")
    words = f"{DEATHS} workers died of the same request"
    with hired(ray, 2, timeout=5.0) as crew, pytest.raises(EnvironmentFailure, match=words):
        list(crew.map(double, [(1,)]))


def test_what_is_heard_of_an_item_extends_its_time():
    """It takes 60 seconds; without a word it would be given up after 10."""
    ray = FakeRay(fate=lambda name, actor: "slow" * 300 if name == "double" else "lives")
    with hired(ray, 1, timeout=10.0) as crew:
        began = ray.now
        assert list(crew.map(double, [(1,)], heard=lambda number: ray.now)) == [2]
        assert ray.now - began > 50
        assert crew.restarts == 0
        with pytest.raises(EnvironmentFailure):
            list(crew.map(double, [(1,)], heard=lambda number: began))


def test_meanwhile_is_called_as_workers_work():
    ray, calls = FakeRay(fate=lambda name, actor: "slow" * 9 * (name == "double") or "lives"), []
    with hired(ray, 2) as crew:
        list(crew.map(double, [(n,) for n in range(4)], meanwhile=lambda: calls.append(ray.now)))
    assert len(calls) >= 9


# ----- what workers raise


class Own(Exception):
    """Cannot be pickled."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class Local(Exception):
    """Cannot be read back."""

    def __reduce__(self):
        return self.__class__.missing, ()  # type: ignore[attr-defined]


RAISED = {
    "user": (lambda: UserError("--x 3"), UserError, "--x 3"),
    "environment": (lambda: EnvironmentFailure("environment 1"), EnvironmentFailure, "environm"),
    "not finite": (lambda: NonFiniteError("nan", "reward"), NonFiniteError, "nan"),
    "plain": (lambda: ZeroDivisionError("no"), ZeroDivisionError, "no"),
    "arguments": (lambda: Own(1, 2), PolicygradError, "a worker raised Own: 1 and 2"),
    "lock": (lambda: Local("x"), PolicygradError, "a worker raised Local: x"),
    "group": (lambda: ExceptionGroup("two", [ValueError("a")]), ExceptionGroup, "two"),
}


def fail(worker, duties):
    raise RAISED[worker.held["what"]][0]()


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize("by", ["ask", "map"])
def test_what_a_worker_raises_comes_out_with_its_traceback(what, by):
    _, kind, words = RAISED[what]
    ray = FakeRay()
    with hired(ray, 2) as crew:
        for hand in crew.hands:
            hand.actor.worker.held["what"] = what
            hand.duties.append(hand.rank)
        with pytest.raises(kind, match=words) as caught:
            if by == "ask":
                crew.ask(lambda duties: (fail, (duties,)), lambda duties: (begin, ({},)))
            else:
                list(crew.map(fail, [([0],), ([1],)]))
        assert type(caught.value) is kind
        assert isinstance(caught.value.__cause__, InAWorker)
        assert "in fail" in str(caught.value.__cause__)
        assert getattr(caught.value, "kind", "reward") == "reward"
        assert crew.restarts == 0
