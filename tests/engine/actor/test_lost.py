"""Real kills: what a lost worker does to calls, and what comes after."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.actor.hostref import HostRef
from byzflow.exceptions import NodeLostError
from tests.engine.actor.subjects import Subject

pytestmark = pytest.mark.processes


@pytest.fixture
async def backend(process_runtime):
    made = resolve_backend("process")
    await made.start()
    await made.construct(Subject)
    yield made
    await made.close()


async def lost(awaitable) -> None:
    """A call that fails long before a connection would be given up, on a busy machine too."""
    with pytest.raises(NodeLostError, match="that worker is gone"):
        await asyncio.wait_for(awaitable, 15)


async def test_a_worker_that_kills_itself_in_a_call_is_a_node_lost_error(backend):
    await lost(backend.call("die"))


async def never(*args) -> None:
    await asyncio.Event().wait()


async def test_every_call_under_way_and_every_later_one_fails_promptly(backend, monkeypatch):
    pid, _ = await backend.call("where")
    under_way = asyncio.ensure_future(backend.call("hang"))
    await backend.host.call_many([Call("nobody", "ping")])  # the host has both calls after this answer
    os.kill(pid, signal.SIGKILL)
    at_once = asyncio.ensure_future(backend.call("add", 1.0))
    await asyncio.gather(lost(under_way), lost(at_once))
    monkeypatch.setattr(HostRef, "_rpc", never)
    await lost(backend.call("add", 1.0))


async def test_the_owner_finds_a_live_host_to_spawn_on(backend):
    gone = backend.host.address
    await lost(backend.call("die"))
    again = resolve_backend("process")
    await again.construct(Subject, args=(5.0,))
    assert again.host.address != gone
    assert await again.call("add", 1.0) == 6.0
    await again.close()


async def test_closing_after_the_loss_is_quiet(backend):
    await lost(backend.call("die"))
    await backend.close()


async def test_a_frozen_worker_is_a_timeout_and_not_a_hang(backend):
    pid, _ = await backend.call("where")
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError, match="had to answer within"):
            await backend.host.call_many([Call(backend.object_id, "add", (1.0,))], deadline=0.1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert await backend.call("echo", 3) == 3
