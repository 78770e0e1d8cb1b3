from __future__ import annotations

import asyncio
import os
import threading

import numpy as np
import pytest
import torch

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.base import ActorBackend, ActorRef
from byzflow.engine.actor.calls import Call
from byzflow.engine.actor.factory import resolve_backend
from tests.engine.actor.subjects import AsyncSubject, AwkwardError, Subject

KINDS = ["thread", "tcp", pytest.param("process", marks=pytest.mark.processes)]


@pytest.fixture(params=KINDS)
def spec(request):
    runtime = request.getfixturevalue(f"{request.param}_runtime")
    return runtime._spec


@pytest.fixture
async def backend(spec):
    made = resolve_backend(spec)
    await made.start()
    yield made
    await made.close()


async def test_a_backend_is_what_the_protocol_asks_for(backend):
    assert isinstance(backend, ActorBackend)


async def test_state_stays_between_calls(backend):
    await backend.construct(Subject, args=(1.0,))
    assert await backend.call("add", 2.0) == 3.0
    assert await backend.call("add", amount=0.5) == 3.5


async def test_any_factory_will_do(backend):
    start = 4.0
    await backend.construct(lambda: Subject(start))
    assert await backend.call("add", 1.0) == 5.0


async def test_numpy_comes_back_as_numpy_and_torch_as_torch(backend):
    await backend.construct(Subject)
    got = await backend.call("echo", {"a": np.ones(3), "b": torch.ones(3, dtype=torch.bfloat16)})
    assert isinstance(got["a"], np.ndarray)
    assert torch.equal(got["b"], torch.ones(3, dtype=torch.bfloat16))


async def test_errors_keep_their_type(backend):
    await backend.construct(Subject)
    with pytest.raises(KeyError, match="the node's own error"):
        await backend.call("fail")
    assert await backend.call("add", 1.0) == 1.0


async def test_leaving_the_interpreter_is_only_an_error(backend):
    await backend.construct(Subject)
    with pytest.raises(SystemExit):
        await backend.call("leave")
    assert await backend.call("add", 1.0) == 1.0


async def test_an_unknown_method_is_an_attribute_error(backend):
    await backend.construct(Subject)
    with pytest.raises(AttributeError, match="nothing"):
        await backend.call("nothing")


async def test_the_constructors_error_is_raised(backend):
    with pytest.raises(ValueError, match="must not be negative"):
        await backend.construct(Subject, args=(-1.0,))
    await backend.construct(Subject)
    assert await backend.call("add", 1.0) == 1.0


async def test_async_methods_are_awaited_and_do_not_block_each_other(backend):
    await backend.construct(AsyncSubject)
    waiting = asyncio.ensure_future(backend.call("wait"))
    await backend.call("open")
    assert await asyncio.wait_for(waiting, 30) == "opened"


async def test_a_hanging_object_does_not_hold_up_the_others(spec):
    stuck, free = resolve_backend(spec), resolve_backend(spec)
    await stuck.construct(Subject)
    await free.construct(Subject, host=stuck.host)
    calls = [Call(stuck.object_id, "hang"), Call(free.object_id, "echo", ("here",))]
    for limit in (0.2, 2.0, 20.0):  # seconds; a busy machine needs more of them
        late, good = await stuck.host.call_many(calls, deadline=limit)
        assert isinstance(late.error, TimeoutError)
        if good.error is None:
            break
    assert good.value == "here"
    again = await free.host.call_many(calls[1:], deadline=20)
    assert again[0].value == "here"
    await stuck.close()
    await free.close()


async def test_a_call_to_an_unknown_object_is_an_outcome(backend):
    await backend.construct(Subject)
    outcomes = await backend.host.call_many([Call("nobody", "add"), Call(backend.object_id, "add", (1.0,))])
    assert isinstance(outcomes[0].error, LookupError)
    assert outcomes[1].value == 1.0


async def test_no_calls_have_no_outcomes(backend):
    await backend.construct(Subject)
    assert list(await backend.host.call_many([])) == []


async def test_a_second_object_needs_a_second_backend(backend):
    await backend.construct(Subject)
    with pytest.raises(RuntimeError, match="holds one object"):
        await backend.construct(Subject)


