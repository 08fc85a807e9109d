"""`anysize runtimes`."""

from __future__ import annotations

import dataclasses
import json as json_format

from anysize.cli.console import result, results_console
from anysize.cli.options import JsonFlag

__all__ = ["runtimes"]


def runtimes(json: JsonFlag = False) -> None:
    """List the runtimes that a graph can be validated on, and what those missing need."""
    from anysize.validators.runtimes import list_runtimes

    known = list_runtimes()
    if json:
        entries = [dataclasses.asdict(runtime) for runtime in known]
        result(json_format.dumps(entries, indent=2, sort_keys=True))
        return
    from rich.table import Column, Table
    from rich.text import Text

    name, command = Column("runtime", no_wrap=True), Column("install it with", no_wrap=True)
    table = Table(name, "what it is", "device", "version", "runs here", command)
    for runtime in known:
        here = "yes" if runtime.is_available else f"no: {runtime.reason}"
        row = (runtime.name, runtime.text, runtime.device, runtime.version, here, runtime.install)
        # Text, since rich reads the extra in 'anysize[openvino]' as markup.
        table.add_row(*(Text(cell) for cell in row))
    results_console().print(table)
