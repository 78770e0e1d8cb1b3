"""Hosts that behave as if each were on a machine of its own."""

from __future__ import annotations

from typing import Any

import pytest

from byzflow.engine.rounds.staff import Staff


def share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host say that it cannot map the memory of another process."""
    ask = Staff.ask

    async def shortsighted(self: Staff, method: str, work: Any, hosts: Any = None) -> list[Any]:
        if method == "reaches":
            return [False] * len(work)
        return await ask(self, method, work, hosts)

    monkeypatch.setattr(Staff, "ask", shortsighted)
