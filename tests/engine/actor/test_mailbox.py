from __future__ import annotations

import asyncio

import pytest

from byzflow.engine.actor.mailbox import Mailbox


async def test_messages_come_out_in_order():
    box = Mailbox(10)
    for message in "abc":
        await box.put(message)
    assert await box.get(0, None) == (1, "a")
    assert await box.get(1, None) == (2, "b")
    assert await box.get(2, None) == (3, "c")


async def test_a_message_that_was_not_received_is_handed_out_again():
    box = Mailbox(10)
    await box.put("a")
    assert await box.get(0, None) == (1, "a")
    assert await box.get(0, None) == (1, "a")


async def test_an_empty_box_answers_none_after_the_timeout():
    assert await Mailbox(1).get(0, 0.001) is None


async def test_a_waiting_message_is_found_with_no_time_left():
    box = Mailbox(1)
    await box.put("a")
    assert await box.get(0, 0.0) == (1, "a")


async def test_a_full_box_makes_the_sender_wait():
    box = Mailbox(1)
    await box.put("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(box.put("b"), 0.01)
    assert await box.get(0, None) == (1, "a")
    await asyncio.wait_for(box.put("b"), 1)
    assert await box.get(1, None) == (2, "b")
    assert len(box) == 0


async def test_a_box_that_is_closed_ends_who_waits_for_it():
    full, empty = Mailbox(1), Mailbox(1)
    await full.put("a")
    waits = [asyncio.create_task(wait) for wait in (full.put("b"), full.put("c"), empty.get(0, None))]
    await asyncio.sleep(0)
    await full.close()
    await empty.close()
    for wait in waits:
        with pytest.raises(LookupError, match="open mailbox"):
            await asyncio.wait_for(wait, 30)
    with pytest.raises(LookupError, match="open mailbox"):
        await full.put("d")
