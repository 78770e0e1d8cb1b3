"""The command line: `byzflow …`, and the same commands as `dask byzflow …`; the work is done elsewhere.

``dask`` loads this module on every call, so heavy imports stay inside the commands.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from byzflow import __version__
from byzflow.exceptions import ByzflowError

__all__ = ("build_parser", "cli", "doctor", "list_rules", "main", "run", "version")

_FORMAT = click.option("--format", "style", type=click.Choice(["human", "json"]), default="human")


class _Group(click.Group):
    """A group whose commands report the errors a user can act on in one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ByzflowError, ConnectionError, TimeoutError) as error:
            raise click.ClickException(str(error)) from error


@click.group(name="byzflow", cls=_Group)
def cli() -> None:
    """Byzantine-robust distributed learning on Dask."""


@cli.command()
def version() -> None:
    """Print the version of byzflow."""
    click.echo(__version__)


@cli.command()
@_FORMAT
def doctor(style: str) -> None:
    """Say what this machine has: Python, Dask, torch, CUDA, CuPy, UCX."""
    report = _doctor()
    if style == "json":
        click.echo(json.dumps(report, indent=2))
        return
    for name, value in report.items():
        if isinstance(value, dict):
            state = "available" if value["available"] else "not available"
            details = ", ".join(f"{key} {part}" for key, part in value.items() if key != "available")
            click.echo(f"{name:15} {state}{f' ({details})' if details else ''}")
        else:
            click.echo(f"{name:15} {value}")


@cli.command("list")
@click.argument("component", type=click.Choice(["aggregators", "attacks", "pre-aggregators"]))
@_FORMAT
def list_rules(component: str, style: str) -> None:
    """List the rules of one kind by the dotted paths of their classes."""
    from byzflow.experiments.registry import dotted, registry

    items = [dotted(rule) for rule in registry(component)]
    if style == "json":
        click.echo(json.dumps({"component": component, "items": items}, indent=2))
    else:
        click.echo("\n".join(items))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use the cluster of this Dask scheduler (tcp://host:port)."
)
@click.option("--workers", type=int, help="Workers of the embedded cluster.")
@click.option(
    "--backend", type=click.Choice(["process", "thread"]), help="Kind of the embedded cluster's workers."
)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the file; repeatable."
)
def run(
    file: Path,
    scheduler: str | None,
    workers: int | None,
    backend: str | None,
    results: Path,
    overrides: tuple[str, ...],
) -> None:
    """Run the experiment of a TOML file: without the attack, and under it with a mean and a robust rule."""
    from byzflow.experiments.console import run_and_report
    from byzflow.experiments.load import load

    given = {"scheduler": scheduler, "workers": workers, "backend": backend}
    cluster = [f"cluster.{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    run_and_report(load(file, (*overrides, *cluster)), results)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; arguments that cannot be read end the program.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` when not given.

    Raises
    ------
    SystemExit
        With status 2, after a line that says why, if there is no such command, option or value.

    Examples
    --------
    >>> main(["version"])
    0.1.0
    0
    """
    try:
        status = cli.main(
            args=None if argv is None else list(argv), prog_name="byzflow", standalone_mode=False
        )
    except click.UsageError as error:  # like argparse: programs that call this expect its exit
        error.show()
        raise SystemExit(error.exit_code) from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return 130
    return status if isinstance(status, int) else 0


def build_parser() -> argparse.ArgumentParser:
    """Return the commands and options of `cli` as an argparse parser, for programs that extend or query one.

    What it parses has ``command``, the options by their long names, and ``func``, which runs the command on
    it and returns the exit status.

    Examples
    --------
    >>> arguments = build_parser().parse_args(["list", "attacks", "--format", "json"])
    >>> arguments.command, arguments.component, arguments.format
    ('list', 'attacks', 'json')
    >>> arguments = build_parser().parse_args(["version"])
    >>> arguments.func(arguments)
    0.1.0
    0
    """
    parser = argparse.ArgumentParser(prog=cli.name, description=cli.help)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in cli.commands.items():
        of_command = commands.add_parser(name, help=command.help, description=command.help)
        for parameter in command.params:
            of_command.add_argument(_flag(parameter), **_argparse_options(parameter))
        of_command.set_defaults(func=_run_parsed)
    return parser


def _run_parsed(arguments: argparse.Namespace) -> int:
    words = [arguments.command]
    for parameter in cli.commands[arguments.command].params:
        flag = _flag(parameter)
        value = getattr(arguments, flag.lstrip("-").replace("-", "_"))
        values = value if isinstance(value, list) else [] if value is None else [value]
        for one in values:
            words += [flag, str(one)] if isinstance(parameter, click.Option) else [str(one)]
    return main(words)


def _flag(parameter: click.Parameter) -> str:
    return parameter.opts[0] if isinstance(parameter, click.Option) else str(parameter.name)


def _argparse_options(parameter: click.Parameter) -> dict[str, Any]:
    """Return what `ArgumentParser.add_argument` has to know of a parameter of click's."""
    kind, options = parameter.type, {"help": getattr(parameter, "help", None)}
    if isinstance(kind, click.Choice):
        options["choices"] = list(kind.choices)
    elif isinstance(kind, click.Path):
        options["type"] = Path
    elif kind is click.INT:
        options["type"] = int
    if isinstance(parameter, click.Option):
        options["metavar"] = parameter.metavar
        options["action"] = "append" if parameter.multiple else "store"
        options["default"] = [] if parameter.multiple else parameter.to_info_dict()["default"]
    return options


def _doctor() -> dict[str, Any]:
    import torch

    return {
        "byzflow": __version__,
        "python_version": platform.python_version(),
        "platform": platform.platform(),
        "dask": _package("dask"),
        "distributed": _package("distributed"),
        "torch": _package("torch"),
        "cuda": {"available": torch.cuda.is_available(), "devices": torch.cuda.device_count()},
        "cupy": _package("cupy"),
        "ucx": _package("distributed_ucxx"),
    }


def _package(module: str) -> dict[str, Any]:
    if importlib.util.find_spec(module) is None:
        return {"available": False}
    names = importlib.metadata.packages_distributions().get(module, [])
    return {"available": True, **({"version": importlib.metadata.version(names[0])} if names else {})}


if __name__ == "__main__":
    sys.exit(main())
