"""How recall is shown: a stage's statistics, a comparison of two trials, the sources of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from .console import table
from .words import number, pairs, plural, seconds

if TYPE_CHECKING:
    from ..scheduler.compare import Comparison
    from ..storage.models import TrialRow
    from ..storage.recall import Served, Statistics

BARS = " ▁▂▃▄▅▆▇█"


def print_statistics(out: Console, found: Statistics) -> None:
    """Print one stage's statistics."""
    rate = found.hits / found.proposals if found.proposals else 0.0
    out.print(
        f"Stage {found.stage}, job {found.job_id}: {plural(found.proposals, 'proposal')}, "
        f"{plural(found.trainings, 'training')}, {plural(found.hits, 'hit')} ({rate:.1%})"
    )
    shown = table("answered by", "hits", "share", "saved", right=("hits", "share", "saved"))
    for tier, count in found.by_tier.items():
        share = f"{count / found.proposals:.1%}"
        shown.add_row(tier, f"{count:,}", share, seconds(found.saved_seconds.get(tier, 0.0)))
    if found.by_tier:
        out.print(shown)
    net = found.net_seconds
    signed = seconds(net) if net >= 0 else f"-{seconds(-net)}"
    bars = "".join(BARS[round(rate * (len(BARS) - 1))] for _, rate in found.curve)
    lines = {
        "misses": f"{found.misses:,}, and {found.partial:,} more trainings of known classes",
        "hashing": f"{seconds(found.hash_seconds)}; saved net of it {signed}",
        "waiting": seconds(found.waited_seconds) if found.waited_seconds else "",
        "hit rate": f"{bars} over the proposals" if bars.strip() else "",
        "classes": f"{found.classes:,}; "
        + ", ".join(f"{count:,} of {plural(size, 'trial')}" for size, count in found.sizes.items()),
        "degenerate": ", ".join(f"{token}: {plural(n, 'trial')}" for token, n in found.degenerate.items()),
        "refused": f"{found.refused:,} that would have failed" if found.refused else "",
        "missed by the hash": _missed(*found.false_negatives),
        "audits": _audits(found),
        "invalid": f"{plural(found.invalid, 'hit')} whose source was invalidated" if found.invalid else "",
        "namespace": found.memory,
    }
    for label, text in lines.items():
        if text:
            out.print(f"  {label:<18} {text}")
    out.print()


def _missed(split: int, checked: int) -> str:
    return f"{split:,} of {checked:,} that a structural key proved equal" if checked else ""


def _audits(found: Statistics) -> str:
    audit = found.audit
    if not found.audited and not audit.audited:
        return ""
    text = f"{audit.wrong:,} of {audit.audited:,} merges wrong (95 %: {audit.low:.2%} to {audit.high:.2%})"
    if audit.tolerance is None:
        text += "; too few to know the noise of an evaluation"
    return text + (f"; {audit.quarantined} classes in quarantine" if audit.quarantined else "")


def print_comparison(out: Console, found: Comparison, a: str, b: str) -> None:
    """Print whether two trials share results."""
    verdict = "share results" if found.equal else "don't share results"
    out.print(f"{a} and {b} {verdict}: {found.reason}.")
    ours, theirs = found.prints
    shown = table("tier", a, b, "")
    for tier in dict.fromkeys(key.tier for made in found.prints for key in made.keys):
        keys = [next((key for key in made.keys if key.tier == tier), None) for made in (ours, theirs)]
        names = [set(key.names) if key else set[str]() for key in keys]
        same = "equal" if names[0] & names[1] else "different"
        shown.add_row(tier, *(key.digest[:16] if key else "-" for key in keys), same)
    for index in range(max(len(ours.signature), len(theirs.signature))):
        if index in (found.output, 0) or index < 4:
            cells = [
                made.signature[index] if index < len(made.signature) else None for made in (ours, theirs)
            ]
            shown.add_row(
                f"output {index}",
                *("-" if cell is None else f"{cell:.12g}" for cell in cells),
                "<" if index == found.output else "",
            )
    out.print(shown)
    for note in found.notes:
        out.print(note)


def print_trace(out: Console, found: Served, trial: TrialRow) -> None:
    """Print what a trial's score is made of."""
    if found.values is not None and not found.audited:
        out.print(
            f"Trial #{trial.number} was answered by a match of tier {found.tier}: {pairs(found.values)}"
        )
    elif found.audited:
        out.print(f"Trial #{trial.number} matched by tier {found.tier}, and was trained as an audit.")
    else:
        out.print(f"Trial #{trial.number} is {trial.state}: {trial.reason or 'it ran by itself'}")
    lines = {
        "class": f"{found.class_id} ({found.state}{f', {found.token}' if found.token else ''}), "
        f"{plural(found.members, 'trial')}, {plural(found.hits, 'hit')}",
        "audit": f"differs by {pairs(found.differences)}" if found.differences else "",
        "hashing": seconds(found.hash_seconds),
        "saved": seconds(found.saved_seconds) if found.saved_seconds else "",
        "waited": seconds(found.waited_seconds) if found.waited_seconds else "",
        "invalid": found.invalid or "",
    }
    for label, text in lines.items():
        if text:
            out.print(f"  {label:<8} {text}")
    shown = table("evaluation", "trial", "candidate", "status", "values", "ran", "")
    for source in found.sources:
        shown.add_row(
            str(source.evaluation_id),
            f"{source.job_id}/{source.stage}/{source.number}",
            "equal" if source.equal else "another",
            source.status,
            " ".join(f"{name}={number(value)}" for name, value in source.values.items()),
            seconds(source.seconds),
            source.invalid or ("served" if source.served else ""),
        )
    out.print(shown)
