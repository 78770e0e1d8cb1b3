"""Canonical blocks and the fixed summation tree."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from byzflow.kernels.blocks import Span, Tree, block_width, blocks, shards, widest
from byzflow.kernels.threads import one_thread, parallel

BLOCK = 1024


@given(d=st.integers(0, 50_000), k=st.integers(1, 40))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_shards_cover_every_column_once_and_start_at_blocks(d, k):
    spans = shards(d, k, BLOCK)
    assert len(spans) <= k
    assert [c for span in spans for c in (span.lo, span.hi)][:: 2 * len(spans) - 1] == (
        [0, d] if d else [0, 0]
    )
    assert all(a.hi == b.lo for a, b in pairwise(spans))
    assert all(span.lo % BLOCK == 0 for span in spans)


@given(n=st.integers(1, 5000), fewer=st.integers(1, 5000), d=st.integers(0, 10**10))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_shards_cut_for_any_number_of_rows_fit_the_blocks_of_fewer(n, fewer, d):
    assert widest(d) % block_width(n, d) == 0
    assert block_width(min(n, fewer), d) >= block_width(n, d) >= 1024


def test_a_block_in_two_shards_is_an_error():
    halves = [Tree.over(iter([(3, {"s": 1.0})])) for _ in range(2)]
    with pytest.raises(ValueError, match="in two shards"):
        Tree.merge(halves)


def test_blocks_of_a_span_are_canonical():
    assert list(blocks(Span(4, 11), width=4)) == [Span(4, 8), Span(8, 11)]


@given(count=st.integers(1, 200), cuts=st.sets(st.integers(1, 199), max_size=8), seed=st.integers(0, 99))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_the_sum_has_the_same_bits_however_blocks_are_grouped(count, cuts, seed):
    values = np.random.default_rng(seed).normal(size=count) * 10.0 ** (np.arange(count) % 9)

    def tree(lo, hi):
        return Tree.over((i, {"s": values[i]}) for i in range(lo, hi))

    whole = tree(0, count).root()["s"]
    edges = [0, *sorted(c for c in cuts if c < count), count]
    parts = [tree(lo, hi) for lo, hi in pairwise(edges)]
    random.Random(seed).shuffle(parts)
    half = len(parts) // 2
    grouped = Tree.merge([Tree.merge(parts[:half]), Tree.merge(parts[half:])]) if half else parts[0]
    assert grouped.root()["s"] == whole
    assert whole == pytest.approx(values.sum(), rel=1e-9)


def test_one_thread_holds_inside_and_restores_the_setting_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError, match="1 thread"), one_thread():
        raise ZeroDivisionError(f"{torch.get_num_threads()} thread")
    assert torch.get_num_threads() == before


def test_parallel_answers_in_column_order():
    spans = parallel(lambda span: span, 1000, 5 * BLOCK, BLOCK)
    assert spans == sorted(spans)
    assert spans[-1].hi == 5 * BLOCK


def test_large_work_stops_the_threads_that_torch_left_spinning():
    script = """
import os, torch
from byzflow.kernels.threads import parallel
torch.set_num_threads(3)
X = torch.ones(512, 512)
X @ X
before = len(os.listdir("/proc/self/task"))
parallel(lambda span: None, 64, 65536, 4096)
helpers = 2
stopped = before + helpers - len(os.listdir("/proc/self/task"))
print(stopped, float((X @ X).sum()))
"""
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", str(float(512**3))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_of_a_process_that_used_threads_does_not_wait_for_them():
    script = """
import os, signal, sys
import numpy as np
import torch
from byzflow.aggregators.geometric_wise import MultiKrum
torch.set_num_threads(2)
rows = list(np.random.default_rng(0).standard_normal((20, 100_000), dtype=np.float32))
expected = MultiKrum(f=2, q=4).aggregate(rows)
torch.ones(1_000_000).sum()  # starts OpenMP's threads
if os.fork() == 0:
    signal.alarm(20)
    os._exit(not np.array_equal(MultiKrum(f=2, q=4).aggregate(rows), expected))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
