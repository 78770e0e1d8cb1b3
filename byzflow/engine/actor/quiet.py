"""Keep Dask's log off the terminal while a cluster of byzflow's own is open."""

from __future__ import annotations

import logging
import threading

__all__ = ("QUIET", "Quiet")


class Quiet(logging.Filter):
    """Silences what Dask logs below "critical", for as long as somebody needs that.

    `LocalCluster(silence_logs=...)` sets levels and puts them back when it closes, which makes the other
    clusters of the process loud. This counts instead. A handler may serve other loggers as well, whose
    records are none of its business.
    """

    def __init__(self) -> None:
        super().__init__()
        self._users = 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let through what is critical, or not Dask's."""
        return record.levelno >= logging.CRITICAL or record.name.partition(".")[0] != "distributed"

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self) -> None:
        """Be quiet until `end` was called as often as this."""
        with self._lock:
            self._users += 1
            for handler in logging.getLogger("distributed").handlers:
                handler.addFilter(self)

    def end(self) -> None:
        """Let Dask log again, if this was the last one who needed the quiet."""
        with self._lock:
            self._users -= 1
            if not self._users:
                for handler in logging.getLogger("distributed").handlers:
                    handler.removeFilter(self)


QUIET = Quiet()
"""The one that byzflow's own clusters share."""
