"""Writes to MLflow so that every write may be sent again: nothing is created twice, nothing differs.

Runs and models are found by the tag `orchestrate.entity` before one is created, metrics carry the
catalog's times, artifacts are written whole under fixed names. No active run, no fluent API: an
inherited `MLFLOW_RUN_ID` doesn't matter. Knows nothing of jobs.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from sqlalchemy import make_url

from ...core.crash import crash_points
from ..artifacts import safe_name
from .failures import DeletedError, UnreachableError, code_of, passing
from .patience import again, patient

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

T = TypeVar("T")
Status: TypeAlias = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]

ENTITY = "orchestrate.entity"
JOB = "orchestrate.job_id"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"

LONGEST_PARAM, LONGEST_TAG, LONGEST_KEY, LONGEST_DIGEST = 6000, 8000, 250, 36  # MLflow's limits
ROOM = 400_000  # characters a request: MLflow's server takes a megabyte, and the client doesn't split by it
PAGE = 1000
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # The HTTP library would send a POST again, and creating a run isn't idempotent: retries are ours.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
# An inherited active model would be stamped on every metric. Read when MLflow is imported.
_UNWANTED = ("MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID")


@dataclass(frozen=True)
class Point:
    """One value of a metric. `at` is the catalog's time in ms since 1970, never the time of sending:
    MLflow tells a value sent twice from two values by it.
    """

    name: str
    value: float
    step: int
    at: int


@dataclass(frozen=True)
class DatasetRef:
    """A dataset: name and digest identify it in an experiment, and a run knows it in one context only."""

    name: str
    digest: str
    source: Mapping[str, Any]
    context: Literal["training", "validation", "test"]
    profile: Mapping[str, Any]


@dataclass(frozen=True)
class NetworkFiles:
    """A network to be logged as a model: `files` by their path in the model's folder.

    `inputs` and `outputs` are shapes of float32 tensors, -1 for the batch.
    """

    entity: str
    name: str
    kind: str
    files: Mapping[str, Path]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: Mapping[str, object]
    tags: Mapping[str, str]
    loader: str
    """Importable module with `_load_pyfunc(path)`."""


class Recorder:
    """Writes one job's lineage. Not thread-safe; one process a job at a time."""

    def __init__(self, tracking_uri: str, artifact_root: Path | None = None) -> None:
        quieten()
        from mlflow import MlflowClient

        _prepare(tracking_uri)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        self.client: MlflowClient = patient(crash_points(client, "mlflow"), passing)
        self.doubtful = False
        """Whether a run was created that seemed not to be: it may be there twice until the next index."""
        self.experiment_id = ""
        self.runs: dict[str, str] = {}
        """Run ids by entity."""
        self._root = artifact_root
        self._deleted: set[str] = set()

    # Experiment -----------------------------------------------------------------------------------

    def open_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the experiment `name`: found, created, or restored where someone deleted it."""
        for _ in range(5):  # other jobs may create or restore it meanwhile
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "active":
                self.experiment_id = found.experiment_id
                return self.experiment_id
            location = (self._root / safe_name(name)).absolute().as_uri() if self._root else None
            try:
                if found is not None:
                    self.client.restore_experiment(found.experiment_id)
                else:
                    self.client.create_experiment(name, artifact_location=location, tags=dict(tags))
            except Exception as error:
                if code_of(error) not in (
                    "RESOURCE_ALREADY_EXISTS",
                    "INVALID_PARAMETER_VALUE",
                    "RESOURCE_DOES_NOT_EXIST",
                ):
                    raise
        raise UnreachableError(f"the MLflow experiment {name!r} keeps changing under our hands")

    # Runs -----------------------------------------------------------------------------------------

    def load_index(self, job_id: str) -> None:
        """Learn which runs the job has: after every start, and after a creation that failed.

        Of two runs for one entity (a request that timed out, and arrived all the same) the later is
        deleted.
        """
        self.doubtful = False
        seen: dict[str, list[tuple[bool, int, str]]] = {}
        for run in self._runs_of(job_id):
            entity = run.data.tags.get(ENTITY)
            if entity:
                deleted = run.info.lifecycle_stage == "deleted"
                seen.setdefault(entity, []).append((deleted, run.info.start_time or 0, run.info.run_id))
        for entity, found in seen.items():
            (deleted, _, kept), *others = sorted(found)
            self.runs[entity] = kept
            if deleted:
                self._deleted.add(kept)
            for gone, _, run_id in others:
                if not gone:
                    self.client.set_tag(run_id, "orchestrate.duplicate_of", kept)
                    self.client.delete_run(run_id)

    def _runs_of(self, job_id: str) -> Iterator[Any]:
        from mlflow.entities import ViewType

        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{JOB}` = '{job_id}'",
                run_view_type=ViewType.ALL,
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = cast("str | None", page.token)  # pyright: ignore[reportUnknownMemberType]
            if not token:
                return

    def create_run(self, entity: str, name: str, start: int, tags: Mapping[str, str]) -> str:
        """The run of `entity`, made unless there is one.

        Raises:
            DeletedError: there was one.
        """
        known = self.runs.get(entity)
        if known is None:
            told = {safe_key(k): clip(v, LONGEST_TAG) for k, v in tags.items()} | {ENTITY: entity}
            known = self.runs[entity] = again(lambda: self._make_run(entity, name, start, told), passing)
        elif known in self._deleted:
            raise DeletedError(f"the run of {entity} was deleted in MLflow")
        return known

    def _make_run(self, entity: str, name: str, start: int, tags: Mapping[str, str]) -> str:
        if self.doubtful:  # the request may have arrived although it failed
            found = self.client.search_runs(
                [self.experiment_id], f"tags.`{ENTITY}` = '{entity}'", order_by=["attributes.start_time ASC"]
            )
            if found:
                return found[0].info.run_id
        before, self.doubtful = self.doubtful, True
        made = self.client.create_run(self.experiment_id, start_time=start, tags=dict(tags), run_name=name)
        self.doubtful = before
        return made.info.run_id

    def log(
        self,
        run_id: str,
        params: Mapping[str, object] | None = None,
        points: Iterable[Point] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Params, metrics and tags in as few requests as MLflow's limits allow: one, nearly always."""
        from mlflow.entities import Metric, Param, RunTag

        p = [
            Param(safe_key(name), clip(as_text(value), LONGEST_PARAM))
            for name, value in (params or {}).items()
        ]
        t = [RunTag(safe_key(name), clip(value, LONGEST_TAG)) for name, value in (tags or {}).items()]
        m = [Metric(safe_key(point.name), point.value, point.at, point.step) for point in points]
        if sum(len(item.value) for item in (*p, *t)) > ROOM:
            for some in chunks(p, ROOM // LONGEST_PARAM):
                self.client.log_batch(run_id, params=some)
            for more in chunks(t, ROOM // LONGEST_TAG):
                self.client.log_batch(run_id, tags=more)
            p, t = [], []
        self.client.log_batch(run_id, metrics=m, params=p, tags=t)

    def end(self, run_id: str, status: Status, at: int) -> None:
        """Set a run's end."""
        self.client.set_terminated(run_id, status=status, end_time=at)

    def set_status(self, run_id: str, status: Status) -> None:
        """Set the status of a run that goes on."""
        self.client.update_run(run_id, status=status)

    # Inputs and files -----------------------------------------------------------------------------

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetRef]) -> None:
        """A run's inputs; sent again, the first ones stay."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.client.log_inputs(
            run_id,
            datasets=[
                DatasetInput(
                    Dataset(
                        name=known.name,
                        digest=known.digest[:LONGEST_DIGEST],
                        source_type="orchestrate",
                        source=json.dumps(known.source, sort_keys=True),
                        profile=json.dumps(known.profile, sort_keys=True),
                    ),
                    [InputTag("mlflow.data.context", known.context)],
                )
                for known in datasets
            ],
        )

    def log_text(self, run_id: str, path: str, text: str) -> None:
        """One text as an artifact; sent again, it is replaced."""
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            local = Path(folder, Path(path).name)
            local.write_text(text, encoding="utf-8")
            self.log_file(run_id, path, local)

    def log_file(self, run_id: str, path: str, local: Path) -> None:
        """A file as an artifact under `path`, whose last part is the file's own name."""
        parent = Path(path).parent.as_posix()
        self.client.log_artifact(  # pyright: ignore[reportUnknownMemberType]
            run_id, str(local), artifact_path=None if parent == "." else parent
        )

    def log_table(
        self, run_id: str, path: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """A whole table, which MLflow shows as one; sent again, it is replaced."""
        self.log_text(
            run_id, path, json.dumps({"columns": list(columns), "data": [list(row) for row in rows]})
        )
        listed = json.dumps([{"path": path, "type": "table"}])
        self.log(run_id, tags={"mlflow.loggedArtifacts": listed})

    # Models ---------------------------------------------------------------------------------------

    def log_model(self, run_id: str, network: NetworkFiles) -> str:
        """A network as a logged model and an output of the run, made unless there is one. Its id."""
        return again(lambda: self._log_model(run_id, network), passing)

    def _log_model(self, run_id: str, network: NetworkFiles) -> str:
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        from .network import write_description

        model = self._find_model(network.entity) or self.client.create_logged_model(
            experiment_id=self.experiment_id,
            name=network.name,
            source_run_id=run_id,
            tags={**network.tags, ENTITY: network.entity},
            params={k: clip(as_text(v), LONGEST_PARAM) for k, v in network.params.items()},
            model_type=network.kind,
        )
        if model.status != LoggedModelStatus.READY:
            with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
                for path, source in network.files.items():
                    target = Path(folder, path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(source.absolute())
                write_description(Path(folder), network, run_id, model)
                self.client.log_model_artifacts(model.model_id, folder)
            self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY.value)
        outputs = self.client.get_run(run_id).outputs
        linked = {output.model_id for output in outputs.model_outputs} if outputs else set[str]()
        if model.model_id not in linked:  # linking isn't idempotent
            self.client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, 0)])
        return model.model_id

    def log_model_metrics(
        self, run_id: str, model_id: str, dataset: DatasetRef | None, points: Iterable[Point]
    ) -> None:
        """A model's metrics on a dataset. They are metrics of its run, too."""
        from mlflow.entities import Metric

        name = dataset.name if dataset else None
        digest = dataset.digest[:LONGEST_DIGEST] if dataset else None
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(
                    safe_key(point.name),
                    point.value,
                    point.at,
                    point.step,
                    model_id=model_id,
                    dataset_name=name,
                    dataset_digest=digest,
                    run_id=run_id,
                )
                for point in points
            ],
        )

    def register(self, name: str, model_id: str, alias: str | None = None) -> str:
        """A version of the registered model `name` for a logged model, made unless there is one; `alias`
        then points at it. Returns the version.
        """
        return again(lambda: self._register(name, model_id, alias), passing)

    def _register(self, name: str, model_id: str, alias: str | None) -> str:
        try:
            self.client.create_registered_model(name)
        except Exception as error:
            if code_of(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        model = self.client.get_logged_model(model_id)
        # By location: MLflow would resolve models:/ID with a client on the process's own tracking URI.
        source = model.artifact_location
        known = [v for v in self.client.search_model_versions(f"name = '{name}'") if v.source == source]
        made = (
            known[0]
            if known
            else self.client.create_model_version(name, source, run_id=model.source_run_id, model_id=model_id)
        )
        listed = json.loads(model.tags.get("mlflow.modelVersions", "[]"))
        entry = {"name": name, "version": int(made.version)}
        if entry not in listed:  # by this tag the model's page knows that it is registered
            tags = {"mlflow.modelVersions": json.dumps([*listed, entry])}
            self.client.set_logged_model_tags(model_id, tags)
        if alias is not None:
            self.client.set_registered_model_alias(name, alias, str(made.version))
        return str(made.version)

    def _find_model(self, entity: str) -> LoggedModel | None:
        found = self.client.search_logged_models(
            [self.experiment_id],
            filter_string=f"tags.`{ENTITY}` = '{entity}'",
            order_by=[{"field_name": "creation_timestamp", "ascending": True}],
        )
        return found[0] if found else None


def _prepare(tracking_uri: str) -> None:
    """Make a SQLite store that isn't there yet one whose readers and writer don't wait for each other."""
    path = make_url(tracking_uri).database if tracking_uri.startswith("sqlite:") else None
    if path and not Path(path).exists() and Path(path).parent.is_dir():
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def quieten() -> None:
    """Set what MLflow reads from the environment. Before its first import, as far as we are asked."""
    os.environ.update(_SETTINGS)
    for name in _UNWANTED:
        os.environ.pop(name, None)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """`items` in lists of at most `size`."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def safe_key(key: str) -> str:
    """The key with what MLflow doesn't allow replaced; a slash groups metrics in its UI."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:LONGEST_KEY]


def clip(text: str, limit: int) -> str:
    """`text`, its end replaced by … when it is too long: MLflow would cut it without a sign."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_text(value: object) -> str:
    """A value as the text of a param."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
