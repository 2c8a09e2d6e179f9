"""Pages of services: whoever copies one from a browser is told the URI, and files that can be downloaded stay URLs."""

import pytest

from tunewright._planning.web_pages import meant_by_page

PAGES = {
    "https://huggingface.co/org/name": "hf://org/name",
    "https://huggingface.co/org/na-me.v2_x/": "hf://org/na-me.v2_x",
    "https://huggingface.co/org/name?library=transformers": "hf://org/name",
    "https://huggingface.co/org/name/tree/main": "hf://org/name",
    "https://huggingface.co/org/name/tree/v1.0": "hf://org/name@v1.0",
    "https://hf.co/datasets/org/name#rows": "hf://datasets/org/name",
    "https://huggingface.co/org/name/blob/main/model-00001.safetensors": "hf://org/name with allow_patterns 'model-00001.safetensors'",
    "https://huggingface.co/datasets/org/name/blob/v2/data/a b.csv?raw=true": "hf://datasets/org/name@v2 with allow_patterns 'data/a b.csv'",
    "https://www.kaggle.com/datasets/owner/name/data?select=a.csv": "kaggle://datasets/owner/name",
    "https://github.com/org/repo/blob/main/data/rows.jsonl": "https://github.com/org/repo/raw/main/data/rows.jsonl",
    "https://gitlab.com/org/repo/-/blob/dev/rows.jsonl?ref_type=heads": "https://gitlab.com/org/repo/-/raw/dev/rows.jsonl",
    "https://www.kaggle.com/datasets/owner/name": "kaggle://datasets/owner/name",
    "https://www.kaggle.com/models/owner/model/transformers/2b/3": "kaggle://models/owner/model/transformers/2b/3",
    "https://www.kaggle.com/competitions/titanic/data": "kaggle://competitions/titanic",
    "https://kaggle.com/c/titanic": "kaggle://competitions/titanic",
    "https://github.com/org/repo": "gitlfs+https://github.com/org/repo",
    "https://github.com/org/repo.git": "gitlfs+https://github.com/org/repo",
    "https://gitlab.com/org/repo/-/tree/dev": "gitlfs+https://gitlab.com/org/repo@dev",
}
NO_PAGES = [
    "https://github.com/org/repo/raw/main/data/rows.jsonl",
    "https://huggingface.co/org/name/resolve/main/model.safetensors",
    "https://huggingface.co/docs/transformers",
    "https://huggingface.co/spaces/org/name",
    "https://huggingface.co/org",
    "https://github.com/org/repo/releases/download/v1/model.tar.gz",
    "https://github.com/org/repo/archive/refs/heads/main.zip",
    "https://example.org/org/name",
    "https://huggingface.co.example.org/org/name",
    "hf://org/name",
]


@pytest.mark.parametrize(("page", "uri"), PAGES.items())
def test_a_page_has_a_uri(page: str, uri: str) -> None:
    assert meant_by_page(page) == uri


@pytest.mark.parametrize("url", NO_PAGES)
def test_what_can_be_downloaded_is_no_page(url: str) -> None:
    assert meant_by_page(url) is None
