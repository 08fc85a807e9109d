"""`anysize runtimes`."""

from __future__ import annotations

from typing import Annotated

import typer

from anysize.as_json import as_json
from anysize.cli.console import note, result, results_console
from anysize.cli.options import JsonFlag

__all__ = ["runtimes"]

_SetUp = Annotated[
    str | None,
    typer.Option(metavar="RUNTIME", help="Install what it needs from npm's registry first."),
]


def runtimes(json: JsonFlag = False, setup: _SetUp = None) -> None:
    """List the runtimes that a graph can be validated on, and what those missing need."""
    from anysize.verbs.runtimes import runtimes as run

    if setup is not None:
        from anysize.validators.worker import set_up_runtime

        note(f"{setup}: installed in {set_up_runtime(setup)}")

    known = run()
    for warning in dict.fromkeys(runtime.warning for runtime in known if runtime.warning):
        note(warning)
    if json:
        result(as_json(known))
        return
    from rich.table import Table
    from rich.text import Text

    console = results_console()
    table = Table("runtime", "what it is", "device", "version")
    for runtime in known:
        version = runtime.version if runtime.is_available else Text("does not run here", "yellow")
        # Text, since rich reads the extra in 'anysize[openvino]' as markup.
        table.add_row(Text(runtime.name), Text(runtime.text), Text(runtime.device), version)
    console.print(table)
    for runtime in known:
        if not runtime.is_available:
            line = f"{runtime.name}: {runtime.reason}; install it with: {runtime.install}"
            console.print(Text(line), soft_wrap=True)
