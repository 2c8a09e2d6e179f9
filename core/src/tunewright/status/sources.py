"""What a training measured of each dataset of a mixture, from its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

Sources = Mapping[str, Mapping[str, float]]
"""Measurements of the datasets of a mixture: name → measure → value."""


@attrs.frozen(kw_only=True)
class SourceReport:
    """What was trained on of one dataset of a mixture.

    Attributes:
        samples: number of samples, in all logged steps.
        tokens: tokens of these.
        share_of_samples: share of all samples, from 0 to 1.
        share_of_tokens: share of all tokens.
        first_loss: its loss in the first step that was logged.
        last_loss: its loss in the last one.
        eval_loss: its loss in the last evaluation.
    """

    samples: int = 0
    tokens: int = 0
    share_of_samples: float = 0.0
    share_of_tokens: float = 0.0
    first_loss: float | None = None
    last_loss: float | None = None
    eval_loss: float | None = None


def numbers_of(sources: object) -> Sources:
    """Return the numbers of each dataset; any trainer sends events, so they may be something else."""
    given = sources if isinstance(sources, Mapping) else {}
    return {
        name: {m: v for m, v in measured.items() if isinstance(v, int | float)}
        for name, measured in given.items()
        if isinstance(measured, Mapping)
    }


def source_reports(by_step: Mapping[int, Sources], evaluations: Mapping[int, Sources]) -> dict[str, SourceReport]:
    """Return what was trained on of each dataset, from the measurements of each step and each evaluation."""
    steps, evaluated = ([found[n] for n in sorted(found)] for found in (by_step, evaluations))
    names = list(dict.fromkeys(name for step in steps for name in step))
    total = {m: int(sum(s[n].get(m, 0) for s in steps for n in s)) for m in ("samples", "tokens")}
    return {name: _report(name, steps, evaluated, total) for name in names}


def _report(
    name: str, steps: Sequence[Sources], evaluations: Sequence[Sources], total: Mapping[str, int]
) -> SourceReport:
    own = [step[name] for step in steps if name in step]
    losses = [measured["loss"] for measured in own if "loss" in measured]
    evaluated = [found[name]["loss"] for found in evaluations if "loss" in found.get(name, {})]
    samples, tokens = (int(sum(measured.get(m, 0) for measured in own)) for m in total)
    return SourceReport(
        samples=samples,
        tokens=tokens,
        share_of_samples=samples / max(total["samples"], 1),
        share_of_tokens=tokens / max(total["tokens"], 1),
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        eval_loss=evaluated[-1] if evaluated else None,
    )
