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
_HUB = rf"(?:huggingface\.co|hf\.co)/(datasets/)?((?!(?:datasets|{_NO_ORGANISATION})/){_PART}/{_PART})"
_GIT = rf"((?:www\.)?(?:github|gitlab)\.com/{_PART}/{_PART}?)(?:\.git)?"
_KAGGLE = r"(?:www\.)?kaggle\.com"
_FILE = r"([^?#]+)"
# Page → what to write, where a page of a part of a repository is one of the repository.
_PAGES: Final = (
    (rf"{_HUB}(?:/tree/(?:main|({_PART})))?{_END}", r"hf://\1\2@\3"),
    (rf"{_HUB}/blob/(?:main|({_PART}))/{_FILE}{_END}", r"hf://\1\2@\3 with allow_patterns '\4'"),
    (
        rf"{_KAGGLE}/(datasets/{_PART}/{_PART})(?:/(?:data|code|discussion|settings|suggestions|versions))?{_END}",
        r"kaggle://\1",
    ),
    (rf"{_KAGGLE}/(models/{_PART}/{_PART}/{_PART}/{_PART}(?:/\d+)?){_END}", r"kaggle://\1"),
    (
        rf"{_KAGGLE}/(?:c|competitions)/({_PART})(?:/(?:data|overview|rules))?{_END}",
        r"kaggle://competitions/\1",
    ),
    (rf"{_GIT}(?:(?:/-)?/tree/({_PART}))?{_END}", r"gitlfs+https://\1@\2"),
    (rf"{_GIT}((?:/-)?)/blob/({_PART})/{_FILE}{_END}", r"https://\1\2/raw/\3/\4"),
)


def meant_by_page(url: str) -> str | None:
    """Return what to write for what a page shows: its URI, with what selects a single file.

    None if it is not known as a page, as the URL of a file that can be downloaded.
    """
    page = re.sub(r"^https?://", "", url)
    if page == url:
        return None
    for pattern, meant in _PAGES:
        if match := re.fullmatch(pattern, page):
            return re.sub(r"@(?= |$)", "", match.expand(meant))
    return None
