"""A script that ends with everything open ends quietly: by then no thread can be started any more."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, atexit, threading
from distributed import Client
from byzflow.engine.actor.factory import resolve_backend

async def main():
    kept = []
    for _ in range(6):
        backend = resolve_backend(client)
        await backend.start()
        await backend.construct(dict, args=(), kwargs={})
        kept.append(backend)
    return kept

client = Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0")
kept = asyncio.run(main())
atexit.register(setattr, threading.Thread, "start", lambda thread: print("too late:", thread.name))
print("end")
"""


@pytest.mark.processes
def test_a_script_that_leaves_nodes_in_its_own_client_starts_no_thread_at_its_end(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0
    assert done.stdout.split() == ["end"], done.stdout
    assert "Traceback" not in done.stderr
