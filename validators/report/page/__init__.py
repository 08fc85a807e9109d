"""The HTML page: one file, no script, nothing from the network."""

from __future__ import annotations

from anysize.validators.report.page.render import rendered, require_jinja, to_html

__all__ = ["rendered", "require_jinja", "to_html"]
