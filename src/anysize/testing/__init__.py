"""Parity with the original as an assertion, for a test suite of your own.

>>> from anysize.testing import assert_parity
>>> assert_parity("digits", "digits.onnx", sizes="32x32,40x52")  # doctest: +SKIP
"""

from __future__ import annotations

from anysize.testing.parity import assert_parity, parity_story

__all__ = ["assert_parity", "parity_story"]
