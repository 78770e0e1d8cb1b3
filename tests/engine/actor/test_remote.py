from __future__ import annotations

import asyncio
import gc

import dask
import pytest
from distributed import LocalCluster
from distributed.comm import connect
from distributed.security import Security

from byzflow.engine.actor.backends.remote import RemoteActorBackend, RemoteActorServer, start_actor_server
from byzflow.engine.actor.factory import resolve_backend
from byzflow.engine.graph.pool import ActorPool, ActorPoolConfig
from byzflow.operators.base import SubTask
from tests.engine.actor.subjects import Subject


async def use(backend) -> None:
    await backend.start()
    await backend.construct(Subject, args=(1.0,))
    assert await backend.call("add", 1.0) == 2.0
    await backend.close()


async def test_an_address_joins_the_cluster_that_is_there(tcp_address):
    backend = resolve_backend(tcp_address)
    await backend.construct(Subject)
    assert backend.host.address.startswith("tcp://")
    assert (await backend.get_endpoint()).scheme == "tcp"
    await use(resolve_backend(tcp_address))
    await backend.close()


async def test_an_address_of_this_process_joins_the_cluster_and_passes_by_reference():
    async with LocalCluster(
        n_workers=1, processes=False, asynchronous=True, dashboard_address=":0", memory_limit=0
    ) as cluster:
        backend = resolve_backend(cluster.scheduler_address)
        await backend.construct(Subject)
        assert (await backend.get_endpoint()).scheme == "inproc"
        assert await backend.call("echo", backend) is backend
        await backend.close()
        async with ActorPool([ActorPoolConfig(cluster.scheduler_address, count=2)]) as pool:
            assert await pool.run_many([SubTask(pow, (2, n)) for n in range(4)]) == [1, 2, 4, 8]


async def test_an_address_of_another_process_is_refused_with_the_reason():
    with pytest.raises(ConnectionError, match=r"does not match host .* or pid"):
        await resolve_backend("inproc://10.0.0.1/1/1").start()


@pytest.fixture(scope="module")
def tls():
    """A TLS scheduler, its security object, and the same as settings."""
    security = Security.temporary()
    with LocalCluster(
        n_workers=1, processes=False, protocol="tls", security=security, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address, security


async def test_tls_works_with_files_given_as_an_argument(tls):
    address, security = tls
    host, port = address.removeprefix("tls://").split(":")
    await use(RemoteActorBackend(host, int(port), protocol="tls", security=security))


async def test_tls_works_with_files_from_the_dask_config(tls, tmp_path):
    address, security = tls
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        path = tmp_path / name
        path.write_text(getattr(security, name))
        files[name] = str(path)
    settings = {
        "distributed.comm.tls.ca-file": files["tls_ca_file"],
        "distributed.comm.tls.client.cert": files["tls_client_cert"],
        "distributed.comm.tls.client.key": files["tls_client_key"],
    }
    with dask.config.set(settings):
        await use(resolve_backend(address))


@pytest.mark.parametrize("security", [None, "stranger"])
async def test_whoever_has_no_certificate_of_the_cluster_gets_a_connection_error(tls, security):
    address, _ = tls
    host, port = address.removeprefix("tls://").split(":")
    stranger = Security.temporary() if security else None
    with (
        dask.config.set({"byzflow.comm.connect-timeout": "500ms"}),
        pytest.raises(ConnectionError, match="check address and TLS"),
    ):
        await RemoteActorBackend(host, int(port), protocol="tls", security=stranger).start()


async def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_actor_server_does_not_mind_other_schedulers_on_its_machine():
    async with RemoteActorServer("127.0.0.1", 0) as one, RemoteActorServer("127.0.0.1", 0) as other:
        assert one.address != other.address


async def test_an_actor_server_serves_until_it_is_cancelled():
    server = RemoteActorServer("127.0.0.1", 0)
    await server.start()
    serving = asyncio.create_task(server.serve())
    await use(RemoteActorBackend("127.0.0.1", int(server.address.rpartition(":")[2])))
    await cancel(serving)
    with pytest.raises(RuntimeError, match="started server"):
        _ = server.address


async def test_start_actor_server_listens_on_the_port_it_was_given():
    async with RemoteActorServer("127.0.0.1", 0) as free:
        address = free.address
    serving = asyncio.create_task(start_actor_server("127.0.0.1", int(address.rpartition(":")[2])))
    async with asyncio.timeout(30):
        await (await connect(address)).close()
    await use(resolve_backend(address))
    await cancel(serving)
    with pytest.raises(OSError, match="Timed out"):
        await connect(address, timeout=0.2)


async def test_a_port_that_is_taken_is_named_and_no_socket_stays_open():
    async with RemoteActorServer("127.0.0.1", 0) as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(OSError, match=f"127.0.0.1:{port} must be free to listen at"):
            await start_actor_server("127.0.0.1", port)
    gc.collect()
