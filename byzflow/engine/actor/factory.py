"""The only parser of backend strings."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from distributed import Client
from distributed.deploy.cluster import Cluster

from byzflow.engine.actor.backends.dask import DaskActorBackend
from byzflow.engine.actor.backends.gpu import GPUActorBackend, UCXRemoteActorBackend
from byzflow.engine.actor.backends.process import ProcessActorBackend
from byzflow.engine.actor.backends.remote import RemoteActorBackend
from byzflow.engine.actor.backends.thread import ThreadActorBackend
from byzflow.engine.actor.base import ActorBackend
from byzflow.exceptions import suggest
from byzflow.operators.checks import acts

__all__ = ("check_backend", "resolve_backend")

NAMED = {"gpu": GPUActorBackend, "process": ProcessActorBackend, "thread": ThreadActorBackend}
SCHEMES = ("tcp", "tls", "ucx")
INPROC = re.compile(r"inproc://[^/]+/\d+/\d+")  # of a scheduler in this process: its host, process and number


def resolve_backend(spec: str | Client | Cluster | ActorBackend) -> ActorBackend:
    """Return a backend for a name, the address of a scheduler, a client, a cluster, or a backend itself.

    A scheduler in this process may have an ``inproc://`` address, which no other process can reach.

    Raises
    ------
    ValueError
        If a string is neither a backend's name nor a full address.

    Examples
    --------
    >>> resolve_backend("thread")
    <ThreadActorBackend object-... on thread>
    >>> resolve_backend("proces")
    Traceback (most recent call last):
        ...
    ValueError: A backend must be 'gpu', 'process', 'thread' or an address like tcp://, tls:// or
    ucx://host:port, in this process inproc://host/pid/number; got 'proces'. Did you mean 'process'?
    """
    if isinstance(spec, Client | Cluster):
        return DaskActorBackend(spec)
    if not isinstance(spec, str):
        return spec
    if spec in NAMED:
        return NAMED[spec]()
    if INPROC.fullmatch(spec):
        return DaskActorBackend(spec, scheme="inproc")
    scheme, host, port = _address(spec)
    if scheme in SCHEMES and host and port:
        if scheme == "ucx":
            return UCXRemoteActorBackend(host, port)
        return RemoteActorBackend(host, port, protocol=scheme)
    raise ValueError(
        "A backend must be 'gpu', 'process', 'thread' or an address like tcp://, tls:// or ucx://host:port, "
        f"in this process inproc://host/pid/number; got {spec!r}.{suggest(spec, NAMED)}"
    )


def check_backend(backend: object) -> None:
    """Raise TypeError for what `resolve_backend` has let through without being a backend.

    Examples
    --------
    >>> check_backend(ThreadActorBackend())
    """
    acts("backend", backend, "start", "Pass 'thread', 'process', an address, a Client or a Cluster.")


def _address(spec: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(spec)
        host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
        return parts.scheme, host, parts.port
    except ValueError:
        return "", None, None
