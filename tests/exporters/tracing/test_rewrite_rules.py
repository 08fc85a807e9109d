"""The optimiser does the same where each of its rules is tried at its own operator alone."""

from __future__ import annotations

import contextlib
import importlib

import onnx_ir as ir
import pytest
import torch
from onnxscript import rewriter
from torch import nn

from anysize.exporters.tracing import rewrite_rules
from anysize.exporters.tracing.rewrite_rules import rules_where_they_fit
from anysize.exporters.tracing.trace import trace
from anysize.sizes import Size


class Mixed(nn.Module):
    """Gives rules of many kinds something to do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().clamp(0, 6).clamp(1, 5) * 1 + 0
        left, right = x[:, :4], x[:, 4:]
        x = torch.cat([right.transpose(2, 3).transpose(3, 2), left.double().float()], 1)
        x = x.flatten(2).reshape(x.shape[0], 8, -1)[:, :, :20].unsqueeze(3).unsqueeze(4)
        return self.linear(x.expand(-1, -1, -1, 1, 1).mean((2, 3, 4)))


@pytest.fixture
def counted(monkeypatch):
    """Count how often rules are tried."""
    tried = []
    rule = rewriter.RewriteRule
    own = rule.try_rewrite

    def try_rewrite(self, *args, **options):
        found = own(self, *args, **options)
        tried.append(found is not None)
        return found

    monkeypatch.setattr(rule, "try_rewrite", try_rewrite)
    return tried


def test_the_graph_is_the_same_and_rules_are_tried_less(counted, monkeypatch):
    torch.manual_seed(0)
    module = Mixed().eval()
    options = {"batch": 2, "channels": 3, "opset": 18, "output_names": ["y"]}
    fast = trace(module, Size(16, 20), **options).model
    few = [*counted]
    counted.clear()
    ranges = importlib.import_module("anysize.exporters.tracing.ranges")
    monkeypatch.setattr(ranges, "rules_where_they_fit", contextlib.nullcontext)
    slow = trace(module, Size(16, 20), **options).model
    assert ir.to_proto(fast) == ir.to_proto(slow)
    assert sum(few) == sum(counted) >= 5
    assert len(few) * 5 < len(counted)


NEARLY = {
    "a small number is added": lambda x: x + 1e-8,
    "a small number is taken away": lambda x: x - 1e-9,
    "by nearly one": lambda x: x * 1.000001,
    "divided by nearly one": lambda x: x / 0.999999,
}
EXACTLY = {
    "nothing is added": lambda x: x + 0.0,
    "nothing is taken away": lambda x: x - 0,
    "by one": lambda x: x * 1,
    "divided by one": lambda x: x / 1.0,
}


@pytest.mark.parametrize(
    ("compute", "count"),
    [*((c, 2) for c in NEARLY.values()), *((c, 1) for c in EXACTLY.values())],
    ids=[*NEARLY, *EXACTLY],
)
def test_a_number_that_is_nearly_nothing_stays(compute, count):
    class Computed(nn.Module):
        def forward(self, x):
            return compute(x).relu()

    traced = trace(Computed(), Size(8, 8), batch=2, channels=3, opset=18, output_names=["y"])
    assert len([*traced.model.graph]) == count


def test_the_list_is_put_back_and_no_list_is_none(monkeypatch):
    own = rewriter._DEFAULT_REWRITE_RULES
    with pytest.raises(KeyError), rules_where_they_fit():
        assert rewriter._DEFAULT_REWRITE_RULES is not own
        raise KeyError
    assert rewriter._DEFAULT_REWRITE_RULES is own
    monkeypatch.delattr(rewriter, "_DEFAULT_REWRITE_RULES")
    rewrite_rules._rules.cache_clear()
    with rules_where_they_fit():
        assert not hasattr(rewriter, "_DEFAULT_REWRITE_RULES")
    rewrite_rules._rules.cache_clear()


def test_a_rule_whose_pattern_is_not_known_is_tried_everywhere():
    rule = object()
    assert rewrite_rules._wrapped(rule) is rule
