"""The part of Grafana's dashboard schema (10.4 to 12) that we use, written down by hand: nothing unknown, nothing missing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Datasource(Part):
    type: Literal["prometheus"]
    uid: Literal["${datasource}"]


class Position(Part):
    x: Annotated[int, Field(ge=0, lt=24)]
    y: Annotated[int, Field(ge=0)]
    w: Annotated[int, Field(gt=0, le=24)]
    h: Annotated[int, Field(gt=0)]


class Target(Part):
    refId: Annotated[str, Field(pattern="^[A-Z]$")]
    datasource: Datasource
    editorMode: Literal["code"]
    expr: Annotated[str, Field(min_length=1)]
    legendFormat: Annotated[str, Field(min_length=1)]
    format: Literal["time_series", "heatmap"]
    instant: bool
    range: bool


class Stacking(Part):
    mode: Literal["none", "normal", "percent"]
    group: str


class GraphCustom(Part):
    drawStyle: Literal["line", "bars", "points"]
    lineWidth: int
    lineInterpolation: Literal["linear", "smooth", "stepBefore", "stepAfter"]
    fillOpacity: Annotated[int, Field(ge=0, le=100)]
    showPoints: Literal["auto", "never", "always"]
    spanNulls: bool
    stacking: Stacking


class NoCustom(Part):
    pass


class Defaults(Part):
    # Units of Grafana's own list that we use; another one is shown as a suffix.
    unit: Literal["short", "percent", "percentunit", "s", "bytes", "decmbytes", "watt", "reqps", "ops", "sci"]
    custom: GraphCustom | NoCustom
    min: float | None = None
    max: float | None = None


class FieldConfig(Part):
    defaults: Defaults
    overrides: list[Any]


class Reduce(Part):
    calcs: list[Literal["lastNotNull"]]
    fields: str
    values: bool


class StatOptions(Part):
    reduceOptions: Reduce
    textMode: Literal["auto", "value", "value_and_name", "name", "none"]
    colorMode: Literal["value", "background", "background_solid", "none"]
    graphMode: Literal["none", "line", "area"]
    justifyMode: Literal["auto", "center"]
    orientation: Literal["auto", "vertical", "horizontal"]


class GaugeOptions(Part):
    reduceOptions: Reduce
    orientation: Literal["auto", "vertical", "horizontal"]
    showThresholdLabels: bool
    showThresholdMarkers: bool
    minVizWidth: int
    minVizHeight: int
    sizing: Literal["auto", "manual"]


class GraphLegend(Part):
    displayMode: Literal["list", "table", "hidden"]
    placement: Literal["bottom", "right"]
    showLegend: bool
    calcs: list[str]


class GraphTooltip(Part):
    mode: Literal["single", "multi", "none"]
    sort: Literal["asc", "desc", "none"]


class GraphOptions(Part):
    legend: GraphLegend
    tooltip: GraphTooltip


class HeatmapColor(Part):
    mode: Literal["scheme", "opacity"]
    scheme: str
    exponent: float
    steps: Annotated[int, Field(ge=2, le=128)]
    fill: str
    reverse: bool


class HeatmapTooltip(Part):
    mode: Literal["single", "multi", "none"]
    yHistogram: bool
    showColorScale: bool


class HeatmapOptions(Part):
    calculate: Literal[False]
    cellGap: int
    color: HeatmapColor
    exemplars: dict[Literal["color"], str]
    filterValues: dict[Literal["le"], float]
    legend: dict[Literal["show"], bool]
    rowsFrame: dict[Literal["layout"], Literal["auto", "le", "ge", "unknown"]]
    showValue: Literal["auto", "never", "always"]
    tooltip: HeatmapTooltip
    yAxis: dict[str, Any]


class BasePanel(Part):
    id: int
    title: Annotated[str, Field(min_length=1)]
    description: Annotated[str, Field(min_length=30, max_length=200)]
    datasource: Datasource
    gridPos: Position
    targets: Annotated[list[Target], Field(min_length=1)]
    fieldConfig: FieldConfig


class Graph(BasePanel):
    type: Literal["timeseries"]
    options: GraphOptions


class Stat(BasePanel):
    type: Literal["stat"]
    options: StatOptions


class Gauge(BasePanel):
    type: Literal["gauge"]
    options: GaugeOptions


class Heatmap(BasePanel):
    type: Literal["heatmap"]
    options: HeatmapOptions


class RowPanel(Part):
    id: int
    type: Literal["row"]
    title: str
    collapsed: bool
    gridPos: Position
    panels: list[Any]


class Annotation(Part):
    name: str
    datasource: Datasource
    enable: bool
    iconColor: str
    expr: str
    step: str
    titleFormat: str
    textFormat: str
    useValueForTime: bool


class Annotations(Part):
    list: "list[Annotation]"


class VariableQuery(Part):
    qryType: int
    query: str
    refId: Literal["PrometheusVariableQueryEditor-VariableQuery"]


class Variable(Part):
    type: Literal["datasource", "query", "custom"]
    name: str
    label: str
    description: str = ""
    query: str | VariableQuery
    datasource: Datasource | None = None
    current: dict[str, Any] | None = None
    options: list[dict[str, Any]]
    allValue: str | None = None
    includeAll: bool
    multi: bool
    refresh: Literal[0, 1, 2] = 0
    regex: str = ""
    sort: int = 0
    hide: Literal[0, 1, 2]
    skipUrlSync: bool


class Templating(Part):
    list: "list[Variable]"


class Link(Part):
    type: Literal["link", "dashboards"]
    title: str
    tags: list[str]
    asDropdown: bool
    includeVars: bool
    keepTime: bool
    targetBlank: bool
    icon: str
    tooltip: str
    url: str


class Board(Part):
    uid: Annotated[str, Field(max_length=40)]
    title: str
    description: str
    tags: list[str]
    schemaVersion: Literal[39]
    version: int
    editable: bool
    graphTooltip: Literal[0, 1, 2]
    refresh: str
    time: dict[Literal["from", "to"], str]
    timezone: Literal["browser", "utc"]
    fiscalYearStartMonth: int
    annotations: Annotations
    templating: Templating
    links: list[Link]
    panels: list[Annotated[Graph | Stat | Gauge | Heatmap | RowPanel, Field(discriminator="type")]]
