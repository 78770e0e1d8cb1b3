"""What tests of vectors that stay have in common."""

from __future__ import annotations

from typing import Any

import pytest
from distributed import get_worker

from byzflow.engine.peer_to_peer.holding import Holding
from byzflow.engine.rounds import sites
from byzflow.engine.rounds.staff import Clerk
from tests.engine.peer_to_peer.far import share_no_memory
from tests.engine.peer_to_peer.held import let_none_stay, trained


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note for every round whether its vectors stayed, and let them stay however small they are."""
    noted: list[bool] = []
    original = Holding.open

    async def watched(self: Holding, *args: Any) -> bool:
        noted.append(await original(self, *args))
        return noted[-1]

    monkeypatch.setattr(Holding, "open", watched)
    monkeypatch.setattr(sites, "LARGE", 0)
    return noted


@pytest.fixture
async def carried(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What comes of the rounds when every vector travels."""

    async def run(*args: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            let_none_stay(patch)
            return await trained(None, *args, **options)

    return run


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], int]:
    """Let no host reach the memory of another process; count the messages between them."""
    messages: dict[tuple[str, str], int] = {}
    pull = Clerk.pull

    async def counted(self: Clerk, pulls: Any, deadline: Any) -> None:
        for source in (one.source.address for one in pulls):
            edge = source, get_worker().address
            messages[edge] = messages.get(edge, 0) + 1
        await pull(self, pulls, deadline)

    share_no_memory(monkeypatch)
    monkeypatch.setattr(Clerk, "pull", counted)
    return messages
