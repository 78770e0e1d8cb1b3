"""The GPU and UCX paths as far as a machine without either can tell; see the `gpu` marker for the rest."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from distributed import LocalCluster

from byzflow.engine.actor.backends.gpu import (
    GPUActorBackend,
    UCXRemoteActorBackend,
    start_ucx_actor_server,
)
from byzflow.engine.actor.transports.ucx import have_ucx
from byzflow.exceptions import MissingExtraError
from tests.engine.actor.subjects import Subject


@pytest.fixture
def asked_for(monkeypatch) -> dict[str, object]:
    """Stand in for dask-cuda: note what is asked for and give a cluster without GPUs."""
    asked: dict[str, object] = {}

    def fake(**options):
        asked.update(options)
        return LocalCluster(n_workers=2, processes=False, **options)

    module = ModuleType("dask_cuda")
    module.LocalCUDACluster = fake
    monkeypatch.setitem(sys.modules, "dask_cuda", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return asked


async def test_the_gpu_backend_runs_one_thread_per_device_and_names_the_resource(asked_for):
    backend = GPUActorBackend()
    await backend.start()
    await backend.construct(Subject)
    assert await backend.call("add", 1.0) == 1.0
    assert (await backend.get_endpoint()).scheme == "gpu"
    await backend.close()
    assert asked_for["threads_per_worker"] == 1
    assert asked_for["resources"] == {"gpu": 1}


async def test_without_dask_cuda_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(MissingExtraError, match=r"byzflow\[gpu\]"):
        await GPUActorBackend().start()


async def test_without_a_device_the_error_names_the_extra(asked_for, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingExtraError, match=r"byzflow\[gpu\]"):
        await GPUActorBackend().start()


def test_have_ucx_looks_for_the_package(monkeypatch):
    asked = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: asked.append(name))
    assert not have_ucx()
    assert asked == ["distributed_ucxx"]


async def test_without_ucx_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed_ucxx", None)
    with pytest.raises(MissingExtraError, match=r"byzflow\[gpu\]"):
        await UCXRemoteActorBackend("127.0.0.1", 1).start()
    with pytest.raises(RuntimeError, match=r"byzflow\[gpu\]"):
        await start_ucx_actor_server("127.0.0.1", 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
async def test_a_tensor_on_a_gpu_makes_the_round_trip():
    backend = GPUActorBackend()
    await backend.start()
    await backend.construct(Subject)
    got = await backend.call("echo", torch.ones(3, device="cuda"))
    assert got.device.type == "cuda"
    await backend.close()
