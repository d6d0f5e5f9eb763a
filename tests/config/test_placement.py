"""The groups `placement` and `ray`: ranges, what excludes what, and how they reach a model's specification."""

from __future__ import annotations

from dataclasses import fields

import pytest

from lqmf_runner.config import PlacementConfig, RayConfig
from lqmf_runner.errors import UserInputError
from lqmf_runner.types import Cluster, Placement

from ..conftest import Compose


def test_a_run_without_placement_is_local_and_knows_no_cluster(compose_config: Compose) -> None:
    assert compose_config("mode=models").placed == Placement()


def test_every_setting_is_a_field_of_what_a_model_carries() -> None:
    """`to_placement` converts by name, and a setting without a field of its name would be lost."""
    assert {field.name for field in fields(PlacementConfig)} == {*Placement.__struct_fields__} - {"cluster"}
    assert {field.name for field in fields(RayConfig)} == {*Cluster.__struct_fields__}


def test_placement_and_cluster_reach_the_specification(compose_config: Compose) -> None:
    config = compose_config(
        "mode=models", "placement=ray", "placement.replicas=3", "placement.num_cpus=1.5", "placement.num_gpus=0.5",
        'placement.labels=["zone=a","gpu=h100"]', "placement.strategy=pack", "ray.address=head:6379", "ray.tls=true",
    )  # fmt: skip
    assert config.placed == Placement(
        kind="ray",
        replicas=3,
        num_cpus=1.5,
        num_gpus=0.5,
        labels=("zone=a", "gpu=h100"),
        strategy="pack",
        cluster=Cluster(address="head:6379", tls=True),
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "slurm"}, "placement.kind=slurm"),
        ({"strategy": "random"}, "placement.strategy=random"),
        ({"replicas": 0}, "placement.replicas=0"),
        ({"replicas": 4, "max_replicas": 3}, "placement.replicas=4"),
        ({"replicas": 1, "min_replicas": 2, "max_replicas": 3}, "placement.replicas=1"),
        ({"replicas": 2, "min_replicas": 3, "max_replicas": 1}, "min_replicas=3 is more than max_replicas=1"),
        ({"num_cpus": 0.0}, "placement.num_cpus=0"),
        ({"num_gpus": -1.0}, "placement.num_gpus=-1"),
        ({"num_gpus": 1.5}, "placement.num_gpus=1.5"),
        ({"memory_mb": 0.0}, "placement.memory_mb=0"),
        ({"labels": ["zone"]}, "'zone' is no label"),
        ({"labels": ["=a"]}, "'=a' is no label"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=message) as caught:
        PlacementConfig(**setting)  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.parametrize(
    "address", ["head", "head:", "ray://head:10001", "1.2.3.4:port", "[::1]", "::1:6379"]
)
def test_an_address_without_a_host_and_a_port_is_refused(address: str) -> None:
    with pytest.raises(UserInputError, match=r"ray\.address"):
        RayConfig(address=address)


@pytest.mark.parametrize(
    "address", ["head:6379", "10.0.0.5:6379", "[::1]:6379", "head.svc.cluster.local:6379"]
)
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert RayConfig(address=address).address == address
