"""What several processes do at once to one catalog. Imported by the processes, so it imports little."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from orchestrate.core.candidate import Candidate
from orchestrate.core.errors import JobBusyError
from orchestrate.core.fingerprint import Key, Print
from orchestrate.storage.catalog import Catalog
from orchestrate.storage.drafts import JobDraft, Proposal, Result
from orchestrate.storage.ledger import Decision, Ledger
from orchestrate.storage.owner import this_process
from orchestrate.storage.recall import Launch, RecallPolicy, Wait

CONTEXT = "c" * 32
POLICY = RecallPolicy(CONTEXT, "catalog", frozenset({"accuracy"}))


def together(processes: int, work: Callable[..., None], *arguments: str | int) -> None:
    """Call `work(index, *arguments)` in so many processes at the same moment; all must succeed."""
    command = [sys.executable, "-m", __name__, work.__name__, str(processes), *map(str, arguments)]
    subprocess.run(command, check=True, timeout=100, env={"PYTHONPATH": ":".join(sys.path)})


def fork(processes: int, work: Callable[..., None], *arguments: str) -> int:
    """Do so in a process that has imported everything, once, and has no threads, so that it may fork."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)

    def start(index: int) -> None:
        barrier.wait(60)
        work(index, *arguments)

    made = [context.Process(target=start, args=(index,)) for index in range(processes)]
    for process in made:
        process.start()
    for process in made:
        process.join()
    return max(abs(process.exitcode or 0) for process in made)


def open_and_read(index: int, url: str) -> None:
    """Be one of the first."""
    with Catalog.open(url) as catalog:
        catalog.jobs()


def drive(index: int, url: str, trials: str) -> None:
    """Be the driver of a job that proposes the same candidates as all others."""
    with Catalog.open(url) as catalog:
        ledger = catalog.create_job(
            JobDraft(f"crowd {index}", {}, "", 0, {}, ("search",)), f"driver {index}", 60
        )
        ledger.start_job()
        [stage] = catalog.stages(ledger.job_id)
        ledger.start_stage(stage.id, CONTEXT)
        open_trials: list[int] = []
        for number in range(int(trials)):
            candidate = Candidate({"x": number})
            proposal = Proposal(number, candidate, number, Print((Key("exact", candidate.digest),)))
            [decision] = ledger.propose(stage.id, [proposal], POLICY)
            if isinstance(decision, Launch):
                scores = {"accuracy": number / int(trials)}
                ledger.finish([Result(decision.trial_id, "finished", "", scores, scores, {})])
            elif isinstance(decision, Wait):
                open_trials.append(decision.trial_id)
            ledger.heartbeat()
        until = time.monotonic() + 30
        while open_trials and time.monotonic() < until:
            decisions = ledger.reconsider(open_trials, POLICY)
            open_trials = [decision.trial_id for decision in decisions if isinstance(decision, Wait)]
        ledger.end_stage(stage.id, "finished")
        ledger.end_job("finished")
        ledger.release()


def repeat(index: int, url: str, trials: str, classes: str, evaluations: str) -> None:
    """Drive a job whose candidates fall into a few classes, each trained so often, with two slots."""
    policy = replace(POLICY, evaluations=int(evaluations))
    chance = random.Random(index)
    with Catalog.open(url) as catalog:
        ledger = catalog.create_job(JobDraft(f"crowd {index}", {}, "", 0, {}, ("s",)), f"driver {index}", 60)
        ledger.start_job()
        [stage] = catalog.stages(ledger.job_id)
        ledger.start_stage(stage.id, CONTEXT)
        running: list[int] = []
        parked: list[int] = []
        number = 0
        until = time.monotonic() + 90
        while (number < int(trials) or running or parked) and time.monotonic() < until:
            decisions: list[Decision] = []
            if len(running) < 2:
                if parked:
                    decisions += ledger.reconsider(parked, policy)
                    parked = []
                if number < int(trials):
                    which = chance.randrange(int(classes))
                    candidate = Candidate({"x": number, "class": which})
                    made = Print((Key("functional", f"{which:x}"),), (float(which),))
                    decisions += ledger.propose(stage.id, [Proposal(number, candidate, number, made)], policy)
                    number += 1
            running += [one.trial_id for one in decisions if isinstance(one, Launch)]
            parked += [one.trial_id for one in decisions if isinstance(one, Wait)]
            if running and (len(running) == 2 or number == int(trials) or chance.random() < 0.5):
                scores = {"accuracy": chance.random()}
                ledger.finish([Result(running.pop(0), "finished", "", scores, scores, {})])
        ledger.end_stage(stage.id, "finished")
        ledger.end_job("finished")
        ledger.release()


def lead_and_die(index: int, url: str, owner: str) -> None:
    """Launch a trial of a class, and be killed while it runs."""
    catalog = Catalog.open(url)
    owner = this_process() if owner == "this process" else owner
    ledger = catalog.create_job(JobDraft("dead", {}, "", 0, {}, ("s",)), owner, 600.0)
    ledger.start_job()
    [stage] = catalog.stages(ledger.job_id)
    ledger.start_stage(stage.id, CONTEXT)
    made = Print((Key("functional", "f"),))
    [decision] = ledger.propose(stage.id, [Proposal(0, Candidate({"x": 0}), 0, made)], POLICY)
    assert isinstance(decision, Launch)
    os.kill(os.getpid(), signal.SIGKILL)


def provenance(index: int, url: str, job_id: str, token: str, times: str) -> None:
    """Read, change and write one row, again and again."""
    with Catalog.open(url) as catalog:
        ledger = Ledger(catalog, job_id, int(token), 60)
        for number in range(int(times)):
            ledger.set_provenance(**{f"{index}-{number}": 1})


def take(index: int, url: str, job_id: str) -> None:
    """Try to take a job; whoever succeeds starts it."""
    with Catalog.open(url) as catalog:
        try:
            catalog.take_job(job_id, f"driver {index}", 60).start_job()
        except JobBusyError:
            return


if __name__ == "__main__":
    sys.exit(fork(int(sys.argv[2]), globals()[sys.argv[1]], *sys.argv[3:]))
