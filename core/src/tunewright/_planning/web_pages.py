"""The pages of services for models and datasets, which people copy from a browser's address bar."""

from __future__ import annotations

import re
from typing import Final

_PART = r"[\w.-]+"
_END = r"/?(?:[?#].*)?"
# The Hub's own pages, in the place of an organisation.
_NO_ORGANISATION = (
    "api|blog|collections|docs|join|learn|login|models|organizations|papers|posts|pricing|settings|spaces|tasks"
)
# Page → URI, where a page of a part of a repository is one of the repository.
_PAGES: Final = (
    (
        rf"(?:huggingface\.co|hf\.co)/(datasets/)?((?!(?:datasets|{_NO_ORGANISATION})/){_PART}/{_PART})(?:/tree/(?:main|({_PART})))?{_END}",
        r"hf://\1\2@\3",
    ),
    (
        rf"(?:www\.)?kaggle\.com/(datasets/{_PART}/{_PART}|models/{_PART}/{_PART}/{_PART}/{_PART}(?:/\d+)?){_END}",
        r"kaggle://\1",
    ),
    (
        rf"(?:www\.)?kaggle\.com/(?:c|competitions)/({_PART})(?:/(?:data|overview|rules))?{_END}",
        r"kaggle://competitions/\1",
    ),
    (
        rf"((?:www\.)?(?:github|gitlab)\.com/{_PART}/{_PART}?)(?:\.git)?(?:(?:/-)?/tree/({_PART}))?{_END}",
        r"gitlfs+https://\1@\2",
    ),
)


def uri_of_page(url: str) -> str | None:
    """Return the URI of what a page shows; None if it is not known as one, as the URL of a file that can be downloaded."""
    page = re.sub(r"^https?://", "", url)
    if page == url:
        return None
    for pattern, uri in _PAGES:
        if match := re.fullmatch(pattern, page):
            return match.expand(uri).rstrip("@")
    return None
