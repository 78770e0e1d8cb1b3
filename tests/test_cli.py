"""The command line: what it prints, and that a mistake is one line and a status, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from byzflow import __version__
from byzflow.cli import build_parser, main
from byzflow.experiments.config import ClusterConfig

ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "digits_ps.toml")
SHORT = ["--set", "training.rounds=4", "--set", "training.evaluate_every=2"]


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_the_package_runs_as_a_module() -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "byzflow", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    assert (run("version").returncode, run("version").stdout.strip()) == (0, __version__)
    refused = run("versoin")
    assert refused.returncode != 0
    assert "byzflow" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_doctor_reports_availability_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"python_version", "platform", "torch", "cupy", "ucx"} <= set(report)
    assert report["torch"]["available"] is True
    assert all(isinstance(report[name]["available"], bool) for name in ("torch", "cupy", "ucx"))


def test_doctor_speaks_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "torch           available" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("component", "path"),
    [
        ("aggregators", "byzflow.aggregators.coordinate_wise.median.CoordinateWiseMedian"),
        ("attacks", "byzflow.attacks.empire.EmpireAttack"),
        ("pre-aggregators", "byzflow.pre_aggregators.nnm.NearestNeighborMixing"),
    ],
)
def test_list_gives_sorted_dotted_paths(
    component: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", component]) == 0
    lines = capsys.readouterr().out.split()
    assert path in lines
    assert lines == sorted(set(lines))
    assert main(["list", component, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"component": component, "items": lines}


@pytest.mark.parametrize(
    "argv", [["list", "flavours"], ["frobnicate"], ["doctor", "--format", "xml"], ["run"]]
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["version"], {}),
        (["doctor"], {"format": "human"}),
        (["list", "attacks", "--format", "json"], {"component": "attacks", "format": "json"}),
        (["run", "x.toml", "--set", "a=1", "--set", "b=2"], {"file": Path("x.toml"), "set": ["a=1", "b=2"]}),
        (["run", "x.toml"], {"set": [], "scheduler": None, "workers": None, "results": Path("results")}),
    ],
)
def test_the_argparse_parser_knows_the_same_commands(argv: list[str], expected: dict[str, Any]) -> None:
    arguments = vars(build_parser().parse_args(argv))
    assert {"command": argv[0], **expected}.items() <= arguments.items()


@pytest.mark.parametrize(
    "argv", [[], ["list"], ["list", "flavours"], ["frobnicate"], ["version", "--format"]]
)
def test_the_argparse_parser_exits_with_2_for_wrong_usage(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        build_parser().parse_args(argv)
    assert exit.value.code == 2


def test_what_the_argparse_parser_gives_runs_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["list", "aggregators", "--format", "json"],
        ["run", EXAMPLE, "--set", "lr=x", "--set", "a=1"],
    ):
        arguments = build_parser().parse_args(argv)
        status = arguments.func(arguments)
        printed = capsys.readouterr()
        assert main(argv) == status
        assert capsys.readouterr() == printed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["aggregator.name=MultiKrun"], "Did you mean 'MultiKrum'"),
        (["trainig.lr=1"], "Did you mean 'training'"),
        (["aggregator.f=7"], "10 honest nodes of 13"),
    ],
)
def test_a_wrong_experiment_is_one_line_and_status_1(
    changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", EXAMPLE, *(part for change in changes for part in ("--set", change))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert words in error
    assert "Traceback" not in error


@pytest.mark.parametrize("is_link", [False, True])
def test_a_folder_that_cannot_be_made_is_named_before_anything_runs(
    is_link: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "taken"
    place.symlink_to(tmp_path / "nowhere") if is_link else place.write_text("a file")
    assert main(["run", EXAMPLE, "--backend", "thread", "--results", str(place), *SHORT]) == 1
    printed = capsys.readouterr()
    assert "Results need a folder" in printed.err
    assert str(place) in printed.err
    assert not printed.out


def test_a_run_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    fails = [*SHORT, "--set", "nodes.honest=2000"]
    assert main(["run", EXAMPLE, "--backend", "thread", "--results", str(tmp_path), *fails]) == 1
    assert not list(tmp_path.iterdir())


def test_an_unreachable_scheduler_is_told_without_a_traceback(tmp_path: Path) -> None:
    place = ["--scheduler", "tcp://127.0.0.1:9", "--set", "cluster.connect_timeout=1"]
    place += ["--results", str(tmp_path)]
    command = [sys.executable, "-m", "byzflow.cli", "run", EXAMPLE, *place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert "tcp://127.0.0.1:9" in done.stderr
    assert "dask scheduler" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_scheduler_is_looked_for_less_than_ten_seconds_by_default() -> None:
    assert ClusterConfig().connect_timeout <= 5


def test_a_run_on_threads_writes_its_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", EXAMPLE, "--backend", "thread", "--results", str(tmp_path), *SHORT]) == 0
    (folder,) = tmp_path.iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["cells"]) == ["clean", "mean", "robust"]
    assert all(cell["rounds"] == 4 for cell in summary["cells"].values())
    printed = capsys.readouterr().out
    assert printed.startswith("Dask cluster with 1 worker, dashboard: http://")
    assert "\nnodes: honest + Byzantine;" in printed
    assert str(folder) in printed.replace("\n", "")


def test_a_node_left_out_once_missed_one_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = ["--set", "training.rounds=1", "--set", "attack.name=InfAttack", "--results", str(tmp_path)]
    assert main(["run", EXAMPLE, "--backend", "thread", *once]) == 0
    assert "byzantine-0 (1 round)" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def hand_started_cluster() -> Iterator[str]:
    """A scheduler and two workers as a user starts them, each a process of its own."""
    with ExitStack() as stack:

        def start(*words: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "dask", *words]
            process = stack.enter_context(
                subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            )
            stack.callback(process.kill)
            return process

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        assert scheduler.stderr is not None
        address = next(line.split()[-1] for line in scheduler.stderr if "Scheduler at:" in line)
        for _ in range(2):
            start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        with Client(address) as client:
            client.wait_for_workers(2, timeout=120)
        yield address


@pytest.mark.processes
def test_a_run_uses_the_cluster_that_the_user_brings(hand_started_cluster: str, tmp_path: Path) -> None:
    assert (
        main(["run", EXAMPLE, "--scheduler", hand_started_cluster, "--results", str(tmp_path), *SHORT]) == 0
    )
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "config.json").read_text())["cluster"]["scheduler"] == hand_started_cluster
