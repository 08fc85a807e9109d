"""A graph in files, as a worker is told to load it."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import onnx

__all__ = ["GraphPlan", "PlannedGraph"]

_GRAPH: Final = "graph"
_FOLDER: Final = "external_folder"


@dataclass(frozen=True, slots=True)
class PlannedGraph:
    """What a plan says.

    Attributes:
        graph: The file of the graph.
        folder: Where its external weights lie; None where that is beside it.
    """

    graph: Path
    folder: Path | None

    @classmethod
    def read(cls, plan: Path) -> PlannedGraph:
        """Read what `GraphPlan` wrote."""
        found = json.loads(plan.read_text(encoding="utf-8"))
        folder = found[_FOLDER]
        return cls(Path(found[_GRAPH]), None if folder is None else Path(folder))


class GraphPlan:
    """A plan in a folder of its own, which is removed with this object.

    Args:
        source: The graph, or an unchanged file.
        folder: Where the graph's weights lie that are not in memory.

    Raises:
        EncodeError: The graph is too large for a file.
    """

    def __init__(self, source: onnx.ModelProto | Path, *, folder: Path | None) -> None:
        from anysize.surgery.storage import attached

        temporary = tempfile.mkdtemp(prefix="anysize-reference-")
        self.close = weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        self.path = Path(temporary) / "plan.json"
        graph: Path = self.path.with_name("graph.onnx")
        try:
            if isinstance(source, Path):
                graph, folder = source.absolute(), None
            else:
                folder = (folder or Path()).absolute()
                graph.write_bytes(attached(source, folder).SerializeToString())
            content = {_GRAPH: str(graph), _FOLDER: None if folder is None else str(folder)}
            self.path.write_text(json.dumps(content), encoding="utf-8")
        except BaseException:
            self.close()
            raise
