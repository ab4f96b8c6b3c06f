"""The chart's own run passes the chart's own admission policy; otherwise Helm says so, before the API server does."""

from __future__ import annotations

from typing import Any

import pytest
from chart import Values, manifests, refusal, the

from visionr1.recipe.document import merge

TAINT = {"key": "gpu", "operator": "Exists"}


def pods(**own: Any) -> Values:
    return {"run": {"pods": own}}


REFUSED: dict[str, tuple[Values, Values, str]] = {
    "an account": (
        pods(serviceAccountName="irsa"),
        {"serviceAccounts": ["irsa"]},
        'run.pods.serviceAccountName is "irsa", which admission.serviceAccounts does not have',
    ),
    "an account of a role": (
        {"run": {"sft": {"pods": {"serviceAccountName": "irsa"}}}},
        {"serviceAccounts": ["irsa"]},
        'run.sft.pods.serviceAccountName is "irsa"',
    ),
    "an image": (
        {"admission": {"images": ["registry.example/"]}},
        {"images": ["registry.example/", "visionr1-ptst/"]},
        "run.pods.image is visionr1-ptst/trainer:0.1.0, but admission.images allows only what begins with registry.example/",
    ),
    "an image of a volume": (
        {
            "admission": {"images": ["visionr1-ptst/"]},
            **pods(volumes=[{"name": "m", "image": {"reference": "quay.io/models:1"}}]),
        },
        {"images": ["visionr1-ptst/", "quay.io/"]},
        "run.pods.volumes[0].image.reference is quay.io/models:1",
    ),
    "an image that runs first": (
        {"admission": {"images": ["visionr1-ptst/"]}, **pods(initContainers=[{"name": "a", "image": "quay.io/fetch:1"}])},
        {"images": ["visionr1-ptst/", "quay.io/"]},
        "run.pods.initContainers[0].image is quay.io/fetch:1",
    ),
    "a place": (
        {"admission": {"storage": ["/runs/{namespace}/"]}},
        {"storage": ["/runs/{namespace}/", "/runs/"]},
        "run.storage.url is /runs/vision-r1, but admission.storage allows only what begins with /runs/vision/",
    ),
    "a priority": (
        {"admission": {"priorityClasses": ["low"]}, **pods(priorityClassName="high")},
        {"priorityClasses": ["low", "high"]},
        'run.pods.priorityClassName is "high", which admission.priorityClasses does not have',
    ),
    "a taint": (
        {"admission": {"tolerations": ["spot"]}, "run": {"grpo": {"workers": {"tolerations": [TAINT]}}}},
        {"tolerations": ["spot", "gpu"]},
        'run.grpo.workers.tolerations has the key "gpu", which admission.tolerations does not have',
    ),
}


@pytest.mark.parametrize(("values", "allowed", "line"), REFUSED.values(), ids=REFUSED.keys())
def test_a_run_that_the_policy_would_refuse_is_refused_in_one_line(values: Values, allowed: Values, line: str) -> None:
    assert line in refusal(values)
    assert the(manifests(merge(values, {"admission": allowed})), "PTSTRun")
    assert the(manifests(merge(values, {"admission": {"enabled": False}})), "PTSTRun"), "nobody limits it"


def test_images_are_compared_as_the_api_server_sees_them() -> None:
    assert the(manifests({"global": {"imageRegistry": "r.example"}, "admission": {"images": ["r.example/"]}}), "PTSTRun")
