"""The alert rules and the dashboard ask for metrics that the server gives, with labels that these have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ..support.server.guarded import guarded_server

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
_ADDED = {"instance", "job"}  # labels that Prometheus gives each sample
_SCRAPE = {"up": _ADDED}  # what Prometheus says of a scrape


def rules() -> dict[str, str]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def queries() -> dict[str, str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels
        for target in panel.get("targets", ())
    }


def selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    """All selectors of a metric in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs"):
        if (inner := getattr(node, name, None)) is not None:
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or ():
        yield from selectors(inner)


def parsed(expression: str) -> Any:
    """Grafana's own variables stand for a time and for names."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m").replace("$", ""))


@pytest.fixture
async def given() -> dict[str, set[str]]:
    """The names and labels in the /metrics of a server that has answered a request."""
    async with guarded_server() as server:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        assert (await server.client.post("/v1/chat/completions", json=body)).status_code == 200
        text = (await server.client.get("/metrics")).text
    families = text_string_to_metric_families(text)
    return {sample.name: set(sample.labels) | _ADDED for family in families for sample in family.samples}


def test_every_metric_is_one_that_the_server_gives(given: dict[str, set[str]]) -> None:
    known = given | _SCRAPE
    asked = 0
    for title, expression in {**rules(), **queries()}.items():
        for selector in selectors(parsed(expression)):
            asked += 1
            assert selector.name in known, f"{title}: {selector.name}"
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= known[selector.name], f"{title}: {labels}"
    assert asked > 30


def test_every_alert_says_what_and_how_bad() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_do_not_lie_on_each_other() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    cells: list[tuple[int, int]] = []
    for place in (panel["gridPos"] for panel in panels):
        assert place["x"] + place["w"] <= 24
        cells += [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in panels}) == len(panels)
