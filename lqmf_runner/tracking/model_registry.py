"""MLflow's model registry as an index of weights that were measured or served. No weights go there.

A registered model for each model name, a version of it for each content version of the weights. The alias `current`
is on the version that was measured last. `best` is on the one with the lowest mean KL divergence, or where that is not
known of all, with the most output tokens per second under the first load; only versions whose last run was made on
the same system under the same conditions compete. All other aliases are the users'.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..config import TrackingConfig
from ..errors import UserInputError
from ..models.registered import Weights, WeightsVersion, registry_name, split_reference
from ..reports.figures import format_name, megabytes, number
from ..results.lineage import Origin
from ..results.metrics import METRICS
from ..results.schema import ModelResult
from ..results.times import now
from .mlflow_connection import connected
from .store_lock import locked_database, locked_registry
from .values import TAG_LENGTH, shorten
from .versions import AliasChange, AliasState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CURRENT, BEST = "current", "best"
_SYSTEM, _CONDITIONS = "lqmf.system", "lqmf.conditions"
_PREVIOUS = "previous."  # tag of a registered model: where an alias was before
_PAGE = 100


def register_model(client: MlflowClient, run_id: str, model: ModelResult, setting: Mapping[str, str]) -> None:
    """Register that a run has measured these weights. `setting` are tags with the conditions.

    Raises:
        MlflowException: the store has no registry, or refuses.
    """
    if not model.version:
        return
    known = _weights(model)
    facts = format_name(model), f"{number(model.bits_per_weight)} bits a weight", megabytes(model.size_mb)
    name, version = _version_of(client, known, run_id, description=", ".join(facts))
    measured: dict[str, str | float | None] = {"last_run": run_id, **_figures(model), **setting}
    for key, value in measured.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.5g}"
            client.set_model_version_tag(name, version.version, key, text)
        elif key in version.tags:
            client.delete_model_version_tag(name, version.version, key)
    client.set_registered_model_alias(name, CURRENT, version.version)
    peers = [
        other
        for other in client.search_model_versions(f"name='{name}'")
        if all(other.tags.get(key) == value for key, value in setting.items())
    ]
    if best := _best(peers):
        client.set_registered_model_alias(name, BEST, best.version)


def register_served(client: MlflowClient, run_id: str, weights: Weights) -> None:
    """Register that a server has answered with these weights.

    Raises:
        MlflowException: the store has no registry, or refuses.
    """
    name, version = _version_of(client, weights, run_id, description=weights.method or weights.format)
    client.set_model_version_tag(name, version.version, "served_at", now())
    client.set_model_version_tag(name, version.version, "served_run", run_id)


def list_versions(config: TrackingConfig) -> list[WeightsVersion]:
    """All versions that this program has made.

    Raises:
        TrackingError: MLflow refused, or cannot be reached.
    """
    with connected(config) as client:
        # MLflow's search finds versions without their aliases; the registered model has them.
        models = {model.name: model for model in _pages(client.search_registered_models, max_results=_PAGE)}
        return [
            _read(version, models[version.name].aliases, models[version.name].tags)
            for version in _pages(client.search_model_versions, max_results=_PAGE)
            if "version" in version.tags and version.name in models
        ]


def apply_change(config: TrackingConfig, change: AliasChange) -> AliasState:
    """Change an alias, or say where it is if it is not where the change expects it.

    The lock makes that one step: for this user on this machine, and in a PostgreSQL database for all. Of others that
    share an MLflow server, the alias is read before and after.

    Raises:
        UserInputError: there is no such version, or no such alias is allowed.
        TrackingError: MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    name = registry_name(change.name)
    with (
        locked_registry(config),
        connected(config) as client,
        locked_database(config),
    ):
        try:
            if change.source:
                change = msgspec.structs.replace(change, number=_copy(client, change.source, name))
            model = client.get_registered_model(name)
            if change.number is not None:
                client.get_model_version(name, str(change.number))
        except MlflowException as error:
            wanted = change.name if change.number is None else f"{change.name}@{change.number}"
            raise UserInputError(f"there is no version {wanted}", hint="mode=versions lists them") from error
        present = _existing(client, name, _number(model.aliases.get(change.alias)))
        previous = _number(model.tags.get(_PREVIOUS + change.alias))
        if change.expected is not msgspec.UNSET and present not in (change.expected, change.number):
            return AliasState(present, previous, changed=False)
        if present != change.number:
            _move(client, name, change, present, previous)
            previous = present
        if change.note and change.number is not None:
            note = shorten(f"{now()} {change.alias}: {change.note}", TAG_LENGTH)
            client.set_model_version_tag(name, str(change.number), "promotion", note)
        after = _on(client, name, change.alias)
        return AliasState(after, previous, changed=after == change.number)


