from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import Future

import pytest
import torch

from byzflow.engine.actor.calls import Outcome
from byzflow.engine.actor.crew import Crew
from byzflow.engine.actor.lane import Lane, _Loop
from tests.engine.actor.subjects import AsyncSubject, Subject


class Errand:
    """One call, and its outcome as a future."""

    def __init__(self, work, wanted) -> None:
        self.asks, self._wanted = (lambda subject: work(),), wanted
        self.context = contextvars.copy_context()
        self.outcome: Future[Outcome] = Future()

    @property
    def is_open(self):
        return self._wanted()

    def settle(self, index, value, error):
        self.outcome.set_result(Outcome(value, error))


class Probe:
    """A lane, and its outcomes as futures."""

    def __init__(self, build) -> None:
        self.built: Future[Outcome] = Future()
        self.crew = Crew("probe", 2)
        self.lane = Lane(self.crew, build, lambda *outcome: self.built.set_result(Outcome(*outcome)))
        self.crew.run(self.lane.move)

    def submit(self, work, wanted=lambda: True) -> Future[Outcome]:
        errand = Errand(work, wanted)
        self.lane.submit(errand, 0)
        return errand.outcome

    def call(self, work) -> Outcome:
        return self.submit(work).result(30)


@pytest.fixture
def probe(request):
    made = Probe(request.param)
    made.built.result(30)
    yield made
    made.lane.stop()
    made.crew.close()


sync = pytest.mark.parametrize("probe", [Subject], indirect=True)
asynchronous = pytest.mark.parametrize("probe", [AsyncSubject], indirect=True)


@sync
def test_calls_do_not_run_in_the_callers_thread(probe):
    assert probe.call(threading.get_ident).value != threading.get_ident()


@sync
def test_two_calls_of_one_object_never_run_at_the_same_time(probe):
    running: list[int] = []

    def work():
        running.append(1)
        count = len(running)
        threading.Event().wait(0.001)
        running.pop()
        return count

    assert {future.result(30).value for future in [probe.submit(work) for _ in range(20)]} == {1}


@sync
def test_calls_keep_their_order(probe):
    seen: list[int] = []
    futures = [probe.submit(lambda n=n: seen.append(n)) for n in range(100)]
    futures[-1].result(30)
    assert seen == list(range(100))


@sync
@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(2), KeyboardInterrupt()], ids=repr)
def test_whatever_is_raised_is_data_and_the_lane_goes_on(probe, error):
    def work():
        raise error

    assert probe.call(work).error is error
    assert probe.call(lambda: 3).value == 3


@sync
def test_work_that_is_no_longer_wanted_is_not_begun(probe):
    seen: list[int] = []
    probe.submit(lambda: seen.append(1), lambda: False)
    probe.call(lambda: None)
    assert seen == []


@sync
def test_a_lane_uses_one_torch_thread_and_leaves_the_caller_its_own(probe):
    before = torch.get_num_threads()
    assert probe.call(torch.get_num_threads).value == 1
    assert torch.get_num_threads() == before


@asynchronous
def test_all_calls_of_an_object_with_an_async_method_run_in_one_thread(probe):
    async def wait():
        await asyncio.sleep(0)
        return threading.get_ident()

    works = [threading.get_ident, wait] * 10
    assert len({future.result(30).value for future in [probe.submit(work) for work in works]}) == 1


def test_a_constructor_that_raises_is_reported():
    probe = Probe(lambda: Subject(-1.0))
    assert isinstance(probe.built.result(30).error, ValueError)
    probe.crew.close()


@asynchronous
def test_async_methods_let_the_next_call_in(probe):
    waiting = probe.submit(lambda: probe.lane.subject.wait())
    assert probe.call(lambda: probe.lane.subject.open()).error is None
    assert waiting.result(30).value == "opened"


@asynchronous
def test_an_async_error_is_data_too(probe):
    assert isinstance(probe.call(lambda: probe.lane.subject.fail()).error, KeyError)


def test_stopping_a_lane_cancels_what_waits_in_it():
    probe = Probe(AsyncSubject)
    probe.built.result(30)
    waiting = probe.submit(lambda: probe.lane.subject.wait())
    probe.lane.stop()
    assert isinstance(waiting.result(30).error, asyncio.CancelledError)
    probe.crew.close()


@sync
def test_a_coroutine_from_a_plain_method_is_awaited(probe):
    async def answer():
        return 4

    assert probe.call(answer).value == 4


async def _cancel():
    raise asyncio.CancelledError


async def _stop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0)


@sync
@pytest.mark.parametrize(
    ("work", "error"), [(_cancel, asyncio.CancelledError), (_stop, RuntimeError)], ids=["cancels", "stops"]
)
def test_a_coroutine_that_ends_its_own_loop_is_an_error_and_takes_no_thread_with_it(probe, work, error):
    thread = probe.call(threading.current_thread).value
    assert isinstance(probe.call(work).error, error)
    assert thread.is_alive()
    assert probe.call(lambda: 3).value == 3


def test_an_object_with_a_loop_that_is_dropped_while_it_is_made_leaves_no_thread():
    begun, go_on = threading.Event(), threading.Event()

    def build():
        begun.set()
        go_on.wait(30)
        return AsyncSubject()

    probe, loops = Probe(build), []
    start = _Loop.__init__

    def noted(self):
        start(self)
        loops.append(self._loop)
        while not loops[0].is_running():  # until it waits for what comes
            threading.Event().wait(0.001)
        threading.Event().wait(0.05)

    assert begun.wait(20)
    probe.lane.stop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Loop, "__init__", noted)
        go_on.set()
        probe.built.result(20)
    end = threading.Event()
    for _ in range(2000):
        if loops[0].is_closed():
            break
        end.wait(0.01)
    assert loops[0].is_closed()
    probe.crew.close()
