"""All generated files."""

from __future__ import annotations

import json

import yaml
from ptst_operator.crd import definition, to_yaml

from generators import CHART, ROOT, made_from
from generators.alerts import alerts_page, load_alerts, rules_file, rules_template
from generators.board import load_dashboards
from generators.grafana import to_json
from generators.metrics import metrics_page
from generators.plans import needs_file, plans_page
from generators.reference import ptstrun_page, recipe_page
from generators.values import documented, readme, schema


def files() -> dict[str, str]:
    """Content by path in the checkout. Raises BadInput for a mistake in a source."""
    chart = CHART.relative_to(ROOT)
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults, values = yaml.safe_load(text), list(documented(text))
    alerts = load_alerts()
    boards = load_dashboards()
    return {
        f"{chart}/crds/ptstruns.yaml": f"# {made_from('operators/ptst_operator')}\n{to_yaml(definition())}",
        f"{chart}/values.schema.json": json.dumps(schema(defaults, values), indent=1) + "\n",
        f"{chart}/README.md": readme(defaults, values),
        **{f"{chart}/dashboards/{board.uid}.json": json.dumps(to_json(board), indent=1) + "\n" for board in boards},
        f"{chart}/rules/visionr1-ptst.yaml": rules_file(alerts),
        f"{chart}/rules/visionr1-ptst.yaml.in": rules_template(alerts),
        f"{chart}/needs.yaml": needs_file(),
        "docs/alerts.md": alerts_page(alerts),
        "docs/metrics.md": metrics_page(),
        "docs/plans.md": plans_page(),
        "docs/reference-recipe.md": recipe_page(),
        "docs/reference-ptstrun.md": ptstrun_page(),
    }
