"""`tunewright fetch`: what an init container does, by hand."""

import json
import sys

import pytest

from tunewright import FetchError, RequestError
from tunewright.cli.fetching import fetch_by_hand


def test_a_folder_is_fetched_once_and_then_known_by_its_marker(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "config.json").write_text("{}")
    for cached in (False, True):
        fetch_by_hand(source.as_uri(), target, "model", as_json=True)
        fetched = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (fetched["event"], fetched["files"], fetched["cached"]) == ("fetched", 1, cached)
    assert (target / "model" / "config.json").read_text() == "{}"
    assert (target / "model" / "complete.json").exists()
    fetch_by_hand(source.as_uri(), target, "model", as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"It is in {target / 'model'}"


def test_what_is_not_there_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(FetchError, match="missing"):
        fetch_by_hand((tmp_path / "missing").as_uri(), tmp_path / "target", "dataset", as_json=True)
    assert not (tmp_path / "target" / "dataset").exists()


def test_without_the_launcher_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tunewright_launcher.fetch", None)
    with pytest.raises(RequestError, match=r"pip install 'tunewright\[local\]'"):
        fetch_by_hand("file:///x", tmp_path / "target", "model", as_json=False)
    assert not (tmp_path / "target").exists()
