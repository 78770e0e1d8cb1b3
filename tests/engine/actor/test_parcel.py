from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
import torch
from distributed.protocol import deserialize, serialize

from byzflow.engine.actor.parcel import Parcel, seal, unseal
from byzflow.engine.actor.vec import Vec


def travel(parcel: Parcel) -> Parcel:
    header, frames = serialize(parcel, serializers=("dask", "error"))
    return deserialize(header, [bytearray(memoryview(frame).cast("B")) for frame in frames])


def test_in_the_same_process_the_object_itself_comes_out():
    value = [object()]
    assert Parcel(value).open() is value


def test_large_tensors_inside_any_object_travel_out_of_band():
    frames = seal({"grad": torch.ones(100_000), "more": [np.ones(100_000)]})
    assert len(frames) == 3
    assert len(frames[0]) < 1000


def test_a_thousand_small_vectors_are_one_frame_and_can_be_written_to():
    frames = seal([torch.ones(10) for _ in range(1000)] + [np.ones(10)])
    assert len(frames) == 1
    for got in unseal(frames)[-2:]:
        got += 1
        assert got.tolist() == [2.0] * 10


def test_gathered_vectors_travel_and_arrive_as_rows_of_one_matrix_for_each_form():
    shared = torch.arange(3.0)
    given = [shared, torch.tensor([True, False]), np.arange(2.0), shared, -torch.ones(3), np.float32(1.0)]
    given += [
        torch.zeros(()),
        torch.ones(3).requires_grad_(),
        np.empty(0),
        torch.empty(0),
        np.arange(4.0)[::2],
    ]
    frames = seal([given, torch.ones(100_000), {"x": torch.zeros(3)}], gathered=True)
    assert sorted(memoryview(frame).nbytes for frame in frames[1:]) == [2, 4, 32, 36, 400_000]
    got, large, more = unseal(frames)
    for one, other in zip(
        [*got, large, more["x"]], [*given, torch.ones(100_000), torch.zeros(3)], strict=True
    ):
        assert type(one) is type(other)
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert (one == other).all()
    assert got[0] is got[3]
    assert got[7].requires_grad
    got[0][:] = 7.0
    assert got[4].tolist() == [-1.0] * 3
    assert got[4].untyped_storage().data_ptr() == got[0].untyped_storage().data_ptr()


def test_what_cannot_be_gathered_travels_all_the_same():
    offset = 3
    vectors, add = unseal(seal([[torch.ones(2)] * 2, lambda x: x + offset], gathered=True))
    assert add(vectors[0]).tolist() == [4.0, 4.0]
    with pytest.raises(TypeError, match="must be picklable"):
        seal([torch.ones(2), threading.Lock()], gathered=True)


def test_numpy_stays_numpy_and_torch_stays_torch():
    got = travel(Parcel((np.ones(2), torch.ones(2, dtype=torch.bfloat16)))).open()
    assert isinstance(got[0], np.ndarray)
    assert got[1].dtype is torch.bfloat16


def test_the_same_vector_for_many_nodes_travels_once():
    vector = torch.ones(10)
    got = travel(Parcel([vector, vector])).open()
    assert got[0] is got[1]


def test_lambdas_travel_by_value():
    offset = 3
    assert travel(Parcel(lambda x: x + offset)).open()(1) == 4


def test_parameters_of_a_module_stay_parameters():
    got = travel(Parcel(torch.nn.Linear(2, 1))).open()
    assert all(isinstance(p, torch.nn.Parameter) for p in got.parameters())


def test_a_sealed_parcel_can_be_forwarded_unopened():
    once = travel(Parcel({"a": torch.ones(2)}))
    assert torch.equal(travel(once).open()["a"], torch.ones(2))
    assert torch.equal(pickle.loads(pickle.dumps(once, protocol=5)).open()["a"], torch.ones(2))


@pytest.mark.parametrize("array", [torch.ones(100_000), np.ones(100_000), Vec(torch.ones(100_000))])
def test_no_frame_is_a_memoryview_of_another(array: object) -> None:
    # To collect such a pair in a cycle, like the trace of a failed call, may end the process (Python 3.11).
    sealed = Parcel(array).sealed()
    frames = [*sealed.frames, *Parcel([sealed]).sealed().frames, *travel(sealed).frames]
    owners = [memoryview(frame).obj for frame in frames]
    assert any(isinstance(owner, np.ndarray) for owner in owners)
    assert not any(isinstance(owner, memoryview | pickle.PickleBuffer) for owner in owners)


def test_what_cannot_be_pickled_says_what_to_do():
    with pytest.raises(TypeError, match="must be picklable; got dict"):
        seal({"lock": threading.Lock()})


def test_seal_and_unseal_are_inverse():
    assert unseal(seal({"a": (1, 2)})) == {"a": (1, 2)}
