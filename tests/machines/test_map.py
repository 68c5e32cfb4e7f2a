"""What workers are given one by one comes back in order, whatever happens to them."""

import pytest

import policygrad
from policygrad.core.errors import EnvironmentFailure
from policygrad.machines.crew import Crew
from policygrad.machines.staff import DEATHS
from tests.machines import work


def crew_of(cluster, workers, **asked):
    return Crew(cluster, policygrad.remote(workers=workers, cpus_per_worker=0.5, **asked))


@pytest.fixture(scope="module")
def crew(cluster):
    opened = crew_of(cluster, 2)
    yield opened
    opened.close()


def test_answers_come_in_the_order_of_the_items(crew):
    found = list(crew.map(work.square, ((n,) for n in range(9))))
    assert [square for square, _ in found] == [n**2 for n in range(9)]
    assert len({process for _, process in found}) == 2
    assert list(crew.map(work.square, ())) == []


def test_items_are_taken_as_they_are_needed(crew):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield (number,)

    found = crew.map(work.square, items())
    next(found)
    assert len(taken) <= 6
    found.close()


def test_an_error_is_raised_as_it_is_and_the_crew_goes_on(crew):
    with pytest.raises(EnvironmentFailure, match="raised at 3"):
        list(crew.map(work.fail, ((n,) for n in range(6))))
    assert crew.restarts == 0
    assert [x for x, _ in crew.map(work.square, [(2,)])] == [4]


@pytest.mark.filterwarnings("ignore:.*is lost")
def test_workers_that_die_change_no_answer(cluster, tmp_path):
    crew = crew_of(cluster, 2)
    items = [(str(tmp_path), number) for number in range(7)]
    assert list(crew.map(work.square_or_die, items)) == [n**2 for n in range(7)]
    assert crew.restarts == 2  # of the numbers 1 and 5
    assert len(crew.hands) == 2
    crew.close()


@pytest.mark.filterwarnings("ignore:.*is lost")
def test_a_worker_that_hangs_counts_as_dead(cluster, tmp_path):
    crew = crew_of(cluster, 2, worker_timeout=3)
    items = [(str(tmp_path), number) for number in range(5)]
    assert list(crew.map(work.square_or_hang, items)) == [n**2 for n in range(5)]
    assert crew.restarts == 1
    crew.close()


@pytest.mark.filterwarnings("ignore:.*is lost")
def test_an_item_that_kills_every_worker_is_named(cluster):
    crew = crew_of(cluster, 1)
    with pytest.raises(EnvironmentFailure, match=f"{DEATHS} workers died of the same request"):
        list(crew.map(work.die, [(0,)]))
    crew.close()
