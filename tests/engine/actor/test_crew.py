from __future__ import annotations

import threading
import time

import pytest
import torch

from byzflow.engine.actor import crew as module
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


def at_rest(monkeypatch, size, brief, soon):
    """Return a crew whose threads all wait, and of which one makes calls at first."""
    made = Crew("test", size)
    barrier = threading.Barrier(size + 1)
    made.run(*[lambda: barrier.wait(20)] * size)
    barrier.wait(20)
    assert becomes(lambda: made._idle == size)
    for name, value in {"BRIEF": brief, "LONG": float("inf"), "SOON": soon, "PATIENCE": 60.0}.items():
        monkeypatch.setattr(module, name, value)
    made._forget()
    return made


def test_brief_jobs_are_done_by_one_thread(monkeypatch):
    crew, left, seen = at_rest(monkeypatch, 3, brief=60.0, soon=60.0), threading.Semaphore(0), set()

    def work():
        seen.add(threading.get_ident())
        left.release()

    crew.run(*[work] * 100)
    assert all(left.acquire(timeout=20) for _ in range(100))
    assert len(seen) == 1
    crew.close()


def test_all_threads_help_once_two_jobs_in_a_row_were_not_brief(monkeypatch):
    crew, barrier = at_rest(monkeypatch, 3, brief=-1.0, soon=60.0), threading.Barrier(4)
    crew.run(*[lambda: None] * 2, *[lambda: barrier.wait(20)] * 3)
    barrier.wait(20)
    crew.close()


def test_threads_that_brief_jobs_did_not_need_start_for_long_ones(monkeypatch):
    crew = at_rest(monkeypatch, 1, brief=-1.0, soon=60.0)
    crew._size, barrier = 3, threading.Barrier(4)
    crew.run(*[lambda: None] * 2, *[lambda: barrier.wait(20)] * 3)
    barrier.wait(20)
    crew.close()
    assert becomes(lambda: len(crew) == 0)


def test_a_job_that_hangs_does_not_hold_up_those_that_were_left_to_the_same_thread(monkeypatch):
    crew, release, done = at_rest(monkeypatch, 2, brief=60.0, soon=0.01), threading.Event(), threading.Event()
    crew.run(release.wait, done.set)
    assert done.wait(20)
    release.set()
    crew.close()


@pytest.mark.parametrize(("together", "crowded"), [(1.5, False), (2.5, True)])
def test_two_threads_are_a_crowd_where_each_call_takes_more_than_twice_as_long(
    monkeypatch, together, crowded
):
    crew = at_rest(monkeypatch, 2, brief=-1.0, soon=60.0)
    monkeypatch.setattr(crew, "_idle", 1)
    assert not any(crew._is_crowded(1.0) for _ in range(2))
    monkeypatch.setattr(crew, "_idle", 0)
    assert any(crew._is_crowded(together) for _ in range(100)) is crowded
    monkeypatch.undo()
    crew.close()


def test_threads_that_step_back_leave_no_job_behind(monkeypatch):
    crew, left = at_rest(monkeypatch, 3, brief=-1.0, soon=0.01), threading.Semaphore(0)
    monkeypatch.setattr(crew, "_is_crowded", lambda seconds: True)
    for _ in range(20):
        crew.run(*[left.release] * 10)
    assert all(left.acquire(timeout=20) for _ in range(200))
    crew.close()
    assert becomes(lambda: len(crew) == 0)


def test_products_have_the_bits_of_one_thread_whatever_torch_was_told_before():
    threads = torch.get_num_threads()
    stream = torch.Generator().manual_seed(0)
    pairs = [
        (torch.randn(10, n, generator=stream), torch.randn(n, 12_121, generator=stream)) for n in range(2, 9)
    ]
    found: list[torch.Tensor] = []
    done = threading.Event()

    def work():
        found.extend(a @ b for a, b in pairs)
        done.set()

    try:
        torch.set_num_threads(1)
        expected = [a @ b for a, b in pairs]
        torch.set_num_threads(2)
        crew = Crew("test", 1)
        crew.run(work)
        assert done.wait(20)
    finally:
        torch.set_num_threads(threads)
    crew.close()
    assert all(map(torch.equal, found, expected))
