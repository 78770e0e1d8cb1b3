"""Aggregate rows that do not fit in memory: time and peak memory against generating them.

    python -m benchmarks.memory [--d 100000000] [--chunk 1000000] [--json FILE]

20 rows of d float32 coordinates are generated block by block as a dask.array and reduced to the sum of the
aggregate, on the threaded scheduler. The default, 8 GB, runs in about a minute. At d = 2 * 10^9, 160 GB,
two cores that others used too took 6.3 minutes to generate, 7.2 for the median and 15.7 for MultiKrum, 0.87
and 0.81 of the throughput of generating, in 0.77 GiB of process memory. The throughput is bytes read by the
rule's passes (one for the median, two for MultiKrum, which generates every block twice rather than keep it)
over seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import dask.array as da
import torch

from byzflow.aggregators.coordinate_wise import CoordinateWiseMedian
from byzflow.aggregators.geometric_wise import MultiKrum

N = 20


def generated(d: int, chunk: int) -> Any:
    """Return the lazy (20, d) matrix."""
    return da.random.default_rng(0).standard_normal(size=(N, d), chunks=(N, chunk), dtype="f4")


def measure(name: str, lazy: Any, passes: int, size: int) -> dict[str, Any]:
    """Reduce, and report seconds, throughput and the peak of this process so far."""
    start = time.perf_counter()
    lazy.sum(dtype="f8").compute(scheduler="threads", num_workers=torch.get_num_threads())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"what": name, "seconds": seconds, "throughput": passes * size / seconds, "peak": peak}


def main() -> None:
    """Parse the command line, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--d", type=int, default=10**8)
    parser.add_argument("--chunk", type=int, default=122 * 8192)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    X = generated(options.d, options.chunk)
    size = N * options.d * 4
    rows = [measure("generate", X, 1, size)]
    for passes, rule in ((1, CoordinateWiseMedian()), (2, MultiKrum(f=4, q=8))):
        rows.append(measure(rule.name, rule.aggregate(X), passes, size))
    for row in rows:
        share = row["throughput"] / rows[0]["throughput"]
        print(
            f"{row['what']}: {row['seconds']:.1f} s, {row['throughput'] / 1e6:.0f} MB/s "
            f"({share:.2f} of generating), peak {row['peak'] / 2**30:.2f} GiB"
        )
    if options.json:
        options.json.write_text(json.dumps({"d": options.d, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
