"""Samples as a trainer sees them."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Preview:
    """A sample of the dataset, as the trainer sees it.

    Attributes:
        pieces: the text of the sample in pieces, each with whether it is supervised (counts in the loss).
        tokens: number of tokens in the sample.
        supervised: number of supervised tokens.
        cut: number of tokens that were cut off because the sample was too long.
        about: how the dataset is read (format, columns used and ignored); in the first sample only.
        left_out: what the sample says that is not trained on, such as thoughts that the chat template leaves out; "" if nothing.
    """

    pieces: tuple[tuple[str, bool], ...]
    tokens: int
    supervised: int
    cut: int = 0
    about: str = ""
    left_out: str = ""
