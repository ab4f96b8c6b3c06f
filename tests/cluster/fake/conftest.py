"""The controllers of fake training, for the tests of this folder; they have ended when the others begin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from control_plane import ControlPlane

from fake.controllers import Controllers
from fake.fake_release import FakeRelease, Make

_ports = itertools.count(18080)


@pytest.fixture(scope="package")
def controllers(cluster: ControlPlane) -> Iterator[Controllers]:
    """KubeRay, the training-operator and played training."""
    if not isinstance(cluster, ControlPlane):
        pytest.skip("these tests end and start parts of their control plane")
    made = Controllers(cluster)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def release_in(controllers: Controllers) -> Iterator[Make]:
    """Makes releases. Their operators end with the test."""
    with ExitStack() as stack:

        def make(namespace: str, server: str | None = None) -> FakeRelease:
            return stack.enter_context(FakeRelease(controllers.plane, namespace, next(_ports), server))

        yield make


@pytest.fixture
def release(release_in: Make, namespace: str) -> FakeRelease:
    """One release, not yet installed."""
    return release_in(namespace)
