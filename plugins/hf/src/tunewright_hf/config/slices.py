"""The slice of a split, as `datasets` writes it: `train[:3000]`, `train[10%:]`, `train[-500:]`."""

from __future__ import annotations

import re

import attrs

from tunewright.errors import RequestError

_SPLIT = re.compile(
    r"""
    (?P<name>[^\[\]()+]+)
    (?:\[
        (?:(?P<start>-?\d[\d_]*)(?P<start_percent>%)?)?
        \s*:\s*
        (?:(?P<stop>-?\d[\d_]*)(?P<stop_percent>%)?)?
    \])?
    (?P<rounding>\(pct1_dropremainder\))?
    """,
    re.VERBOSE,
)
_FORMS = "Write train, train[:3000], train[-500:], train[10%:] or train[:90%]"
_WHOLE = 100  # percent


@attrs.frozen(kw_only=True)
class RowSlice:
    """Some of a split's rows.

    Attributes:
        start: the first row; negative counts from the end; None is the first of all.
        stop: the row behind the last one; None is the end.
        percent: whether both are percentages of the rows.
        whole_percent: round one percent down to whole rows, so that slices of equal percentages are equally long.
    """

    start: int | None = None
    stop: int | None = None
    percent: bool = False
    whole_percent: bool = False

    @property
    def needs_total(self) -> bool:
        """Whether the rows must be counted before the slice is known."""
        return self.percent or (self.start or 0) < 0 or (self.stop or 0) < 0

    def bounds(self, total: int) -> tuple[int, int]:
        """Return the first row and the row behind the last, of so many."""
        start = 0 if self.start is None else self._rows(self.start, total)
        stop = total if self.stop is None else self._rows(self.stop, total)
        start, stop = (min(max(at + total, 0) if at < 0 else at, total) for at in (start, stop))
        return start, max(start, stop)

    def _rows(self, boundary: int, total: int) -> int:
        if not self.percent:
            return boundary
        return boundary * (total // _WHOLE) if self.whole_percent else round(boundary * total / _WHOLE)


def parse_split(text: str, field: str) -> tuple[str, RowSlice | None]:
    """Return the name of a split, and the slice of it; None for all of its rows.

    Raises:
        RequestError: the text is not a split.
    """

    def refuse(problem: str, remedy: str = f"{_FORMS}.") -> RequestError:
        return RequestError(problem, field=field, value=text, remedy=remedy)

    if "+" in text and "[" in text:
        raise refuse("names several slices", f"{_FORMS}, and one of them only.")
    found = _SPLIT.fullmatch(text)
    if found is None:
        if "[" in text or not text:
            raise refuse("is not a split or a slice of one")
        return text, None
    if "[" not in text:
        return text, None
    start, stop = (int(found[name]) if found[name] else None for name in ("start", "stop"))
    units = {bool(found[f"{name}_percent"]) for name in ("start", "stop") if found[name]}
    if len(units) > 1:
        raise refuse("counts in rows and in percent", f"{_FORMS}: both ends in rows, or both in percent.")
    part = RowSlice(start=start, stop=stop, percent=True in units, whole_percent=bool(found["rounding"]))
    if part.percent and any(abs(end) > _WHOLE for end in (start or 0, stop or 0)):
        raise refuse("has more than 100 percent")
    if not part.percent and part.whole_percent:
        raise refuse("rounds percentages, and has none", "Leave (pct1_dropremainder) out.")
    return found["name"].strip(), part
