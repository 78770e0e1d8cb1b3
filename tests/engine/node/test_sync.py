"""Coroutines from plain code."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from byzflow.engine.node.sync import run_sync


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_ctrl_c_cancels_the_work(in_a_loop: bool) -> None:
    ends: list[type[BaseException]] = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), timeout=20)
        except BaseException as end:
            ends.append(type(end))
            raise

    async def cell() -> None:
        run_sync(work())

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell()) if in_a_loop else run_sync(work())
    loop.close()
    assert ends == [asyncio.CancelledError]


def test_ctrl_c_that_does_not_wake_the_caller_is_seen_all_the_same() -> None:
    ends: list[type[BaseException]] = []

    async def work() -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # as if the caller did not wait yet
        try:
            await asyncio.wait_for(asyncio.Event().wait(), timeout=20)
        except BaseException as end:
            ends.append(type(end))
            raise

    async def cell() -> None:
        run_sync(work())

    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    loop.close()
    assert ends == [asyncio.CancelledError]


def test_ctrl_c_while_the_thread_starts_leaves_no_work_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        begun.wait(0.5)
        raise KeyboardInterrupt

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            threading.Event().wait(0.2)  # it takes a while to clean up
            ended.set()

    async def cell() -> None:
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        run_sync(work())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    assert begun.is_set() == ended.is_set()


def test_an_interrupt_of_the_work_itself_reaches_the_caller() -> None:
    async def work() -> None:
        raise KeyboardInterrupt

    async def cell() -> None:
        run_sync(work())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
