"""Lines with hosts: which calls go there, what becomes of them, and that Dask carries all the others."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import dask
import numpy as np
import psutil
import pytest

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.dial import Bell
from byzflow.engine.actor.hostref import HostRef
from byzflow.engine.actor.line import BACKLOG, SMALL, Caller, LineCutError
from byzflow.engine.actor.runtime import Runtime
from byzflow.engine.actor.sweeps import Sweep
from byzflow.engine.actor.tray import WORTH
from byzflow.exceptions import DeadlineError, NodeLostError
from tests.engine.actor.subjects import Subject

pytestmark = pytest.mark.processes


async def started(runtime: Runtime) -> HostRef:
    """A host of its own, with one object."""
    host = HostRef(runtime, next(iter(await runtime.hosts())))  # which waits, if other tests have killed all
    await runtime.run(host.start)
    await host.spawn("one", Subject)
    return host


@pytest.fixture
async def host(process_runtime: Runtime) -> AsyncIterator[HostRef]:
    made = await started(process_runtime)
    yield made
    await process_runtime.run(made.stop)


@pytest.fixture
def by_line(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods that were called by a line."""
    seen: list[str] = []
    call = Caller.call

    async def noted(self: Caller, method: str, *args: Any) -> Any:
        seen.append(method)
        return await call(self, method, *args)

    monkeypatch.setattr(Caller, "call", noted)
    return seen


def calls(method: str, *args: Any) -> list[Call]:
    return [Call("one", method, args)]


async def answer(host: HostRef, method: str, *args: Any, deadline: float | None = None) -> Any:
    return (await host.call_many(calls(method, *args), deadline))[0].unwrap()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110  # what happens in another process has no event here
            await asyncio.sleep(0.01)


async def test_small_calls_go_by_the_line_and_large_ones_by_dask(host: HostRef, by_line: list[str]) -> None:
    assert await answer(host, "add", 2.0) == 2.0
    assert by_line == ["call_many"]
    assert np.array_equal(await answer(host, "echo", np.arange(SMALL)), np.arange(SMALL))
    assert len(by_line) == 1
    many = await host.call_many(Sweep(["one"] * 3, "add", each={"amount": [1.0, 2.0, 3.0]}))
    assert [outcome.unwrap() for outcome in many] == [3.0, 5.0, 8.0]
    assert len(by_line) == 2


@pytest.mark.parametrize("each", [None, {"amount": [np.ones(2), np.zeros(2)]}], ids=["same", "different"])
async def test_vectors_that_differ_in_a_sweep_are_gathered(
    host: HostRef, monkeypatch: pytest.MonkeyPatch, each: Any
) -> None:
    gathered: list[bool] = []
    pack = HostRef.pack

    def watched(self: HostRef, value: Any, **how: bool) -> Any:
        gathered.append(how["gathered"])
        return pack(self, value, **how)

    monkeypatch.setattr(HostRef, "pack", watched)
    await host.call_many(Sweep(["one"] * 2, "add", () if each else (1.0,), each=each))
    assert gathered == [each is not None]


async def test_large_answers_come_by_tray_and_by_dask_when_there_is_none(
    host: HostRef, by_line: list[str]
) -> None:
    await answer(host, "note", np.arange(WORTH))
    del by_line[:]
    kept = [await answer(host, "notes") for _ in range(9)]
    assert 1 < len(by_line) < 9
    assert all(np.array_equal(notes[0], np.arange(WORTH)) for notes in kept)
    assert all(notes[0].flags.writeable for notes in kept)


