"""What is known of each head by its name: the one table that everything asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from anysize.errors import UsageError

__all__ = [
    "AS_IS",
    "FC",
    "GAP",
    "HEAD_KINDS",
    "HeadKind",
    "Output",
    "check_output",
    "head_kind",
]

# What a file hands out: the class map, its mean, or both, the mean first.
Output: TypeAlias = Literal["map", "logits", "both"]
OUTPUTS: Final[tuple[str, ...]] = get_args(Output)

FC, GAP, AS_IS = "fc", "gap", "as-is"


@dataclass(frozen=True, slots=True)
class HeadKind:
    """The facts about one head.

    Attributes:
        checkpoint: The head whose trained weights fit it, its own name where it must be trained;
            None where nothing is built under this name.
        elsewhere: What it does with an image of another size than the trained one: `refuses` it,
            looks at it in `windows`, `pools` its feature map, `resizes` it, or what the layers
            do, which the name does not tell.
        inputs: Names of what the module takes.
        outputs: Names of what it hands out; a `map` is `(batch, classes, map_height, map_width)`.
        averages_map: It averages the whole map, whatever its size.
        target: What `rewrite --to` calls it; None where no rewrite leads to it.
        converts_modules: `export --head` converts a module of the user's to it.
        is_on_each_fc_head: A rewrite to it works on FC heads, of which a graph may have several.
        is_convertible: A file that records it can be rewritten to another head.
        is_proved_below: A rewrite to it is proved below the trained size, too.
    """

    checkpoint: str | None = None
    elsewhere: Literal["refuses", "windows", "pools", "resizes", ""] = ""
    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("logits",)
    averages_map: bool = False
    target: str | None = None
    converts_modules: bool = False
    is_on_each_fc_head: bool = False
    is_convertible: bool = False
    is_proved_below: bool = False

    @property
    def fixes_size(self) -> bool:
        """Whether it takes only the image sizes that yield the trained map."""
        return self.elsewhere == "refuses"

    @property
    def takes_any_size(self) -> bool:
        """Whether its name alone says that it takes any size."""
        return self.elsewhere not in ("refuses", "")

    @property
    def has_map(self) -> bool:
        """Whether it answers with a class map."""
        return "map" in self.outputs

    @property
    def output(self) -> Output:
        """What it hands out where nothing else is asked for."""
        if self.has_map:
            return "both" if "logits" in self.outputs else "map"
        return "logits"

    @property
    def is_fully_convolutional(self) -> bool:
        """Whether it is FC layers as convolutions, which answers with nothing but a map."""
        return self.has_map and self.reads_trained_map

    @property
    def reads_trained_map(self) -> bool:
        """Whether its layers need the map of the trained size, as FC layers do."""
        return self.checkpoint == FC

    @property
    def is_converted(self) -> bool:
        """Whether a rewrite puts it in the place of another head."""
        return self.target is not None and self.takes_any_size


HEAD_KINDS: Mapping[str, HeadKind] = MappingProxyType(
    {
        FC: HeadKind(FC, "refuses", is_convertible=True),
        "fcn": HeadKind(
            FC,
            "windows",
            outputs=("map",),
            target="fcn",
            converts_modules=True,
            is_on_each_fc_head=True,
        ),
        GAP: HeadKind("gap", "pools", averages_map=True, target="gap", is_convertible=True),
        "cam": HeadKind(
            "gap",
            "windows",
            outputs=("logits", "map"),
            averages_map=True,
            target="cam",
            converts_modules=True,
        ),
        "spp": HeadKind("spp", "pools"),
        "roi": HeadKind(FC, "pools", inputs=("input", "rois")),
        "adaptive": HeadKind(
            FC,
            "pools",
            target="adaptive",
            converts_modules=True,
            is_on_each_fc_head=True,
            is_proved_below=True,
        ),
        "resize": HeadKind(
            FC, "resizes", target="resize", converts_modules=True, is_proved_below=True
        ),
        AS_IS: HeadKind(target="dynamic", is_convertible=True),
    }
)

# A file that records no head may have any.
_UNSAID = HeadKind(is_on_each_fc_head=True, is_convertible=True)
# A head from a later version, say: whoever wrote it meant a file of ours, for any size.
_UNKNOWN = HeadKind(elsewhere="pools")


def head_kind(recorded: str | None) -> HeadKind:
    """Return the facts about a head as a file records it; None is for a file that says nothing."""
    return _UNSAID if recorded is None else HEAD_KINDS.get(recorded, _UNKNOWN)


def check_output(output: str) -> None:
    """Refuse what is no kind of output.

    Raises:
        UsageError: It is none; perhaps it is the file to write.
    """
    if output not in OUTPUTS:
        raise UsageError(
            f"--output {output!r}: expected {', '.join(OUTPUTS)}, what the file hands out; the "
            "file to write is given with -o FILE"
        )
