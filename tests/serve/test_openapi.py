"""The OpenAPI document describes the service completely: generated requests get the answers that it promises."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis
import pytest
from starlette.testclient import TestClient

from mmmos.serve.app import create_app
from tests.serve.conftest import GatedPredictor, served

ROUTES = {"/v1/score": {"post"}, "/v1/about": {"get"}, "/healthz": {"get"}, "/readyz": {"get"}, "/metrics": {"get"}}


def test_document_lists_every_route(client: TestClient):
    document = client.get("/openapi.json").json()
    assert {path: set(item) for path, item in document["paths"].items()} == ROUTES
    responses = document["paths"]["/v1/score"]["post"]["responses"]
    assert set(responses) == {"200", "400", "401", "403", "413", "415", "422", "429", "503", "504"}
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["summary"]
            assert operation["description"]


@pytest.mark.slow
def test_document_names_the_token_where_one_is_needed(client_of: Callable[..., TestClient]):
    document = client_of(token="secret").get("/openapi.json").json()
    needed = {
        path for path, item in document["paths"].items() for operation in item.values() if "security" in operation
    }
    assert needed == {"/v1/score", "/v1/about", "/metrics"}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "mode"), [*((path, "positive") for path in ROUTES), ("/v1/score", "negative")])
def test_generated_requests_get_documented_answers(toy: GatedPredictor, path: str, mode: str):
    import schemathesis  # slow to import

    with served(create_app(toy, decoders=1)) as client:
        schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
        (operation,) = [found.ok() for found in schema.include(path=path).get_all_operations()]

        @hypothesis.given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        @hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
        def check(case):
            case.call_and_validate()

        check()