async def test_what_nodes_raise_and_what_cannot_be_sent_comes_as_by_dask(
    host: HostRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("fail", "fail_awkwardly", "leave", "lock", "where", "missing")
    asked = [Call("one", method) for method in methods] + [Call("nobody", "ping")]
    one = await host.call_many(asked)
    monkeypatch.setattr(host, "_line", None)
    other = await host.call_many(asked)
    assert [(o.value, type(o.error), o.said) for o in one] == [
        (o.value, type(o.error), o.said) for o in other
    ]


async def test_where_nobody_comes_to_the_bell_dask_carries_all(
    process_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, by_line: list[str]
) -> None:
    def nobody(self: Bell) -> None:
        raise BlockingIOError

    monkeypatch.setattr(Bell, "picked_up", nobody)
    host = await started(process_runtime)
    assert [await answer(host, "add", 1.0) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert by_line == []
    await process_runtime.run(host.stop)


async def test_a_host_that_cannot_come_says_so_and_dask_carries_all(
    process_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, by_line: list[str]
) -> None:
    class Elsewhere(Bell):
        def __init__(self) -> None:
            super().__init__()
            self.heard, self.name = self.name, "byzflow-elsewhere"

        def __enter__(self) -> Bell:
            self.name, told = self.heard, self.name
            super().__enter__()
            self.name = told
            return self

    monkeypatch.setattr("byzflow.engine.actor.hostref.Bell", Elsewhere)
    host = await started(process_runtime)
    assert await answer(host, "add", 1.0) == 1.0
    assert by_line == []
    await process_runtime.run(host.stop)


async def test_a_host_in_this_process_has_no_line(thread_runtime: Runtime, by_line: list[str]) -> None:
    host = await started(thread_runtime)
    assert await answer(host, "add", 1.0) == 1.0
    assert by_line == []
    await thread_runtime.run(host.stop)


async def test_a_kill_in_a_call_by_line_is_a_prompt_loss(host: HostRef, by_line: list[str]) -> None:
    pid, _ = await answer(host, "where")
    under_way = [asyncio.ensure_future(answer(host, "hang")) for _ in range(3)]
    await until(lambda: len(by_line) == 4)
    os.kill(pid, signal.SIGKILL)
    for task in under_way:
        with pytest.raises(NodeLostError, match="that worker is gone"):
            await asyncio.wait_for(task, 15)
    assert host._line is None or not host._line.is_open


async def test_a_frozen_worker_is_late_holds_up_nobody_and_goes_on(
    host: HostRef, by_line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, _ = await answer(host, "where")
    line, blob = host._line, bytes(SMALL - 1000)
    monkeypatch.setitem(dask.config.config["byzflow"]["host"], "grace", 0.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineError, match="had to answer within"):
            await answer(host, "add", 1.0, deadline=0.05)
        begin = len(by_line)
        under_way = [asyncio.ensure_future(answer(host, "echo", blob, deadline=0.3)) for _ in range(40)]
        late = await asyncio.gather(*under_way, return_exceptions=True)
        assert all(isinstance(error, DeadlineError) for error in late)
        assert len(by_line) - begin < BACKLOG // SMALL + 4  # the others went by Dask
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await answer(host, "add", 1.0) == 2.0  # the call that was late has been made
    assert host._line is line
    assert line.is_open
    await until(lambda: not line._waiting)


async def test_a_line_that_is_cut_says_that_the_worker_lives_and_another_one_is_opened(
    host: HostRef, by_line: list[str]
) -> None:
    tasks = [asyncio.ensure_future(answer(host, "hang")) for _ in range(3)]
    await until(lambda: len(by_line) == 3)
    line = host._line
    with dask.config.set({"byzflow.host.settle": "60s"}):
        line.close()
        for task in tasks:
            with pytest.raises(LineCutError, match=r"connection was lost; the worker lives"):
                await asyncio.wait_for(task, 30)  # it does not wait for news of the scheduler
    del by_line[:]
    await host.spawn("one", Subject, (5.0,))
    assert await answer(host, "add", 1.0) == 6.0
    assert by_line == ["call_many"]
    assert host._line is not line


async def test_where_no_other_line_can_be_opened_dask_carries_what_follows(
    host: HostRef, by_line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(self: Bell) -> None:
        raise BlockingIOError

    monkeypatch.setattr(Bell, "picked_up", nobody)
    task = asyncio.ensure_future(answer(host, "hang"))
    await until(lambda: len(by_line) == 1)
    host._line.close()
    with pytest.raises(LineCutError):
        await task
    await host.spawn("one", Subject, (5.0,))
    assert await answer(host, "add", 1.0) == 6.0
    assert by_line == ["call_many"]


async def test_the_line_ends_with_the_host(process_runtime: Runtime) -> None:
    stopped, released = await started(process_runtime), await started(process_runtime)
    await process_runtime.run(stopped.stop)
    await until(lambda: not stopped._line.is_open)
    assert released._line.is_open
    released._actor.release()
    released._actor = None
    await until(lambda: not released._line.is_open)


async def test_a_thousand_calls_leave_no_descriptor_and_no_task(host: HostRef, by_line: list[str]) -> None:
    pid, _ = await answer(host, "where")

    async def footprint() -> tuple[int, int, int]:
        await answer(host, "echo")
        gc.collect()
        return psutil.Process().num_fds(), psutil.Process(pid).num_fds(), len(host._line._waiting)

    before = await footprint()
    for _ in range(100):
        await asyncio.gather(*(answer(host, "echo", n) for n in range(10)))
    after = await footprint()
    assert after[0] <= before[0] + 20  # fewer than one for every fifty calls
    assert after[1] <= before[1] + 20
    assert after[2] == 0
    assert len(by_line) > 1000
