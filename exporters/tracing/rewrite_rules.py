"""Try each of onnxscript's rules where it fits: at the operators that it is for, with its numbers.

The optimiser of torch.onnx tries all of its 46 rules at every node, and one of them lists the whole
graph each time: two thirds of the optimiser's time. It takes 1e-8 for 0, too, and 1.00001 for 1, so
that an epsilon that keeps a division from 0 / 0 is gone from the file (onnxscript 0.7).
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
    """A rule that is not tried at other operators than the one its pattern ends in.

    Args:
        rule: One of onnxscript's.
        operator: That operator.
        numbers: Of which it has to be given one, such as the 0 of an addition; none where empty.
    """

    def __init__(
        self, rule: Any, operator: ir.OperatorIdentifier, numbers: frozenset[float]
    ) -> None:
        self._rule = rule
        self._operator = operator
        self._numbers = numbers

    def try_rewrite(self, model: ir.Model, graph: Any, node: ir.Node, **options: Any) -> Any:
        """Return what the rule puts in place of the node; None where there is nothing."""
        if node.op_identifier() != self._operator:
            return None
        if self._numbers and self._numbers.isdisjoint(_scalars(node)):
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
        last = rule._target_pattern.output_nodes[0]  # noqa: SLF001
        operator, given = last.op_identifier(), last.inputs
    except (AttributeError, IndexError):
        operator, given = None, ()
    numbers = (getattr(value, "value", None) for value in given)
    exact = frozenset(float(number) for number in numbers if isinstance(number, (int, float)))
    return rule if operator is None else _WhereItFits(rule, operator, exact)


def _scalars(node: ir.Node) -> Iterator[float]:
    tensors = map(ir.convenience.get_const_tensor, filter(None, node.inputs))
    found = (t.numpy().item() for t in tensors if t is not None and t.size == 1)
    yield from (float(number) for number in found if isinstance(number, (int, float)))


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
