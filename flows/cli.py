"""The console script `adcore`: the commands of `python -m flows.NAME` under one name, and what a plan may name."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from flows import _stopping

if TYPE_CHECKING:
    import pandas as pd

    from adcore.core.columns import Column

COMMANDS = {
    "run": ("benchmark", "Compute every cell of a plan that is not there yet, and write leaderboard and report."),
    "prepare": ("prepare", "Put datasets in place, read every file, and validate them."),
    "validate": ("validate", "Prepare, and write the validation pages."),
    "leaderboard": ("leaderboard", "Write leaderboard and report of the cells that are there."),
    "reproduce": ("reproduce", "Make a table of a paper again, beside the printed numbers."),
    "efficiency": ("efficiency", "Count parameters and multiply-accumulates, and time methods, without a fit."),
    "predict": ("predict", "Apply a finished cell to images: verdicts, maps and pictures."),
    "watch": ("watch", "Watch a folder, and apply a finished cell to each image that appears in it."),
    "export": ("bundle", "Write a finished cell as a folder of ONNX that tells images without adcore."),
    "slurm": ("slurm", "Print, or submit, an array of jobs for SLURM: one for each group of cells that is missing."),
    "serve": ("serve", "Serve the Prefect deployments of a checkout until Ctrl-C."),
    "ui": ("ui", "Serve MLflow's pages of a workspace until Ctrl-C."),
}
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

main = typer.Typer(name="adcore", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _command(name: str, module: str) -> Callable[[typer.Context], None]:
    def command(context: typer.Context) -> None:
        sys.argv = [f"adcore {name}", *context.args]
        _stopping.listen()
        runpy.run_module(f"flows.{module}", run_name="__main__", alter_sys=False)

    return command


for _name, (_module, _help) in COMMANDS.items():
    main.command(_name, context_settings=PASSED_ON, help=_help)(_command(_name, _module))


@main.command("list", help="Names that a plan may use, and the papers' tables, one a line with what it is.")
def show(
    what: str = typer.Argument(help="methods, enhancers, datasets, metrics, columns, protocols or tables"),
) -> None:
    """Exits with code 2 for anything else."""
    from adcore.core.plan import PlanError, nearest

    if what not in LISTS:
        typer.echo(f"error: there is no list of '{what}'{nearest(what, LISTS)}; known: {', '.join(LISTS)}", err=True)
        raise typer.Exit(2)
    try:
        lines = LISTS[what]()
    except PlanError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    width = max(map(len, lines))
    for name, meaning in lines.items():
        typer.echo(f"{name:{width}}  {meaning}")


def _plugins(group: str) -> dict[str, str]:
    from adcore.engine import registry

    find: dict[str, Callable[[str], type]] = {
        "methods": registry.method,
        "enhancers": registry.enhancer,
        "datasets": registry.dataset,
        "protocols": registry.protocol,
    }
    return {name: _first_sentence(find[group](name)) for name in sorted(registry.modules(group))}


def _metrics() -> dict[str, str]:
    from adcore.engine import registry

    return {name: _column(metric.column) for name, metric in registry.metrics().items()}


def _columns() -> dict[str, str]:
    from adcore.engine import registry

    return {name: _column(column) for name, column in registry.columns().items()}


def _column(column: Column) -> str:
    title = "" if column.title == column.name else f"{column.title}: "
    return title + column.meaning


def _tables() -> dict[str, str]:
    from adcore.papers import published

    return {stem: _printed(published.table(stem)) for stem in published.stems()}


def _printed(rows: pd.DataFrame) -> str:
    datasets = [name for name in rows["dataset"].unique() if name != "-"]
    return f"{len(rows)} printed numbers{': ' if datasets else ''}{', '.join(datasets)}"


def _first_sentence(thing: object) -> str:
    paragraph = (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")
    return paragraph.partition(". ")[0].removesuffix(".")


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "methods": lambda: _plugins("methods"),
    "enhancers": lambda: _plugins("enhancers"),
    "datasets": lambda: _plugins("datasets"),
    "metrics": _metrics,
    "columns": _columns,
    "protocols": lambda: _plugins("protocols"),
    "tables": _tables,
}
