"""A dashboard as Grafana's JSON, schema 39 (Grafana 10.4 to 12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from generators.board import WIDTH, Dashboard, Kind, Panel, Query, Row

SCHEMA: Final = 39
_PANEL_HEIGHT: Final = 8
_STAT_HEIGHT: Final = 4
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
STAGE_BORDERS: Final = (
    'visionr1_started_timestamp_seconds{namespace=~"$namespace",run=~"$run",role=~"driver|sft|coldstart"} * 1000'
)


def to_json(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana's sidecar reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["visionr1"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "annotations": {"list": [_stage_borders()]},
        "templating": {"list": _variables()},
        "links": [_other_dashboards()],
        "panels": _layout(dashboard.rows),
    }


def _stage_borders() -> dict[str, Any]:
    """A line where an attempt at a stage began; the value is the time."""
    return {
        "name": "Stage begins",
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": STAGE_BORDERS,
        "step": "30s",
        "titleFormat": "stage {{stage}}",
        "textFormat": "{{run}}: the {{role}} of stage {{stage}} began",
        "useValueForTime": True,
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {
            "type": "datasource",
            "name": "datasource",
            "label": "Prometheus",
            "query": "prometheus",
            "options": [],
            "refresh": 1,
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "regex": "",
            "skipUrlSync": False,
        },
        _labels("namespace", "Namespace", "label_values(visionr1_host_memory_bytes, namespace)"),
        _labels("run", "Run", 'label_values(visionr1_host_memory_bytes{namespace=~"$namespace"}, run)'),
        _labels("pod", "Pod", 'label_values(visionr1_host_memory_bytes{namespace=~"$namespace",run=~"$run"}, pod)'),
        {
            "type": "custom",
            "name": "window",
            "label": "Averaged over",
            "description": "At least two steps and two scrapes long.",
            "query": "2m,5m,15m,1h",
            "current": {"selected": True, "text": "15m", "value": "15m"},
            "options": [{"selected": span == "15m", "text": span, "value": span} for span in ("2m", "5m", "15m", "1h")],
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "skipUrlSync": False,
        },
    ]


def _labels(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        # Matches series without the label, too: a Prometheus outside Kubernetes knows no pods.
        "allValue": ".*",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": 0,
        "skipUrlSync": False,
    }


def _other_dashboards() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Vision-R1",
        "tags": ["visionr1"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _layout(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Panels from left to right, a new line where one does not fit."""
    laid: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        position = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        laid.append(
            {"id": len(laid) + 1, "type": "row", "title": row.title, "collapsed": False, "gridPos": position, "panels": []}
        )
        y += 1
        x = line_height = 0
        for panel in row.panels:
            height = _STAT_HEIGHT if panel.kind in ("stat", "gauge") else _PANEL_HEIGHT
            if x + panel.width > WIDTH:
                x, y, line_height = 0, y + line_height, 0
            position = {"x": x, "y": y, "w": panel.width, "h": height}
            laid.append(_panel(panel, len(laid) + 1, position))
            x += panel.width
            line_height = max(line_height, height)
        y += line_height
    return laid


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    kinds = {"stacked": "timeseries", "states": "timeseries"}
    return {
        "id": number,
        "type": kinds.get(panel.kind, panel.kind),
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": position,
        "targets": [_target(query, place, panel.kind) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": _custom(panel.kind), **_bounds(panel)}, "overrides": []},
        "options": _options(panel.kind),
    }


def _target(query: Query, place: int, kind: Kind) -> dict[str, Any]:
    newest = kind in ("stat", "gauge")
    return {
        "refId": chr(ord("A") + place),
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": "{{le}}" if kind == "heatmap" else query.legend,
        "format": "heatmap" if kind == "heatmap" else "time_series",
        "instant": newest,
        "range": not newest,
    }


def _bounds(panel: Panel) -> dict[str, Any]:
    return {"min": 0, "max": 1} if panel.unit == "percentunit" and panel.kind != "stat" else {}


def _custom(kind: Kind) -> dict[str, Any]:
    if kind in ("stat", "gauge", "heatmap"):
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "lineInterpolation": "stepAfter" if kind == "states" else "linear",
        "fillOpacity": 40 if kind == "stacked" else 0,
        "showPoints": "never",
        "spanNulls": True,
        "stacking": {"mode": "normal" if kind == "stacked" else "none", "group": "A"},
    }


def _options(kind: Kind) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match kind:
        case "stat":
            return {
                "reduceOptions": reduce,
                "textMode": "value_and_name",
                "colorMode": "none",
                "graphMode": "none",
                "justifyMode": "auto",
                "orientation": "auto",
            }
        case "gauge":
            return {
                "reduceOptions": reduce,
                "orientation": "auto",
                "showThresholdLabels": False,
                "showThresholdMarkers": False,
                "minVizWidth": 75,
                "minVizHeight": 75,
                "sizing": "auto",
            }
        case "heatmap":
            return {
                "calculate": False,
                "cellGap": 1,
                "color": {
                    "mode": "scheme",
                    "scheme": "Blues",
                    "exponent": 0.5,
                    "steps": 64,
                    "fill": "dark-blue",
                    "reverse": False,
                },
                "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "filterValues": {"le": 1e-9},
                "legend": {"show": True},
                "rowsFrame": {"layout": "auto"},
                "showValue": "never",
                "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
                "yAxis": {"axisPlacement": "left", "unit": "short", "reverse": False},
            }
        case _:
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
