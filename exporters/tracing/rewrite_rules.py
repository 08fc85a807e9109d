"""Try each of onnxscript's rules at the operators that it is for.

The optimiser of torch.onnx tries all of its 46 rules at every node, and one of them lists the whole
graph each time: two thirds of the optimiser's time (onnxscript 0.7).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
from onnxscript import rewriter

__all__ = ["rules_where_they_fit"]

_RULES = "_DEFAULT_REWRITE_RULES"


class _WhereItFits:
    """A rule that is not tried at other operators than the one its pattern ends in."""

    def __init__(self, rule: Any, operator: ir.OperatorIdentifier) -> None:
        self._rule = rule
        self._operator = operator

    def try_rewrite(self, model: ir.Model, graph: Any, node: ir.Node, **options: Any) -> Any:
        """Return what the rule puts in place of the node; None where there is nothing."""
        if node.op_identifier() != self._operator:
            return None
        return self._rule.try_rewrite(model, graph, node, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rule, name)


@functools.cache
def _rules() -> tuple[Any, ...]:
    """Wrap the rules whose operator is known; where a version has no such list, there are none."""
    return tuple(map(_wrapped, getattr(rewriter, _RULES, ())))


def _wrapped(rule: Any) -> Any:
    try:
        operator = rule._target_pattern.output_nodes[0].op_identifier()  # noqa: SLF001
    except (AttributeError, IndexError):
        operator = None
    return rule if operator is None else _WhereItFits(rule, operator)


@contextlib.contextmanager
def rules_where_they_fit() -> Iterator[None]:
    """While active, the optimiser takes these for its own; its list is internal to onnxscript."""
    rules = _rules()
    own = getattr(rewriter, _RULES, ())
    if rules:
        setattr(rewriter, _RULES, rules)
    try:
        yield
    finally:
        if rules:
            setattr(rewriter, _RULES, own)
