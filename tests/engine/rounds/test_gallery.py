"""What many nodes of this process are shown: copied in as few pieces as can be."""

from __future__ import annotations

import asyncio

import pytest
import torch

from byzflow.engine.actor.stack import SMALL, Stack
from byzflow.engine.rounds.arena import RowRef
from byzflow.engine.rounds.gallery import LARGE, Gallery
from byzflow.engine.rounds.resident import Resident
from byzflow.engine.rounds.showing import COPIED


class Vandal:
    def forge(self, heard: list[torch.Tensor]) -> float:
        seen = float(sum(vector[0] for vector in heard))
        for vector in heard:
            vector[:] = -1.0
        return seen


@pytest.mark.parametrize(
    ("nbytes", "kind"), [(SMALL, Stack), (COPIED, torch.Tensor), (2 * COPIED, RowRef)], ids=str
)
@pytest.mark.parametrize("viewers", [1, 2])
def test_each_viewer_sees_the_vectors_whatever_others_did_to_them(
    nbytes: int, kind: type, viewers: int
) -> None:
    vectors = tuple(torch.full((nbytes // 4,), float(i)) for i in range(LARGE // (2 * COPIED) + 1))
    gallery = Gallery()
    shown = asyncio.run(gallery.hang(vectors, viewers))
    if kind is RowRef and viewers == 1:
        assert shown is vectors
    else:
        assert type(shown if isinstance(shown, Stack) else shown[0]) is kind
    for _ in range(2):
        assert Resident(Vandal()).resident_call(0, "forge", (shown,)) == sum(range(len(vectors)))
    assert [float(vector[-1]) for vector in vectors] == list(range(len(vectors)))
    gallery.close()


def test_vectors_of_several_forms_are_shown_as_they_are() -> None:
    vectors = (torch.ones(2), torch.ones(3))
    assert asyncio.run(Gallery().hang(vectors, viewers=2)) is vectors
