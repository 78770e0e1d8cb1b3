from __future__ import annotations

import pytest

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.backends.gpu import GPUActorBackend, UCXRemoteActorBackend
from byzflow.engine.actor.backends.process import ProcessActorBackend
from byzflow.engine.actor.backends.remote import RemoteActorBackend
from byzflow.engine.actor.backends.thread import ThreadActorBackend
from byzflow.engine.actor.factory import resolve_backend


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("thread", ThreadActorBackend),
        ("process", ProcessActorBackend),
        ("gpu", GPUActorBackend),
        ("tcp://127.0.0.1:8786", RemoteActorBackend),
        ("tls://scheduler.example:8786", RemoteActorBackend),
        ("tcp://[::1]:8786", RemoteActorBackend),
        ("ucx://10.0.0.1:8786", UCXRemoteActorBackend),
        ("inproc://10.0.0.1/4711/2", DaskActorBackend),
    ],
)
def test_each_string_has_its_backend(spec, kind):
    backend = resolve_backend(spec)
    assert type(backend) is kind
    assert backend._spec == spec


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "threads!",
        "tcp://",
        "tcp://host",
        "tcp://:8786",
        "tcp://host:port",
        "http://host:80",
        "tcp:host:1",
        "inproc://",
        "inproc://10.0.0.1:8786",
        "inproc://10.0.0.1/here/2",
    ],
)
def test_anything_else_is_a_value_error_that_says_what_is_valid(spec):
    with pytest.raises(ValueError, match="A backend must be 'gpu', 'process', 'thread' or an address"):
        resolve_backend(spec)


def test_the_nearest_name_is_suggested():
    with pytest.raises(ValueError, match="Did you mean 'thread'"):
        resolve_backend("treads")


def test_a_backend_is_returned_as_it_is():
    backend = ThreadActorBackend()
    assert resolve_backend(backend) is backend
