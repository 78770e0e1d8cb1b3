"""What the worker processes of embedded clusters do first, and nobody else's.

They collect garbage less often. A node that is shown 900 vectors gets 900 new objects, which all live until
it answers. Python looks through the new ones after every 700, and through all that torch and Dask have made
when enough of them live on.

They leave Ctrl-C, which a terminal sends to all of its processes, to the one that started them, which closes
them.
"""

from __future__ import annotations

import gc
import signal
import threading
from typing import Any

__all__ = ("dask_setup",)

NEW = 10_000  # objects made, and not freed, until the garbage collector looks at them


def dask_setup(worker: Any) -> None:
    """Set the thresholds of the garbage collector in a worker that is starting, and have it ignore Ctrl-C.

    Dask calls this.

    Parameters
    ----------
    worker : distributed.Worker
        The worker; None for a process that is none and keeps Ctrl-C.

    Examples
    --------
    >>> before = gc.get_threshold()
    >>> dask_setup(None)
    >>> gc.get_threshold()[0]
    10000
    >>> gc.set_threshold(*before)
    """
    gc.set_threshold(NEW, *gc.get_threshold()[1:])
    if worker is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
