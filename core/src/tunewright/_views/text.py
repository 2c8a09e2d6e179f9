"""Events, statuses and reports as text for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tunewright.events import (
    Attempt,
    Checkpoint,
    Data,
    Eval,
    Event,
    Fetched,
    Json,
    Phase,
    Progress,
    Retry,
    Start,
    Step,
    Uploaded,
)
from tunewright.status.state import JobState
from tunewright.status.status import JobStatus
from tunewright.status.summary import Summary, phase_text, retry_text

if TYPE_CHECKING:
    from tunewright.status.report import JobReport

CommandFor = Callable[[str], str]
"""A command of `tunewright` → what to type to run it on the job; see `Backend.command_for`."""

WAITING = (JobState.CREATED, JobState.QUEUED, JobState.RESTARTING)


def describe(event: Event, summary: Summary) -> str | None:  # noqa: PLR0911 - a table: a line for each event
    """Describe an event in one line; None for those that are not worth one."""
    match event:
        case Phase() | Retry() | Progress() | Attempt():
            return _doing(event)
        case Fetched():
            how = "is there already" if event.cached else "fetched"
            return f"{event.slot}: {how}, {counted(event.files, 'file')}, {size_text(event.bytes)}"
        case Uploaded():
            return f"{event.item}: uploaded to {event.uri}, {counted(event.files, 'file')}, {size_text(event.bytes)}"
        case Start():
            resumed = f", resumed from step {summary.resumed_from}" if summary.resumed_from else ""
            steps, processes = counted(summary.total_steps, "step"), counted(event.world_size, "process", "processes")
            return f"training: {steps} on {processes}{resumed}"
        case Data() if event.dropped:
            return f"{event.split}: {_rows_text(event.to_dict())}"
        case Step():
            return f"step {summary.step}/{_known(summary.total_steps)}: {step_note(summary)}"
        case Eval(eval_loss=float(loss)):
            more = f", accuracy {event.eval_accuracy:.4f}" if event.eval_accuracy is not None else ""
            return f"evaluation at step {summary.step if event.step is None else event.step}: loss {loss:.4f}{more}"
        case Checkpoint():
            return f"checkpoint at step {event.step}"
    return None


def _doing(event: Phase | Retry | Progress | Attempt) -> str:
    match event:
        case Phase():
            return phase_text(event)
        case Retry():
            return retry_text(event)
        case Progress():
            of = f" of {size_text(event.total)}" if event.total else ""
            return f"{event.slot}: {size_text(event.done)}{of}"
        case Attempt() if event.attempt > 1:
            again = f"workers start again: attempt {event.attempt} of {_known(event.limit)}"
            return f"{again}. {event.after}" if event.after else again
    return "starting the worker processes"


def describe_state(status: JobStatus) -> str:
    """Describe a job's state in one line."""
    text = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    return f"{text} (pods: {pods_text(status)})" if status.pods else text


def pods_text(status: JobStatus) -> str:
    """Describe what a job's pods are doing: "2 train, 1 fetch-model"."""
    return ", ".join(f"{number} {doing}" for doing, number in status.pods.items())


def ending(
    status: JobStatus, summary: Summary, command_for: CommandFor, next_commands: Sequence[str] = ()
) -> list[str]:
    """Describe how the job ended, in lines, and what to type next."""
    if status.state is JobState.SUCCEEDED:
        following = ["next:", *(f"  {command}" for command in next_commands)] if next_commands else []
        return [*_success(status, summary), *following]
    if status.state is JobState.SUSPENDED:
        why = f"{status.detail} " if status.detail else ""
        return [f"{status.name} is suspended. {why}{resume_hint(command_for)}"]
    return [f"{status.name} {status.state.lower()}: {status.detail}", f"Its log: {command_for('logs')}"]


def resume_hint(command_for: CommandFor) -> str:
    """Say how a suspended job is resumed."""
    return f"Continue from its newest checkpoint: {command_for('resume')}"


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


def _rows_text(counts: Mapping[str, Json]) -> str:
    """Describe how many rows of a split are used, and why the others are not."""
    rows, dropped, reasons = (counts.get(key) for key in ("rows", "dropped", "reasons"))
    if not dropped:
        return counted(int(str(rows)), "row")
    ordered = sorted(reasons.items(), key=lambda item: -int(str(item[1]))) if isinstance(reasons, dict) else []
    why = "; ".join(f"{count} {reason}" for reason, count in ordered)
    return f"{dropped:,} of {rows:,} rows dropped{f' ({why})' if why else ''}"


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def step_note(summary: Summary) -> str:
    """Describe loss and speed at the last step."""
    parts = []
    if summary.last_loss is not None:
        parts.append(f"loss {summary.last_loss:.4f}")
    if summary.tokens_per_second is not None:
        parts.append(f"{summary.tokens_per_second:,.0f} tokens/s")
    return ", ".join(parts)