async def test_calling_before_construct_says_what_to_do(backend):
    with pytest.raises(RuntimeError, match=r"Await construct\(\) first"):
        await backend.call("add", 1.0)


async def test_a_closed_backend_can_be_used_again(backend):
    await backend.construct(Subject)
    await backend.close()
    await backend.close()
    await backend.construct(Subject, args=(7.0,))
    assert await backend.call("add", 0.0) == 7.0


async def test_the_reference_makes_methods_of_attributes(spec):
    async with ActorRef(resolve_backend(spec)) as ref:
        await ref._backend.construct(Subject)
        assert await ref.add(2.0) == 2.0
        assert (await ref.endpoint()).actor_id.endswith(ref._backend.object_id)


async def test_each_object_computes_with_one_torch_thread(backend):
    await backend.construct(Subject)
    assert await backend.call("threads") == 1


@pytest.mark.parametrize("spec", ["tcp", pytest.param("process", marks=pytest.mark.processes)], indirect=True)
class TestAcrossAConnection:
    async def test_an_error_that_cannot_be_unpickled_becomes_a_runtime_error_with_its_text(self, backend):
        await backend.construct(Subject)
        with pytest.raises(RuntimeError, match="AwkwardError: one"):
            await backend.call("fail_awkwardly")
        assert await backend.call("add", 1.0) == 1.0

    async def test_a_result_that_cannot_be_pickled_is_an_error_of_that_call_only(self, backend):
        await backend.construct(Subject)
        calls = [Call(backend.object_id, "lock"), Call(backend.object_id, "add", (1.0,))]
        bad, good = await backend.host.call_many(calls)
        assert isinstance(bad.error, TypeError)
        assert good.value == 1.0

    async def test_an_argument_that_cannot_be_pickled_is_refused(self, backend):
        await backend.construct(Subject)
        with pytest.raises(TypeError, match="must be picklable"):
            await backend.call("echo", threading.Lock())
        assert await backend.call("add", 1.0) == 1.0

    async def test_the_workers_trace_comes_along(self, backend):
        await backend.construct(Subject)
        with pytest.raises(KeyError) as info:
            await backend.call("fail")
        assert "in fail" in info.value.__notes__[0]

    async def test_what_the_object_holds_is_not_the_callers(self, backend):
        await backend.construct(Subject)
        mine = np.zeros(3)
        await backend.call("note", mine)
        mine += 1
        (held,) = await backend.call("notes")
        assert held.tolist() == [0, 0, 0]


async def test_on_threads_arguments_and_errors_pass_by_reference(thread_runtime):
    backend = resolve_backend("thread")
    await backend.construct(Subject)
    value = threading.Lock()
    assert await backend.call("echo", value) is value
    pid, thread = await backend.call("where")
    assert pid == os.getpid()
    assert thread != threading.get_ident()
    with pytest.raises(AwkwardError):
        await backend.call("fail_awkwardly")
    await backend.close()


@pytest.mark.processes
async def test_processes_are_shared_and_objects_spread_evenly(process_runtime):
    backends = [resolve_backend("process") for _ in range(4)]
    await asyncio.gather(*(backend.construct(Subject) for backend in backends))
    pids = [(await backend.call("where"))[0] for backend in backends]
    workers = len(await process_runtime.workers())
    assert len(set(pids)) == min(4, workers)
    assert os.getpid() not in pids
    await asyncio.gather(*(backend.close() for backend in backends))


async def test_one_phase_is_one_rpc_per_host(thread_runtime, monkeypatch):
    backends = [DaskActorBackend("thread") for _ in range(20)]
    await asyncio.gather(*(backend.construct(Subject) for backend in backends))
    host = backends[0].host
    sent: list[str] = []
    rpc = type(host)._rpc

    async def counting(self, method, args):
        sent.append(method)
        return await rpc(self, method, args)

    monkeypatch.setattr(type(host), "_rpc", counting)
    outcomes = await host.call_many([Call(backend.object_id, "add", (1.0,)) for backend in backends])
    assert [outcome.value for outcome in outcomes] == [1.0] * 20
    assert sent == ["call_many"]
    monkeypatch.undo()
    await asyncio.gather(*(backend.close() for backend in backends))
