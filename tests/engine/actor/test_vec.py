from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from dask.sizeof import sizeof
from distributed.protocol import deserialize, serialize

from byzflow.engine.actor.vec import FEW, Vec, has_memory, unwrap, wrap

TORCH_DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64,
]  # fmt: skip


def through_dask(vec: Vec) -> Vec:
    header, frames = serialize(vec, serializers=("dask", "error"))
    return deserialize(header, [bytes(memoryview(frame).cast("B")) for frame in frames])


def through_pickle(vec: Vec) -> Vec:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(vec, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)


@pytest.mark.parametrize("send", [through_dask, through_pickle])
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)], ids=str)
def test_every_torch_dtype_and_shape_arrives_bit_for_bit(send, dtype, shape):
    sent = (torch.arange(6.0)[: max(1, int(np.prod(shape)))] - 2).to(dtype)
    sent = sent[: int(np.prod(shape))].reshape(shape)
    got = send(Vec(sent)).array
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    assert torch.equal(got.reshape(-1).view(torch.uint8), sent.reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("send", [through_dask, through_pickle])
def test_an_empty_tensor_arrives_whatever_its_strides(send):
    assert send(Vec(torch.empty_strided((0,), (0,)))).array.shape == (0,)


@pytest.mark.parametrize("send", [through_dask, through_pickle])
def test_a_tensor_of_one_entry_arrives_whatever_its_stride(send):
    assert send(Vec(torch.tensor([5.0, 6.0])[1::2])).array.tolist() == [6.0]
    assert send(Vec(torch.tensor([5.0, 6.0])[::2])).array.tolist() == [5.0]


@pytest.mark.parametrize("send", [through_dask, through_pickle])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1", "?", "c16", ">f8"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)], ids=str)
def test_every_numpy_dtype_and_shape_arrives_bit_for_bit(send, dtype, shape):
    sent = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    got = send(Vec(sent)).array
    assert (got.dtype, got.shape) == (sent.dtype, sent.shape)
    assert got.tobytes() == sent.tobytes()


def test_what_arrives_can_be_written_to():
    got = through_dask(Vec(torch.zeros(3))).array
    got += 1
    assert got.tolist() == [1, 1, 1]


def test_contiguous_tensors_are_not_copied():
    tensor = torch.zeros(1000)
    _, frames = serialize(Vec(tensor), serializers=("dask", "error"))
    tensor[0] = 7
    assert np.frombuffer(frames[0], dtype="f4")[0] == 7


def test_strided_and_conjugated_tensors_arrive():
    assert torch.equal(through_dask(Vec(torch.arange(6.0)[::2])).array, torch.tensor([0.0, 2, 4]))
    assert torch.equal(through_dask(Vec(torch.tensor([1 + 2j]).conj())).array, torch.tensor([1 - 2j]))


def test_requires_grad_is_remembered():
    assert through_dask(Vec(torch.ones(2, requires_grad=True))).array.requires_grad


def test_dask_sees_the_true_size():
    assert sizeof(Vec(torch.zeros(1000))) >= 4000


def test_wrap_reaches_into_containers_and_unwrap_undoes_it():
    value = {"a": [np.ones(2), (torch.ones(3), "text")], "b": 1}
    wrapped = wrap(value)
    assert isinstance(wrapped["a"][0], Vec)
    assert isinstance(wrapped["a"][1][0], Vec)
    back = unwrap(wrapped)
    assert back["a"][0] is value["a"][0]
    assert back["a"][1][0] is value["a"][1][0]
    assert back["b"] == 1


def test_object_arrays_are_left_alone():
    array = np.array([object()], dtype=object)
    assert wrap(array) is array


@pytest.mark.parametrize(("length", "left"), [(1, 0), (2 * FEW, 0), (2 * FEW, 4)])
def test_a_tensor_whose_storage_was_freed_or_cut_is_not_read(length, left):
    tensor = torch.zeros(length)
    assert has_memory(tensor)
    assert has_memory(tensor[1:])
    tensor.untyped_storage().resize_(left)
    with pytest.raises(ValueError, match="needs all its memory"):
        through_pickle(Vec(tensor))


def test_what_a_tensor_may_read_is_told_from_its_strides():
    assert has_memory(torch.zeros(1).expand(2 * FEW))
    assert has_memory(torch.zeros(2 * FEW + 2)[2:])
    assert has_memory(torch.zeros(4 * FEW)[::2])
    assert has_memory(torch.empty(0))
