"""Export every architecture at its own size, and compare the file with the module on runtimes.

    python benchmarks/architectures_parity.py [NAME …] [--runtimes ort-cpu,…] [--small]

writes `results/architectures.md`. Sizes are those of `auto`.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections import Counter
from pathlib import Path

from architectures.table import ARCHITECTURES, Architecture

import anysize
from anysize.validators import Cell

_RESULT = Path(__file__).parent / "results" / "architectures.md"


def _row(architecture: Architecture, runtimes: list[str], *, is_small: bool) -> str:
    network = architecture.build(is_small=is_small)
    size = architecture.small_size if is_small else architecture.size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        result = anysize.export(network, path, size=size, verify=False)
        report = anysize.validate(path, network, runtimes=runtimes, batches=(1,))
    outcomes = [
        _outcome([cell for cell in report.cells if cell.runtime == name]) for name in runtimes
    ]
    return f"| {architecture.name} | {size} | {result.sizes} | {' | '.join(outcomes)} |"


def _outcome(cells: list[Cell]) -> str:
    counts = Counter(str(cell.verdict) for cell in cells)
    ratios = [cell.worst.deviation.ratio for cell in cells if cell.worst is not None]
    text = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return f"{text}; {max(ratios):.2g} ×" if ratios else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all of them by default")
    parser.add_argument("--runtimes", default="ort-cpu,onnx-reference,openvino")
    parser.add_argument("--small", action="store_true", help="narrow and short ones")
    parser.add_argument("-o", "--output", type=Path, default=_RESULT)
    options = parser.parse_args()
    runtimes = options.runtimes.split(",")
    rows = []
    for architecture in ARCHITECTURES:
        if not options.names or architecture.name in options.names:
            rows.append(_row(architecture, runtimes, is_small=options.small))
            print(rows[-1], flush=True)
            _write(options.output, runtimes, rows)  # an interrupted run leaves what it measured


def _write(path: Path, runtimes: list[str], rows: list[str]) -> None:
    lines = [
        "# Architectures on runtimes",
        "",
        (
            "`python benchmarks/architectures_parity.py`: each exported as it stands, with dynamic "
            "axes, and compared with the eager module in float64 at the sizes of `auto`. Verdicts, "
            "and the largest error as a multiple of the budget, which 1 × would use up."
        ),
        "",
        f"| architecture | trained at | takes | {' | '.join(runtimes)} |",
        f"|---|---|---|{'---|' * len(runtimes)}",
        *rows,
        "",
        f"{platform.machine()}, Python {platform.python_version()}, anysize {anysize.__version__}.",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
