from __future__ import annotations

import pytest

from byzflow.configs.actor import set_actor
from byzflow.engine.actor.backends.remote import RemoteActorBackend
from byzflow.engine.actor.backends.thread import ThreadActorBackend


def test_a_name_and_an_address_give_their_backends():
    assert isinstance(set_actor("thread"), ThreadActorBackend)
    assert isinstance(set_actor("tcp://10.0.0.1:8786"), RemoteActorBackend)


def test_another_string_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'thread'"):
        set_actor("thred")
