"""The reader's side of mailboxes, without a worker."""

from __future__ import annotations

import asyncio
from typing import Any

from byzflow.engine.actor.mail import Mail


class SlowHost:
    """A host that has no message and takes its time to say so."""

    def __init__(self) -> None:
        self.runtime = self
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def run(self, fn: Any, *args: Any) -> Any:
        return await fn(*args)

    async def execute(self, *request: Any) -> None:
        self.asked.set()
        await self.may_answer.wait()


async def test_a_read_that_outlives_its_object_ends_quietly() -> None:
    host = SlowHost()
    mail: Any = Mail(host)  # type: ignore[arg-type]  # all that it asks of a host
    reading = asyncio.create_task(mail.receive("object", "news", None))
    await host.asked.wait()
    mail.forget("object")
    host.may_answer.set()
    assert await asyncio.wait_for(reading, 30) is None
    assert not mail._reading
