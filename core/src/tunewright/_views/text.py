"""Events and statuses as sentences for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunewright.events import Event, Json
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus
from tunewright.status.summary import Summary

if TYPE_CHECKING:
    from tunewright.status.report import JobReport

CommandFor = Callable[[str], str]
"""A command → what to type to do that with the job; see `Backend.command_for`."""

_WAITING = (JobState.CREATED, JobState.QUEUED, JobState.RESTARTING)


def describe(event: Event, summary: Summary) -> str | None:  # noqa: PLR0911 - a table: a line for each event
    """An event as a line for people; None where there is nothing to say."""
    match event:
        case {"event": "fetched", "item": item, "files": files, "bytes": int(size)}:
            how = "is there already" if event.get("cached") else "fetched"
            return f"{item}: {how}, {files} files, {size_text(size)}"
        case {"event": "uploaded", "item": item, "uri": uri, "files": files, "bytes": int(size)}:
            return f"{item}: uploaded to {uri}, {files} files, {size_text(size)}"
        case {"event": "start"}:
            resumed = f", resumed from step {summary.resumed_from}" if summary.resumed_from else ""
            return f"training: {_known(summary.total_steps)} steps on {event.get('world_size', 1)} processes{resumed}"
        case {"event": "step"}:
            return f"step {summary.step}/{_known(summary.total_steps)}: {_step_note(summary)}"
        case {"event": "eval", "eval_loss": float(loss)}:
            right = event.get("eval_accuracy")
            more = f", accuracy {right:.4f}" if isinstance(right, float) else ""
            return f"evaluation at step {event.get('step', summary.step)}: loss {loss:.4f}{more}"
        case {"event": "checkpoint", "step": step}:
            return f"checkpoint at step {step}"
        case {"event": "attempt", "attempt": int(attempt), "limit": limit} if attempt > 1:
            return f"workers start again: attempt {attempt} of {limit}"
    return None


def describe_state(status: JobStatus) -> str:
    """Where a job is, as a line for people."""
    text = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    return f"{text} (pods: {pods_text(status)})" if status.pods else text


def pods_text(status: JobStatus) -> str:
    """What a job's pods are at: "2 train, 1 fetch-model"."""
    return ", ".join(f"{number} {at}" for at, number in status.pods.items())


def ending(status: JobStatus, summary: Summary, command_for: CommandFor) -> list[str]:
    """How the job ended, as lines for people."""
    if status.state is JobState.SUCCEEDED:
        return _success(status, summary)
    if status.state is JobState.SUSPENDED:
        go_on = f"Go on from its newest checkpoint: {command_for('resume')}"
        detail = status.detail if "tunewright resume" in status.detail else f"{status.detail} {go_on}".strip()
        return [f"{status.name} is suspended. {detail}"]
    return [f"{status.name} {status.state.lower()}: {status.detail}", f"Its log: {command_for('logs')}"]


def _success(status: JobStatus, summary: Summary) -> list[str]:
    lines = [f"{status.name} succeeded."]
    if status.result:
        lines.append(f"model: {status.result}")
    if summary.loss_reduction is not None:
        lines.append(
            f"loss: {summary.first_loss:.4f} at first, {summary.last_loss:.4f} at last ({-summary.loss_reduction:+.0%})"
        )
    if summary.eval_loss is not None:
        lines.append(f"evaluation loss: {summary.eval_loss:.4f}")
    for prompt, text in summary.samples.items():
        lines += [f"asked: {prompt}", f"answered: {text}"]
    return lines


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _step_note(summary: Summary) -> str:
    parts = []
    if summary.last_loss is not None:
        parts.append(f"loss {summary.last_loss:.4f}")
    if summary.tokens_per_second is not None:
        parts.append(f"{summary.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def size_text(count: float) -> str:
    """A number of bytes, for people."""
    from rich.filesize import decimal

    return decimal(int(count))


def as_json(value: Json) -> str:
    """One line of JSON, for what is not an event."""
    return json.dumps(value, ensure_ascii=False)


def facts(report: JobReport) -> dict[str, str]:
    """What people want to know first, as texts; what is not known is not there."""
    status, record = report.status, report.record
    last, evaluation = (points[-1] if points else {} for points in (report.steps, report.evaluations))
    found: dict[str, object] = {
        "state": f"{status.state} {status.detail}".strip(),
        "started": status.started,
        "took": f"{report.seconds:,.0f} s" if report.seconds is not None else None,
        "result": status.result,
        "workers": f"{record.workers}, with {record.processes} processes each",
        "attempts": report.attempts or None,
        "steps": f"{last['step']:,.0f}" if last else None,
        "loss": f"{report.steps[0]['loss']:.4f} → {last['loss']:.4f}" if _has_loss(report.steps) else None,
        "evaluation loss": f"{evaluation['eval_loss']:.4f}" if "eval_loss" in evaluation else None,
        "speed": _speed(report.steps),
        "downloads": ", ".join(_download_text(row) for row in download_rows(report)) or None,
        "images": ", ".join(dict.fromkeys(record.images.values())) or None,
        "versions": ", ".join(f"{dist} {version}" for dist, version in report.versions.items()) or None,
    }
    return {title: str(value) for title, value in found.items() if value is not None}


def _has_loss(steps: Sequence[Mapping[str, float]]) -> bool:
    return bool(steps) and "loss" in steps[0] and "loss" in steps[-1]


def _speed(steps: Sequence[Mapping[str, float]]) -> str | None:
    rates = sorted(step["tokens_per_second"] for step in steps if "tokens_per_second" in step)
    return f"{rates[len(rates) // 2]:,.0f} tokens/s (median)" if rates else None


def download_rows(report: JobReport) -> list[tuple[str, str, str, str]]:
    """One row for each input of a worker: its name, files, size and rate."""
    return [
        (
            f"{d.item} (worker {d.worker})" if d.worker else d.item,
            f"{d.files} files",
            size_text(d.bytes),
            f"{size_text(d.rate)}/s" if d.rate else "was there already",
        )
        for d in report.downloads
    ]


def _download_text(row: tuple[str, str, str, str]) -> str:
    item, _, size, how = row
    return f"{item}: {size}, {how}"
