from __future__ import annotations

import asyncio
import time

import dask
from distributed import Client

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.calls import Call
from tests.engine.actor.subjects import Subject


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_loop_that_stood_still_does_not_take_a_worker_for_late(tcp_address):
    limit = 0.4  # seconds, of which the loop of the client and of this test gives the worker none
    with dask.config.set({"byzflow.host.grace": 0}):
        async with Client(tcp_address, asynchronous=True) as client:
            backend = DaskActorBackend(client)
            await backend.construct(Subject)
            for steps in (1, 2, 4):  # of the loop, until it stands still: the call is on its way, or not yet
                work = backend.host.call_many([Call(backend.object_id, "add", (1.0,))], limit)
                call = asyncio.ensure_future(work)
                for _ in range(steps):
                    await asyncio.sleep(0)
                stand_still(2 * limit)
                assert (await call)[0].error is None
            await backend.close()
