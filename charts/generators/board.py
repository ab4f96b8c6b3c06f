"""What a dashboard is, read from `dashboards/`: one YAML file for each, named by the dashboard's uid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from generators.source import NAME, Part, checked, read
from visionr1.errors import BadInput

SOURCES: Final = Path(__file__).parent / "dashboards"
WIDTH: Final = 24
"""Columns of a dashboard."""

Kind = Literal["timeseries", "stacked", "stat", "gauge", "heatmap", "states"]
Unit = Literal["short", "percent", "percentunit", "s", "bytes", "decmbytes", "watt", "reqps", "ops", "sci"]
"""Those of Grafana's units that we use. Grafana shows an unknown one as a suffix."""


class Query(Part):
    """One PromQL expression and how its series are called. `@name@` in the expression is one of the dashboard's selectors."""

    expr: str
    legend: str


class Panel(Part):
    """`description` says what good and bad look like. `width` is in columns of 24."""

    title: str
    kind: Kind = "timeseries"
    unit: Unit
    width: Annotated[int, Field(ge=1, le=WIDTH)] = 8
    description: str
    queries: Annotated[list[Query], Field(min_length=1)]


class Row(Part):
    """A heading and the panels under it, from left to right."""

    title: str
    panels: Annotated[list[Panel], Field(min_length=1)]


class Source(Part):
    """A file of `dashboards/`. `selectors` are label matchers by name."""

    title: str
    description: str
    selectors: dict[str, str]
    rows: Annotated[list[Row], Field(min_length=1)]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard with whole expressions. `uid` is in its address and names its file."""

    uid: str
    title: str
    description: str
    rows: list[Row]

    @property
    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def load_dashboards(folder: Path = SOURCES) -> list[Dashboard]:
    """All dashboards by uid, with selectors in the place of their names. Raises BadInput for a mistake in a file."""
    return [_load(path) for path in sorted(folder.glob("*.yaml"))]


def _load(path: Path) -> Dashboard:
    source = checked(Source, read(path), path.name)
    queries = [query for row in source.rows for panel in row.panels for query in panel.queries]
    used = {name for query in queries for name in NAME.findall(query.expr)}
    if unknown := sorted(used - set(source.selectors)):
        raise BadInput(f"{path.name}: no selector is called {', '.join(unknown)}; there are {', '.join(source.selectors)}")
    if unused := sorted(set(source.selectors) - used):
        raise BadInput(f"{path.name}: no query uses the selector {', '.join(unused)}; remove it")
    rows = [Row(title=row.title, panels=[_filled(panel, source.selectors) for panel in row.panels]) for row in source.rows]
    return Dashboard(path.stem, source.title, source.description, rows)


def _filled(panel: Panel, selectors: Mapping[str, str]) -> Panel:
    queries = [
        Query(expr=NAME.sub(lambda match: selectors[match[1]], query.expr), legend=query.legend) for query in panel.queries
    ]
    return panel.model_copy(update={"queries": queries})