def _copy(client: MlflowClient, source: str, name: str) -> int:
    """Make the weights of a version of another name a version of this one; returns its number."""
    parts = split_reference(source) or (source, "")
    original = client.get_model_version(registry_name(parts[0]), parts[1])
    _ensure_model(client, name)
    for version in client.search_model_versions(f"name='{name}'"):
        if version.tags.get("version") == original.tags.get("version"):
            return int(version.version)
    made = client.create_model_version(
        name, original.source, original.run_id, description=original.description, tags=dict(original.tags)
    )
    return int(made.version)


def _move(
    client: MlflowClient, name: str, change: AliasChange, present: int | None, previous: int | None
) -> None:
    """Move the alias from `present`, which is noted first: if the answer to the move is lost, a rollback finds its way.

    Args:
        previous: what was noted before. It is put back if the alias did not move.
    """
    from mlflow.exceptions import MlflowException

    tag = _PREVIOUS + change.alias
    try:
        client.set_registered_model_tag(name, tag, str(present or ""))
        if change.number is None:
            client.delete_registered_model_alias(name, change.alias)
        else:
            client.set_registered_model_alias(name, change.alias, str(change.number))
    except MlflowException as error:
        with contextlib.suppress(MlflowException):
            if _on(client, name, change.alias) == change.number:
                return  # the change was made, only the answer was lost
            client.set_registered_model_tag(name, tag, str(previous or ""))
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise UserInputError(
                f"MLflow takes no alias {change.alias}",
                hint="letters, digits, - and _; not latest, and not v1",
            ) from error
        raise


def _on(client: MlflowClient, name: str, alias: str) -> int | None:
    """The number of the version that the alias is on."""
    return _number(client.get_registered_model(name).aliases.get(alias))


