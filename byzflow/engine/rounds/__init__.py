"""What rounds of both kinds stand on; nothing here knows of parameter servers, peers or ready nodes.

Where they run:
    on the side that calls: `calls` (who is asked), `seats`, `suspects`, `repeat`, `outcomes`, `answers`
        (what is fit), `vectors`, `patience`, `rota`, `moving` and `returns` (lost nodes), `turn`, `limits`
    beside each node: `resident` (one act a round), `memo`, `making`, `harmless`, `ambient`, `thread_state`,
        `plain`, `attributes`, `overlaps`, `duties`
    on both: `forms`, `isolation`, and the memory that processes of a machine share: `sites`, `arena`,
        `board`, `mirrors`, `staff`, `gallery`, `panes`, `picks`, `showing`, `holding`
"""

from __future__ import annotations

__all__ = ()