def counted(count: int | None, one: str, several: str | None = None) -> str:
    """Return a number of things: "1 file", "1,200 files", or "? files" where it is not known."""
    number = "?" if count is None else f"{count:,}"
    return f"{number} {one if count == 1 else several or f'{one}s'}"


def size_text(count: float) -> str:
    """Format a number of bytes."""
    from rich.filesize import decimal

    return decimal(int(count))


def duration_text(seconds: float | None) -> str:
    """Format seconds with the two largest units: "2 h 5 min"; "" for None."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    amounts = {"d": whole // 86400, "h": whole // 3600 % 24, "min": whole // 60 % 60, "s": whole % 60}
    units = list(amounts)
    first = next((i for i, unit in enumerate(units) if amounts[unit]), len(units) - 1)
    shown = [f"{amounts[unit]} {unit}" for unit in units[first : first + 2] if amounts[unit]]
    return " ".join(shown) or "0 s"


def as_json(value: Json) -> str:
    """Format a value that is not an event as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def facts(report: JobReport) -> dict[str, str]:
    """Return what people want to know first, as title → text; what is unknown is left out."""
    status, record = report.status, report.record
    last, evaluation = (points[-1] if points else {} for points in (report.steps, report.evaluations))
    found: dict[str, object] = {
        "state": f"{status.state} {status.detail}".strip(),
        "started": status.started,
        "took": duration_text(report.seconds) or None,
        "result": status.result,
        "workers": f"{record.workers}, with {counted(record.processes, 'process', 'processes')} each",
        "attempts": report.attempts or None,
        "data": "; ".join(f"{split}: {_rows_text(counts)}" for split, counts in report.data.items()) or None,
        "steps": f"{last['step']:,.0f}" if last else None,
        "loss": f"{report.steps[0]['loss']:.4f} → {last['loss']:.4f}" if _has_loss(report.steps) else None,
        "evaluation loss": f"{evaluation['eval_loss']:.4f}" if "eval_loss" in evaluation else None,
        "datasets": "; ".join(source_rows(report)) or None,
        "speed": _speed(report.steps),
        **_measured(report.steps),
        "downloads": ", ".join(_download_text(row) for row in download_rows(report)) or None,
        "images": ", ".join(dict.fromkeys(record.images.values())) or None,
        "device": _device(report.environment),
        "versions": ", ".join(f"{name} {version}" for name, version in _versions(report).items()) or None,
    }
    return {title: str(value) for title, value in found.items() if value is not None}


def _device(environment: Mapping[str, Json]) -> str | None:
    match environment:
        case {"device": str(device), "devices": int(devices)} if devices > 1:
            return f"{devices} × {device}"  # noqa: RUF001 - the sign
        case {"device": str(device)}:
            return device
    return None


def _versions(report: JobReport) -> dict[str, object]:
    libraries = report.environment.get("libraries")
    return {**report.versions, **(libraries if isinstance(libraries, dict) else {})}


def source_rows(report: JobReport) -> list[str]:
    """Describe what was trained on of each dataset of a mixture."""
    return [
        f"{name} {source.share_of_samples:.1%} of the samples, {source.share_of_tokens:.1%} of the tokens"
        + (f", loss {source.first_loss:.4f} → {source.last_loss:.4f}" if source.last_loss is not None else "")
        + (f", evaluation loss {source.eval_loss:.4f}" if source.eval_loss is not None else "")
        for name, source in report.sources.items()
    ]


def _has_loss(steps: Sequence[Mapping[str, float]]) -> bool:
    return bool(steps) and "loss" in steps[0] and "loss" in steps[-1]


def _speed(steps: Sequence[Mapping[str, float]]) -> str | None:
    rates = sorted(step["tokens_per_second"] for step in steps if "tokens_per_second" in step)
    return f"{rates[len(rates) // 2]:,.0f} tokens/s (median)" if rates else None


def _measured(steps: Sequence[Mapping[str, float]]) -> dict[str, str | None]:
    """Return the memory, MFU, wait for data and gradient norm, as title → text; None where they were not measured."""

    def sorted_(key: str) -> list[float]:
        return sorted(step[key] for step in steps if key in step)

    def median(key: str, form: str) -> str | None:
        values = sorted_(key)
        return f"{format(values[len(values) // 2], form)} (median)" if values else None

    memory = sorted_("peak_memory_bytes")
    return {
        "peak memory": size_text(memory[-1]) if memory else None,
        "MFU": median("mfu", ".1%"),
        "data wait": median("data_wait", ".1%"),
        "gradient norm": median("grad_norm", ".4g"),
    }


def download_rows(report: JobReport) -> list[tuple[str, str, str, str]]:
    """One row for each input of a worker: its name, files, size and rate."""
    return [
        (
            f"{d.slot} (worker {d.worker})" if d.worker else d.slot,
            counted(d.files, "file"),
            size_text(d.bytes),
            f"{size_text(d.rate)}/s" if d.rate else "was there already",
        )
        for d in report.downloads
    ]


def _download_text(row: tuple[str, str, str, str]) -> str:
    slot, _, size, how = row
    return f"{slot}: {size}, {how}"