def _existing(client: MlflowClient, name: str, version: int | None) -> int | None:
    """The version's number if there is one: an alias may be left behind by a version that was deleted."""
    from mlflow.exceptions import MlflowException

    if version is None:
        return None
    try:
        client.get_model_version(name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return version


def _weights(model: ModelResult) -> Weights:
    return Weights(
        name=model.name, digest=model.version or "", format=model.format or "", method=model.method or "",
        bits=model.bits or 0.0, bits_per_weight=model.bits_per_weight or 0.0, size_mb=model.size_mb or 0.0,
        path=model.path or "", host=socket.gethostname() if model.path else "", origins=model.origins,
    )  # fmt: skip


def _figures(model: ModelResult) -> dict[str, float | None]:
    """The figures of the verdict, those of a load from the first closed loop; None for what was not measured."""
    load = next((load for load in model.loads if load.shape.concurrency is not None), None)
    found: dict[str, float | None] = {}
    for metric in METRICS.values():
        source = load if metric.of_load else model
        if metric.limits is not None and metric.key != "size_mb":
            found[metric.key] = None if source is None else metric.read(source)
    return found


def _version_of(
    client: MlflowClient, weights: Weights, run_id: str, *, description: str
) -> tuple[str, ModelVersion]:
    """The registered name and the version of these weights, made if there is none."""
    name = registry_name(_own_name(client, weights))
    _ensure_model(client, name)
    versions = client.search_model_versions(f"name='{name}'")
    tags = _describe(weights)
    version = next((v for v in versions if v.tags.get("version") == weights.digest), None)
    if version is None:
        source = client.get_run(run_id).info.artifact_uri
        return name, _create_version(client, name, source, run_id, description=description, tags=tags)
    for key, value in tags.items():  # the files may have been moved
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    return name, version


def _own_name(client: MlflowClient, weights: Weights) -> str:
    """The name without the number, if `qwen@3` was measured and is that version; otherwise the name unchanged."""
    from mlflow.exceptions import MlflowException

    parts = split_reference(weights.name)
    if parts is None or not parts[1].isdigit():
        return weights.name
    try:
        version = client.get_model_version(registry_name(parts[0]), parts[1])
    except MlflowException:
        return weights.name
    return parts[0] if version.tags.get("version") == weights.digest else weights.name


def _describe(weights: Weights) -> dict[str, str]:
    """The properties of the weights as tags."""
    known: dict[str, Any] = {
        "version": weights.digest,
        "format": weights.format,
        "method": weights.method,
        "bits": weights.bits,
        "bits_per_weight": weights.bits_per_weight,
        "size_mb": weights.size_mb,
        "path": weights.path,
        "host": weights.host,
        "origins": msgspec.json.encode(weights.origins).decode() if weights.origins else "",
    }
    return {key: str(value) for key, value in known.items() if value}


def _read(version: ModelVersion, aliases: Mapping[str, str], of_model: Mapping[str, str]) -> WeightsVersion:
    tags, number = version.tags, str(version.version)
    origins = msgspec.json.decode(tags["origins"], type=list[Origin]) if "origins" in tags else []
    noted = {key.removeprefix(_PREVIOUS): on for key, on in of_model.items() if key.startswith(_PREVIOUS)}
    return WeightsVersion(
        name=version.name,
        number=int(version.version),
        weights=Weights(
            name=version.name, digest=tags["version"], format=tags.get("format", ""),
            method=tags.get("method", ""), bits=float(tags.get("bits", 0)),
            bits_per_weight=float(tags.get("bits_per_weight", 0)), size_mb=float(tags.get("size_mb", 0)),
            path=tags.get("path", ""), host=tags.get("host", ""), origins=origins,
        ),
        aliases=sorted(alias for alias, on in aliases.items() if str(on) == number),
        # Of a move that did not get through, the note says where the alias still is.
        was=sorted(alias for alias, on in noted.items() if on == number != str(aliases.get(alias))),
        figures={key: float(tags[key]) for key in METRICS if key in tags and key != "size_mb"},
        last_run=tags.get("last_run", ""),
        system=tags.get(_SYSTEM, ""),
        conditions=tags.get(_CONDITIONS, ""),
        served_at=tags.get("served_at", ""),
    )  # fmt: skip


def _pages(search: Any, **options: Any) -> Iterator[Any]:
    """What a search finds, page after page."""
    token = None
    while True:
        page = search(**options, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _number(text: str | int | None) -> int | None:
    return int(text) if text else None


def _create_version(
    client: MlflowClient, name: str, source: str, run_id: str, *, description: str, tags: dict[str, str]
) -> ModelVersion:
    """Make a version. If other processes make one of the same content at this moment, all take the first."""
    from mlflow.exceptions import MlflowException

    made, refusal = None, None
    try:
        made = client.create_model_version(name, source, run_id, description=description, tags=tags)
    except MlflowException as error:  # other processes took all numbers that it tried
        refusal = error
    same = [
        version
        for version in client.search_model_versions(f"name='{name}'")
        if version.tags.get("version") == tags["version"]
    ]
    if refusal is not None and not same:
        raise refusal
    first = min(same, key=lambda version: int(version.version))
    if made is not None and made.version != first.version:
        client.delete_model_version(name, made.version)
    return first


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(name)
    except MlflowException:
        try:
            client.create_registered_model(
                name,
                description="Weights measured by lqmf-runner; the registry holds figures, not the weights.",
            )
        except MlflowException:
            client.get_registered_model(name)  # another process has made it meanwhile


def _best(versions: list[ModelVersion]) -> ModelVersion | None:
    if all("kld" in version.tags for version in versions):
        return min(versions, key=lambda version: float(version.tags["kld"]), default=None)
    timed = [version for version in versions if "tokens_per_s" in version.tags]
    return max(timed, key=lambda version: float(version.tags["tokens_per_s"]), default=None)
