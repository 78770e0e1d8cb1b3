"""Coroutines from plain code."""

from __future__ import annotations

import asyncio
import os
import signal

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
