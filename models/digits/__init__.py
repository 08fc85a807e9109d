"""The trained digits classifier: its scans, its training, its weights and the demo's page."""

from __future__ import annotations
