"""Every message is taken once, in order, whatever happens to those who wait."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from byzflow.engine.graph.mailbox import Mailbox, MailboxStatistics


async def waiting(box, count):
    """Let the tasks made so far take their first step: `count` receivers wait."""
    await asyncio.sleep(0)
    assert box.statistics().waiting == count


async def test_cached_messages_are_taken_oldest_first_and_types_are_apart():
    box = Mailbox()
    for payload in range(3):
        box.put("a", payload)
    box.put("b", "other")
    assert [await box.get("a") for _ in range(3)] == [0, 1, 2]
    assert box.statistics() == MailboxStatistics(cached=1, waiting=0)


async def test_a_message_wakes_the_first_waiter_and_is_not_cached():
    box = Mailbox()
    first, second = (asyncio.create_task(box.get("a")) for _ in range(2))
    await waiting(box, 2)
    box.put("a", 1)
    assert await first == 1
    assert box.statistics() == MailboxStatistics(cached=0, waiting=1)
    box.put("a", 2)
    assert await second == 2
    assert box.statistics() == MailboxStatistics(0, 0)


async def test_a_timeout_is_said_and_leaves_no_waiter():
    box = Mailbox()
    with pytest.raises(TimeoutError, match="'a'"):
        await box.get("a", timeout=0.001)
    assert box.statistics() == MailboxStatistics(0, 0)
    box.put("a", 1)
    assert await box.get("a", timeout=0) == 1


async def test_a_cancelled_waiter_takes_nothing():
    box = Mailbox()
    task = asyncio.create_task(box.get("a"))
    await waiting(box, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    box.put("a", 1)
    assert await box.get("a") == 1


async def test_who_waits_behind_a_cancelled_waiter_keeps_its_place():
    box = Mailbox()
    first, second = (asyncio.create_task(box.get("a")) for _ in range(2))
    await waiting(box, 2)
    first.cancel()
    await asyncio.wait([first])
    box.put("a", 1)
    assert await asyncio.wait_for(second, 20) == 1
    assert box.statistics() == (0, 0)


async def test_waiters_cancelled_after_delivery_give_their_messages_back_in_order():
    box = Mailbox()
    tasks = [asyncio.create_task(box.get("a")) for _ in range(3)]
    await waiting(box, 3)
    for payload in range(3):
        box.put("a", payload)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert [await box.get("a") for _ in range(3)] == [0, 1, 2]


async def test_a_message_given_back_goes_to_the_next_in_line():
    box = Mailbox()
    gone, there = (asyncio.create_task(box.get("a")) for _ in range(2))
    await waiting(box, 2)
    box.put("a", 1)
    gone.cancel()
    assert await there == 1
    assert gone.cancelled()


async def test_a_message_given_back_comes_before_later_ones_that_are_on_their_way():
    box = Mailbox()
    first, second, third = (asyncio.create_task(box.get("a")) for _ in range(3))
    await waiting(box, 3)
    box.put("a", 1)
    box.put("a", 2)
    box.put("a", 3)
    first.cancel()
    assert [await second, await third, await box.get("a")] == [1, 2, 3]
    assert box.statistics() == MailboxStatistics(0, 0)


@given(st.lists(st.sampled_from(["get", "put", "put", "cancel first", "cancel last", "settle"]), max_size=30))
def test_whoever_still_waits_gets_the_oldest_in_line_whatever_came_in_the_same_tick(steps: list[str]) -> None:
    async def run() -> None:
        box, line, sent, ended = Mailbox(), deque(), itertools.count(), []
        left: deque[int] = deque()

        async def settle() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            while line and left:
                ended.append((line.popleft(), left.popleft()))

        for step in steps:
            if step == "get":
                line.append(asyncio.create_task(box.get("a")))
                await settle()
            elif step == "put":
                left.append(next(sent))
                box.put("a", left[-1])
            elif step.startswith("cancel") and line:
                (line.popleft() if step == "cancel first" else line.pop()).cancel()
            else:
                await settle()
        await settle()
        assert [task.result() for task, _ in ended] == [message for _, message in ended]
        assert box.statistics() == MailboxStatistics(cached=len(left), waiting=len(line))
        assert [await box.get("a") for _ in left] == list(left)
        for task in line:
            task.cancel()

    asyncio.run(run())


async def test_a_full_box_refuses_and_keeps_what_it_has():
    box = Mailbox(capacity=2)
    box.put("a", 0)
    box.put("a", 1)
    with pytest.raises(asyncio.QueueFull, match="At most 2 messages"):
        box.put("a", 2)
    box.put("b", 0)
    assert [await box.get("a"), await box.get("a")] == [0, 1]


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="capacity"):
        Mailbox(capacity=0)


async def test_messages_from_another_thread_wake_a_waiter():
    box = Mailbox()
    task = asyncio.create_task(box.get("a", timeout=5))
    await waiting(box, 1)
    sender = threading.Thread(target=box.put, args=("a", 1))
    sender.start()
    assert await task == 1
    sender.join()


def test_a_waiter_whose_loop_is_gone_gets_nothing():
    box, loop = Mailbox(), asyncio.new_event_loop()
    task = loop.create_task(box.get("a"))
    loop.run_until_complete(waiting(box, 1))
    task.cancel = lambda: None
    loop.close()
    box.put("a", 1)
    task._log_destroy_pending = False
    assert asyncio.run(box.get("a")) == 1


async def test_many_senders_and_receivers_lose_and_double_nothing():
    box = Mailbox(capacity=1000)
    receivers = [asyncio.create_task(box.get("a")) for _ in range(300)]
    await waiting(box, 300)
    threads = [
        threading.Thread(target=lambda k=k: [box.put("a", k * 100 + i) for i in range(100)]) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for task in receivers[::3]:
        task.cancel()
    await asyncio.gather(*receivers, return_exceptions=True)
    await asyncio.to_thread(lambda: [thread.join() for thread in threads])
    got = [task.result() for task in receivers if not task.cancelled()]
    got += [await box.get("a") for _ in range(box.statistics().cached)]
    assert sorted(got) == list(range(400))
