"""Versions and aliases in a real MLflow registry on SQLite."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lqmf_runner.config import TrackingConfig
from lqmf_runner.errors import ConflictError, LqmfError, ModelNotFoundError, TrackingError, UserInputError
from lqmf_runner.models.registered import Weights, choose, find_files, standing
from lqmf_runner.models.version import content_version
from lqmf_runner.results.lineage import Origin
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.tracking.mlflow_connection import connected
from lqmf_runner.tracking.mlflow_store import send_folder
from lqmf_runner.tracking.model_registry import apply_change, list_versions, register_served
from lqmf_runner.tracking.versions import AliasChange, AliasState, change_alias, local_names, read_versions

from ..support.models.tiny import make_gguf
from ..support.runs.sample import sample_model
from .conftest import make_folder


def measured(name: str, digest: str, path: str | None = None) -> ModelResult:
    model = sample_model(name)
    model.version, model.path = digest, path
    model.origins = [Origin(name="source", version="abc", method="bfloat16", bits=16)]
    return model


def test_a_version_has_its_figures_its_lineage_and_its_place(here: Path, store: TrackingConfig) -> None:
    run_id = send_folder(make_folder(here, measured("facts", "d1", "/models/facts")), store)
    (found,) = [version for version in list_versions(store) if version.name == "facts"]
    assert (found.label, found.aliases, found.last_run) == ("facts@1", ["best", "current"], run_id)
    weights = found.weights
    assert (weights.digest, weights.path, weights.method) == ("d1", "/models/facts", "Q4_1")
    assert [origin.name for origin in weights.origins] == ["source"]
    assert found.figures["memory_mb"] == pytest.approx(270.4)
    assert found.figures["tokens_per_s"] > 0
    send_folder(make_folder(here, measured("facts@1", "d1", "/elsewhere")), store)  # measured by its number
    (found,) = [version for version in list_versions(store) if version.name.startswith("facts")]
    assert (found.number, found.weights.path) == (1, "/elsewhere")
    assert "facts" in local_names(store)
    for other in (
        TrackingConfig(enabled=False, uri=store.uri),
        TrackingConfig(uri=f"sqlite:///{here}/none.db"),
    ):
        assert local_names(other) == []
    damaged = here / "damaged.db"
    damaged.write_bytes(b"no database" * 100)
    assert local_names(TrackingConfig(uri=f"sqlite:///{damaged}")) == []


def test_what_a_server_answered_with_is_a_version_too(here: Path, store: TrackingConfig) -> None:
    run_id = send_folder(make_folder(here, measured("other", "d0")), store)
    with connected(store) as client:
        register_served(client, run_id, Weights(name="served", digest="s1", format="gguf", path="/x"))
    found = choose(list_versions(store), "served", "1")
    assert (found.weights.digest, found.last_run, found.figures) == ("s1", "", {})
    assert found.served_at > "2026"


def test_an_alias_moves_only_from_where_it_is_expected(here: Path, store: TrackingConfig) -> None:
    for digest in ("d1", "d2", "d3"):
        send_folder(make_folder(here, measured("moves", digest)), store)

    def move(number: int, expected: int | None) -> tuple[int | None, int | None, bool]:
        change = AliasChange(name="moves", alias="champion", number=number, expected=expected)
        state = apply_change(store, change)
        return state.number, state.previous, state.changed

    assert move(1, None) == (1, None, True)
    assert move(2, None) == (1, None, False), "somebody else was faster"
    assert move(2, 1) == (2, 1, True)
    assert move(2, 1) == (2, 1, True), "there already"
    assert choose(list_versions(store), "moves", "1").was == ["champion"]
    apply_change(store, AliasChange(name="moves", alias="champion", number=None))
    with pytest.raises(ModelNotFoundError, match="no alias champion") as caught:
        choose(list_versions(store), "moves", "champion")
    assert caught.value.hint == "aliases: best, current; versions: 1 to 3"
    with pytest.raises(UserInputError, match="no version moves@9"):
        apply_change(store, AliasChange(name="moves", alias="champion", number=9))


def test_an_alias_that_a_deleted_version_has_left_behind_can_be_given_away(
    here: Path, store: TrackingConfig
) -> None:
    """Some MLflow servers delete a version and leave its aliases in their database."""
    run_id = send_folder(make_folder(here, measured("left", "d1")), store)
    with connected(store) as client:
        for digest in ("d2", "d3"):
            register_served(client, run_id, Weights(name="left", digest=digest, format="gguf"))
        client.delete_model_version("left", "3")
    with contextlib.closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as database:
        row = "INSERT INTO registered_model_aliases (alias, version, name, workspace) VALUES ('champion', 3, 'left', ?)"
        database.execute(row, database.execute("SELECT workspace FROM registered_models").fetchone())
        database.commit()
    assert [v for v in list_versions(store) if v.name == "left" and "champion" in v.aliases] == []
    change = AliasChange(name="left", alias="champion", number=2, expected=None)
    assert apply_change(store, change) == AliasState(2, None)


@pytest.mark.parametrize("reached", [True, False])
def test_a_move_whose_answer_is_lost_is_told_as_what_happened(
    reached: bool, here: Path, store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"lost-{reached}"
    for digest in ("d1", "d2", "d3"):
        send_folder(make_folder(here, measured(name, digest)), store)
    for number in (1, 2):
        apply_change(store, AliasChange(name=name, alias="champion", number=number))
    really = MlflowClient.set_registered_model_alias

    def lost(self: MlflowClient, *words: str) -> None:
        if reached:
            really(self, *words)
        raise MlflowException("API request failed: connection reset")

    change = AliasChange(name=name, alias="champion", number=3, expected=2)
    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "set_registered_model_alias", lost)
        if reached:
            assert apply_change(store, change) == AliasState(3, 2)
        else:
            with pytest.raises(TrackingError, match="connection reset"):
                apply_change(store, change)
    on, before = (3, 2) if reached else (2, 1)
    found = list_versions(store)
    assert choose(found, name, "champion").number == on
    assert [v.number for v in found if v.name == name and "champion" in v.was] == [before]


def test_of_two_programs_that_promote_at_once_one_is_told(here: Path, store: TrackingConfig) -> None:
    for digest in ("d1", "d2"):
        send_folder(make_folder(here, measured("race", digest)), store)

    def promote(number: int) -> str:
        try:
            change = AliasChange(name="race", alias="champion", number=number, expected=None)
            return f"{change_alias(store, change).number}"
        except ConflictError as error:
            return error.message

    with ThreadPoolExecutor() as pool:
        answers = sorted(pool.map(promote, (1, 2)))
    winner = choose(read_versions(store), "race", "champion").number
    assert answers == [f"{winner}", f"champion of race was moved to race@{winner} by somebody else meanwhile"]


def test_the_winner_of_another_name_becomes_a_version_with_its_figures(
    here: Path, store: TrackingConfig
) -> None:
    send_folder(make_folder(here, measured("quick", "q1", "/models/quick")), store)
    change = AliasChange(name="product", alias="champion", number=None, source="quick@1", expected=None)
    assert apply_change(store, change).number == 1
    found = choose(list_versions(store), "product", "champion")
    original = choose(list_versions(store), "quick", "1")
    assert (found.figures, found.weights.path) == (original.figures, "/models/quick")


def test_without_tracking_there_are_no_versions() -> None:
    with pytest.raises(UserInputError, match="with tracking=none there is none"):
        read_versions(TrackingConfig(enabled=False))


def test_drift_is_told(here: Path, store: TrackingConfig) -> None:
    models = here / "models"
    models.mkdir()
    path = make_gguf(models / "drift.gguf", seed=1)
    send_folder(make_folder(here, measured("drift", content_version(path), str(path))), store)
    version = choose(list_versions(store), "drift", "current")
    assert (standing(version), find_files(version, models)) == ("", path)
    kept = path.rename(models / "kept.gguf")
    assert standing(version) == "its files are gone"
    assert find_files(version, models) == kept, "the same content lies elsewhere"
    make_gguf(path, seed=2)
    assert standing(version).startswith("its files have changed")
    kept.unlink()
    with pytest.raises(LqmfError, match="drift@1 cannot be used: its files have changed"):
        find_files(version, models)
