"""Brings one job's mirror in MLflow up to what the catalog says, one outbox row at a time.

A row says what changed; how things stand is read from the catalog. So rows may come twice, late or
together: the mirror ends the same.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ...core.errors import ArtifactError
from ..artifacts import ArtifactStore
from ..catalog import Catalog
from ..models import TERMINAL_TRIAL_STATES, ArtifactRow, HitRow, JobRow, OutboxRow, StageRow, TrialRow
from ..recall import reasons, statistics, trace
from ..report.facts import JobFacts, StageFacts, read
from . import describe, notes, outbox
from .client import JOB, NOTE, PARENT, NetworkFiles, Recorder, chunks
from .describe import entity_of, ms
from .links import artifact_root, model_url, run_url, store_name
from .network import LOADER, RECIPE, WEIGHTS

log = logging.getLogger(__name__)

SHOWN = (".md", ".svg", ".png", ".html", ".jsonl")  # files of a trial for its run
LARGEST_SHOWN = 1_000_000  # bytes
FRONT_RUNS = 50  # trials of a front that get a run of their own however they were launched


class Mirror:
    """One job's mirror in one MLflow store.

    The job's experiment holds a run for the job, child runs for its stages, and grandchildren for the
    trials that were launched alone or chosen. All others are rows of a table at their stage's run.
    """

    def __init__(self, catalog: Catalog, job_id: str, tracking_uri: str) -> None:
        self.store = store_name(tracking_uri)
        self._known: dict[str, str] = {}  # mirror ids by entity
        self._unsaved: dict[str, str] = {}
        self._catalog = catalog
        self._job = catalog.job(job_id)
        self._stages = {row.id: row for row in catalog.stages(job_id)}
        self._recorder = Recorder(tracking_uri, artifact_root(tracking_uri))
        about = {
            "mlflow.experimentKind": "custom_model_development",  # by which the UI picks its view
            NOTE: notes.EXPERIMENT_NOTE,
        }
        self._remember(f"experiment:{job_id}", self._recorder.open_experiment(self._job.name, about))
        self._recorder.load_index(job_id)
        self._written: dict[int, tuple[str, bool, bool]] = {}  # trials told in full, and how they stood
        self._invalidated: set[tuple[int, int | None]] = set()  # invalidations (stage, tombstone) told

    def deliver(self, row: OutboxRow) -> None:
        """Mirror what the row tells of.

        Raises:
            Exception: what MLflow's client raises (`failures.classified` says what it means), or an
                error of the catalog.
        """
        if row.kind.startswith("trial_"):
            assert row.trial_id is not None
            self._trial(self._catalog.trial(row.trial_id), again=row.kind == "trial_invalid")
        elif row.kind.startswith("stage_"):
            assert row.stage_id is not None
            self._stage(row.stage_id, ended=row.kind == "stage_ended")
        else:
            self._whole_job(ended=row.kind == "job_ended")

    def take_new(self) -> dict[str, str]:
        """Mirror ids by entity, those that came up since the last call."""
        taken, self._unsaved = self._unsaved, {}
        return taken

    @property
    def doubtful(self) -> bool:
        """Whether a run may be there twice, since its creation seemed to fail."""
        return self._recorder.doubtful

    def recheck(self) -> None:
        """Look for runs that were made twice: after a creation that seemed to fail."""
        self._recorder.load_index(self._job.id)

    # Job ------------------------------------------------------------------------------------------

    def _whole_job(self, *, ended: bool) -> None:
        self._job = job = self._catalog.job(self._job.id)
        again = entity_of(job.id) in self._recorder.runs
        run_id = self._job_run()
        if not ended:
            tags = {**describe.job_tags(job), **describe.origin_tags(job)}
            self._recorder.log(run_id, describe.job_params(job), tags=tags)
            self._recorder.log_text(run_id, "job.yaml", job.text)
            if again and job.ended_at is None:
                self._recorder.set_status(run_id, "RUNNING")
        elif job.ended_at is not None:  # else it was resumed meanwhile, and will end again
            self._end_job(job, run_id)

    def _end_job(self, job: JobRow, run_id: str) -> None:
        facts = read(self._catalog, job.id)
        assert job.ended_at is not None
        tested = any(trial.test for trial in facts.chosen)
        if found := describe.datasets(job, tested=tested):
            self._recorder.log_datasets(run_id, found)
        for trial in facts.chosen[:FRONT_RUNS]:
            if self._trial_entity(trial) not in self._recorder.runs:
                self._write_trial(trial)
        models = self._models(facts)
        self._report_files(facts, run_id)
        self._note_chosen(facts, models)
        points = describe.progress_points(facts.search.progress) if facts.search else []
        points += describe.count_points([t for stage in facts.stages for t in stage.trials], job.ended_at)
        note = notes.job_note(facts, self._recorder.experiment_id, self._recorder.runs, models)
        self._recorder.log(run_id, points=points, tags={**describe.job_tags(job), NOTE: note})
        for stage in facts.stages:
            for trial in stage.trials:  # interrupted ones wait for a resume
                if trial.state == "queued" and (
                    waiting := self._recorder.runs.get(self._trial_entity(trial))
                ):
                    self._recorder.set_status(waiting, "SCHEDULED")
        self._recorder.end(run_id, describe.STATUS[job.state], ms(job.ended_at))

    def _note_chosen(self, facts: JobFacts, models: Mapping[int, str]) -> None:
        recorder = self._recorder
        for trial in facts.chosen[:FRONT_RUNS]:
            if trial.recalled_from is None and trial.attempts <= 1:  # others have a note of their own
                note = notes.chosen_note(facts, recorder.experiment_id, recorder.runs, models.get(trial.id))
                recorder.log(self._trial_run(trial), tags={NOTE: note})

    def _report_files(self, facts: JobFacts, run_id: str) -> None:
        for file in facts.artifacts.get(None, ()):
            path = Path(file.uri)
            if not file.kind.startswith("report/") or not path.is_file():
                continue  # removed since by someone; it can be written again, not sent
            if path.suffix == ".md":
                text = path.read_text(encoding="utf-8")
                linked = notes.linked_report(text, self._recorder.experiment_id, run_id)
                self._recorder.log_text(run_id, file.kind, linked)
            else:
                self._recorder.log_file(run_id, file.kind, path)

    def _job_run(self) -> str:
        job = self._job
        start = ms(job.started_at or job.created_at)
        run_id = self._recorder.create_run(
            entity_of(job.id), job.id, start, {JOB: job.id, **describe.origin_tags(job)}
        )
        return self._remember(f"job:{job.id}", run_id)

    # Stages ---------------------------------------------------------------------------------------

    def _stage(self, stage_id: int, *, ended: bool) -> None:
        self._job = self._catalog.job(self._job.id)  # the data's digest comes after the job's start
        self._stages = {row.id: row for row in self._catalog.stages(self._job.id)}
        stage = self._stages[stage_id]
        again = entity_of(self._job.id, stage.name) in self._recorder.runs
        run_id = self._stage_run(stage)
        if ended:
            if stage.ended_at is not None:
                self._end_stage(stage, run_id)
            return
        params = describe.stage_params(self._job, stage)
        self._recorder.log(run_id, params, tags=describe.stage_tags(self._job, stage))
        if found := describe.datasets(self._job):
            for target in (self._job_run(), run_id):
                self._recorder.log_datasets(target, found)
        if again and stage.ended_at is None:
            self._recorder.set_status(run_id, "RUNNING")

    def _end_stage(self, stage: StageRow, run_id: str) -> None:
        facts = next(known for known in read(self._catalog, self._job.id).stages if known.row.id == stage.id)
        assert stage.ended_at is not None
        for trial in facts.front[:FRONT_RUNS]:
            if self._trial_entity(trial) not in self._recorder.runs:
                self._write_trial(trial)
        hits = self._catalog.hits(stage.id)
        origins = self._origins(facts.trials)
        self._table(facts, run_id, hits, origins)
        points = describe.progress_points(facts.progress)
        points += describe.count_points(facts.trials, stage.ended_at)
        points += describe.diagnostic_points(stage)
        tags = describe.stage_tags(self._job, stage)
        if stage.context:
            recalled = statistics(self._catalog.engine, stage.id)
            points += describe.recall_points(recalled, stage.ended_at)
            tags[NOTE] = notes.recall_note(recalled, facts.trials, hits, origins)
        self._recorder.log(run_id, points=points, tags=tags)
        self._recorder.end(run_id, describe.STATUS[stage.state], ms(stage.ended_at))

    def _table(
        self,
        facts: StageFacts,
        run_id: str,
        hits: Mapping[int, HitRow],
        origins: Mapping[int, describe.Origin],
    ) -> None:
        known = self._recorder.runs
        runs = {t.id: known[e] for t in facts.trials if (e := self._trial_entity(t)) in known}
        buried = {hit.tombstone_id for hit in hits.values() if hit.tombstone_id is not None}
        why = reasons(self._catalog.engine, buried) if buried else {}
        columns, rows = describe.trials_table(facts, runs, hits, origins, why)
        self._recorder.log_table(run_id, "trials.json", columns, rows)

    def _origins(self, trials: Sequence[TrialRow]) -> dict[int, describe.Origin]:
        """The trials that these were recalled from, in whichever job, by their ids in the catalog."""
        ids = sorted({trial.recalled_from for trial in trials if trial.recalled_from is not None})
        sources = [row for some in chunks(ids, 500) for row in self._catalog.trials(ids=some)]
        places = {stage_id: self._catalog.place(stage_id) for stage_id in {row.stage_id for row in sources}}
        asked = [f"trial:{row.id}" for row in sources]
        asked += [f"experiment:{job_id}" for job_id, _ in set(places.values())]
        found = {**outbox.mirrors(self._catalog.engine, self.store, asked), **self._known}
        origins: dict[int, describe.Origin] = {}
        for row in sources:
            job_id, stage = places[row.stage_id]
            run_id = found.get(f"trial:{row.id}")
            link = run_url("", found[f"experiment:{job_id}"], run_id) if run_id is not None else None
            origins[row.id] = describe.Origin(entity_of(job_id, stage, row.number), run_id, link)
        return origins

    def _stage_run(self, stage: StageRow) -> str:
        start = ms(stage.started_at or self._job.started_at or self._job.created_at)
        tags = {JOB: self._job.id, PARENT: self._job_run(), **describe.origin_tags(self._job)}
        run_id = self._recorder.create_run(entity_of(self._job.id, stage.name), stage.name, start, tags)
        return self._remember(f"stage:{stage.id}", run_id)

    # Trials ---------------------------------------------------------------------------------------

    def _trial(self, trial: TrialRow, *, again: bool = False) -> None:
        over = trial.state in TERMINAL_TRIAL_STATES
        if not self._has_run(trial):
            if again:
                self._invalid_row(trial)
            return
        if over:
            if again or self._written.get(trial.id) != _standing(trial):
                self._write_trial(trial)
            return
        known = self._trial_entity(trial) in self._recorder.runs
        run_id = self._trial_run(trial)
        if known and trial.state == "running":
            self._recorder.set_status(run_id, "RUNNING")

    def _invalid_row(self, trial: TrialRow) -> None:
        """Write the stage's table and note again, once for all that one invalidation reached."""
        stage = self._stages[trial.stage_id]
        hit = self._catalog.hits(stage.id).get(trial.id)
        told = (stage.id, hit.tombstone_id if hit else None)
        if told not in self._invalidated:
            self._stage(stage.id, ended=True)
            self._invalidated.add(told)

    def _has_run(self, trial: TrialRow) -> bool:
        """Whether it is a run of its own: launched alone, or trained by turns with others."""
        if self._job.spec.get("lineage", {}).get("runs") == "all":
            return True
        if self._trial_entity(trial) in self._recorder.runs or trial.test is not None:
            return True
        batches = self._job.provenance.get("batch", {})
        return trial.attempts > 0 and batches.get(self._stages[trial.stage_id].name, 1) == 1

    def _write_trial(self, trial: TrialRow) -> None:
        files = self._catalog.artifacts_of(trial.id)
        tags = describe.trial_tags(trial, files)
        served = trace(self._catalog.engine, trial.id) if trial.class_id is not None else None
        if served is not None:
            tags.update(describe.recall_tags(served))
        for origin in self._origins([trial]).values():
            tags.update(describe.origin_tags_of(origin, served))
        if trial.attempts > 1 or trial.state in ("failed", "lost"):
            tags.update(notes.attempts_note(self._catalog.attempts(trial.id)))
        points = describe.trial_points(trial, self._catalog.reports(trial.id))
        new = self._trial_entity(trial) not in self._recorder.runs
        run_id = self._trial_run(trial, tags)
        self._recorder.log(run_id, trial.candidate, points, None if new else tags)
        for file in files:
            if Path(file.uri).suffix in SHOWN and file.size <= LARGEST_SHOWN and Path(file.uri).is_file():
                self._recorder.log_file(run_id, Path(file.uri).name, Path(file.uri))
        if trial.ended_at is not None:
            self._recorder.end(run_id, describe.STATUS[trial.state], ms(trial.ended_at))
        self._written[trial.id] = _standing(trial)

    def _trial_run(self, trial: TrialRow, told: Mapping[str, str] = MappingProxyType({})) -> str:
        """The trial's run, made with what is `told` besides if there is none yet."""
        stage = self._stages[trial.stage_id]
        tags = {
            JOB: self._job.id,
            PARENT: self._stage_run(stage),
            "orchestrate.stage": stage.name,
            **describe.stage_plugins(self._job, stage),
            **describe.origin_tags(self._job),
            **told,
        }
        start = ms(trial.started_at or trial.created_at)
        name = f"trial {trial.number}"
        run_id = self._recorder.create_run(self._trial_entity(trial), name, start, tags)
        return self._remember(f"trial:{trial.id}", run_id)

    def _trial_entity(self, trial: TrialRow) -> str:
        return entity_of(self._job.id, self._stages[trial.stage_id].name, trial.number)

    # Models ---------------------------------------------------------------------------------------

    def _models(self, facts: JobFacts) -> dict[int, str]:
        """Log supernets, and networks with links to them; give their ids by trial id.

        Networks are those of the chosen trials, and of all trials of their stage that exported one.
        A supernet is what a stage of one trial leaves as `supernet`, beside the `weights` of one of its
        networks, which `candidate` (JSON) describes.
        """
        logged: dict[int, str] = {}
        if not facts.row.provenance.get("task"):
            return logged
        sources: dict[str, str] = {}
        for stage in facts.stages:
            for trial in stage.trials if not stage.goals else ():
                if any(file.kind == "supernet" for file in facts.files(trial)):
                    logged.update(self._logged(facts, stage, trial, sources))
                    sources |= {stage.name: logged[trial.id]} if trial.id in logged else {}
        if facts.answer is not None:
            exported = [trial for trial in facts.answer.trials if _exports(facts.files(trial))]
            wanted = {trial.id: trial for trial in (*facts.chosen[:FRONT_RUNS], *exported[:FRONT_RUNS])}
            for trial in wanted.values():
                logged.update(self._logged(facts, facts.answer, trial, sources))
        return logged

    def _logged(
        self, facts: JobFacts, stage: StageFacts, trial: TrialRow, sources: Mapping[str, str]
    ) -> dict[int, str]:
        """Log a trial's network, if it left one."""
        if any(file.kind == "weights" for file in facts.files(trial)):
            try:
                return {trial.id: self._model(facts, stage, trial, sources)}
            except ArtifactError as error:  # someone moved or changed it: nothing to send
                log.warning("the network of trial %d isn't logged: %s", trial.number, error)
        return {}

    def _model(self, facts: JobFacts, stage: StageFacts, trial: TrialRow, sources: Mapping[str, str]) -> str:
        job, task = facts.row, facts.row.provenance["task"]
        space = stage.spec.space or facts.spec.space
        assert space is not None  # a stage that chooses has one
        store = ArtifactStore(Path())
        kept = {file.kind: file for file in facts.files(trial)}
        files = {WEIGHTS: store.verify(kept["weights"].uri, kept["weights"].sha256)}
        for kind, file in kept.items():
            if kind.startswith("export") or kind in ("supernet", "proof.json"):
                below = "exports/" if kind.startswith("export") else ""
                files[f"{below}{Path(file.uri).name}"] = store.verify(file.uri, file.sha256)
        candidate = trial.candidate
        if "candidate" in kept:
            chosen = store.verify(kept["candidate"].uri, kept["candidate"].sha256)
            candidate = json.loads(chosen.read_text(encoding="utf-8"))
        named = stage.spec.program.options.values()
        origin = next((name for name in named if isinstance(name, str) and name in sources), None)
        recipe = {
            "space": space.model_dump(mode="json"),
            "candidate": candidate,
            "input": task["input"],
            "classes": task["classes"],
        }
        run_id = self._trial_run(trial)
        with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
            described = Path(folder, RECIPE)
            described.write_text(json.dumps(recipe, indent=2, sort_keys=True), encoding="utf-8")
            network = NetworkFiles(
                entity=f"{self._trial_entity(trial)}/model",
                name=describe.model_name(job.name, stage.name, trial.number),
                kind=space.name,
                files={**files, RECIPE: described},
                inputs=(-1, *task["input"]),
                outputs=(-1, task["classes"]),
                params=candidate,
                tags={
                    JOB: job.id,
                    **(self._cut_from(origin, sources[origin]) if origin is not None else {}),
                    "orchestrate.trial": self._trial_entity(trial),
                    "orchestrate.digest": trial.digest,
                    "orchestrate.data": f"{task['name']} {task['digest']}",
                    "orchestrate.weights": f"sha256:{kept['weights'].sha256}",
                },
                loader=LOADER,
            )
            model_id = self._recorder.log_model(run_id, network)
        self._model_metrics(run_id, model_id, trial)
        return self._remember(f"{'model' if stage.goals else 'supernet'}:{trial.id}", model_id)

    def _cut_from(self, stage: str, model_id: str) -> dict[str, str]:
        """Tag and note that lead from a network to its supernet."""
        link = model_url("", self._recorder.experiment_id, model_id)
        note = f"Cut from [the supernet of stage {stage}]({link})."
        return {"orchestrate.supernet_model": model_id, NOTE: note}

    def _model_metrics(self, run_id: str, model_id: str, trial: TrialRow) -> None:
        assert trial.ended_at is not None
        end = ms(trial.ended_at)
        _, validation, test = describe.datasets(self._job, tested=True)
        for dataset, prefix, values in (
            (validation, "objective", trial.values or trial.metrics),
            (test, "test", trial.test or {}),
        ):
            points = [describe.Point(f"{prefix}/{name}", value, 0, end) for name, value in values.items()]
            if points:
                self._recorder.log_model_metrics(run_id, model_id, dataset, points)

    def _remember(self, entity: str, mirror_id: str) -> str:
        if self._known.get(entity) != mirror_id:
            self._known[entity] = self._unsaved[entity] = mirror_id
        return mirror_id


def _exports(files: Sequence[ArtifactRow]) -> bool:
    return any(file.kind.startswith("export") for file in files)


def _standing(trial: TrialRow) -> tuple[str, bool, bool]:
    return trial.state, trial.test is not None, trial.confirmed is not None


def grouped(rows: Sequence[OutboxRow]) -> list[tuple[OutboxRow, list[int]]]:
    """Rows that tell of the same thing as one, with all their ids: the catalog says how it ended."""
    groups: dict[tuple[str, int | None], tuple[OutboxRow, list[int]]] = {}
    for row in rows:
        kind = "trial" if row.kind.startswith("trial_") else row.kind
        key = (kind, row.trial_id if kind == "trial" else row.stage_id)
        groups.setdefault(key, (row, []))[1].append(row.id)
    return list(groups.values())
