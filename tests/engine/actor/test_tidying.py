from __future__ import annotations

import gc
import signal

import dask
import pytest

from byzflow.engine.actor import clusters, tidying


@pytest.mark.processes
async def test_worker_processes_of_ours_look_for_garbage_less_often_and_this_process_does_not(
    process_runtime,
):
    found = await process_runtime.run(lambda: process_runtime.client.run(gc.get_threshold))
    assert {threshold[0] for threshold in found.values()} == {tidying.NEW}
    assert gc.get_threshold()[0] != tidying.NEW


@pytest.mark.processes
async def test_worker_processes_of_ours_leave_ctrl_c_to_this_process(process_runtime):
    found = await process_runtime.run(lambda: process_runtime.client.run(signal.getsignal, signal.SIGINT))
    assert set(found.values()) == {signal.SIG_IGN}


@pytest.mark.parametrize(
    ("configured", "argv", "modules", "arguments"),
    [
        ("os", ["a"], ["os"], ["a"]),
        (["os", "sys"], [["a"], ["b"]], ["os", "sys"], [["a"], ["b"], []]),
        ([], [], [], []),
    ],
)
def test_what_the_user_has_workers_load_is_loaded_first(configured, argv, modules, arguments):
    keys = {"distributed.worker.preload": configured, "distributed.worker.preload-argv": argv}
    with dask.config.set(keys):
        known = clusters._preload()
    assert known == {"preload": [*modules, tidying.__name__], "preload_argv": arguments}
