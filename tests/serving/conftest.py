"""A model with columns of several types, and a site that serves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sites
from sites import Site

from onetrunk.inference.model_folder import Model


@pytest.fixture(scope="module")
def stays() -> Model:
    return sites.stays_model()


@pytest.fixture(scope="module")
def site(stays: Model) -> Iterator[Site]:
    with sites.served({"stays": stays}) as running:
        yield running
