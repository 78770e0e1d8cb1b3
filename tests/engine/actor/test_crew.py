from __future__ import annotations

import threading
import time

import pytest

from byzflow.engine.actor.crew import Crew


@pytest.fixture
def crew():
    made = Crew("test", 2)
    yield made
    made.close()
    assert becomes(lambda: len(made) == 0)


def becomes(claim, limit: float = 20.0) -> bool:
    end = time.monotonic() + limit
    tick = threading.Event()
    while not claim() and time.monotonic() < end:
        tick.wait(0.005)
    return claim()


def test_many_short_jobs_need_few_threads(crew):
    left = threading.Semaphore(0)
    seen: set[int] = set()

    def work():
        seen.add(threading.get_ident())
        left.release()

    for _ in range(500):
        crew.run(work)
    assert all(left.acquire(timeout=20) for _ in range(500))
    assert len(seen) <= 10  # three, unless the machine stops for a while


def test_bursts_of_jobs_start_no_new_threads(crew):
    names: set[str] = set()
    for _ in range(40):
        left = threading.Semaphore(0)
        crew.run(*[left.release] * 10)
        assert all(left.acquire(timeout=20) for _ in range(10))
        names |= {thread.name for thread in threading.enumerate() if thread.name.startswith("byzflow-test-")}
    assert len(names) <= 10  # three, unless the machine stops for a while


def test_jobs_that_hang_do_not_hold_up_the_others_and_the_crew_shrinks_again(crew):
    release, done = threading.Event(), threading.Event()
    for _ in range(5):
        crew.run(release.wait)
    crew.run(done.set)
    assert done.wait(20)
    release.set()
    assert becomes(lambda: len(crew) <= 2)


def test_jobs_that_wait_for_each_other_all_run(crew):
    barrier = threading.Barrier(6)
    met = threading.Semaphore(0)

    def work():
        barrier.wait(20)
        met.release()

    for _ in range(6):
        crew.run(work)
    assert all(met.acquire(timeout=20) for _ in range(6))


def test_a_job_after_a_hanging_one_on_the_last_idle_thread_is_not_forgotten():
    crew = Crew("test", 1)
    release = threading.Event()
    for _ in range(20):
        done = threading.Event()
        crew.run(lambda: None)
        crew.run(release.wait)
        crew.run(done.set)
        assert done.wait(20)
    release.set()
    crew.close()


def test_a_closed_crew_has_no_threads(crew):
    crew.run(lambda: None)
    crew.close()
    assert becomes(lambda: len(crew) == 0)
