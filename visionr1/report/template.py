"""Pages from templates: one file that loads nothing from elsewhere, in which no text of a model or of data becomes markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


def rendered(template: str, filters: Mapping[str, Callable[..., Any]], /, **values: object) -> str:
    """The page of a template in this folder, which gets `values`, `filters` and the common `style`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionr1.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    style = Markup((resources.files("visionr1.report") / "style.css").read_text())
    return environment.get_template(template).render(style=style, **values)
