"""Providers that download by themselves: only the engine continues what it has."""

from pathlib import Path

import attrs
import pytest

from tunewright import DatasetProvider, ExitCode, FetchError
from tunewright.providers.wire import WireDocument
from tunewright_launcher.fetch import fetch_into

DOCUMENT = WireDocument(kind="dataset", provider="acme", distribution="tunewright-acme", version="1.0", params={})


@attrs.frozen(kw_only=True)
class Data(DatasetProvider):
    """Writes a file, and then does what it is told to."""

    raises: BaseException | None = None
    links: bool = False

    def download_dataset(self, target: Path) -> None:
        (target / "deep").mkdir()
        (target / "deep" / "partial.txt").write_text("a part")
        if self.links:
            (target / "link").symlink_to("/etc/hostname")
        if self.raises:
            raise self.raises


FAULTS = [
    Data(uri="acme://x", raises=FetchError("No.", remedy="None.", code=ExitCode.NOT_FOUND)),
    Data(uri="acme://x", raises=SystemExit(3)),
    Data(uri="acme://x", links=True),
]


@pytest.mark.parametrize("provider", FAULTS, ids=["refused", "ended", "a link"])
def test_a_failed_download_leaves_nothing(provider: Data, tmp_path: Path) -> None:
    with pytest.raises((FetchError, SystemExit)):
        fetch_into(provider, DOCUMENT, tmp_path, "dataset", lambda _: None)
    assert list(tmp_path.rglob("*")) == []


def test_it_is_tried_again_from_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FetchError):
        fetch_into(FAULTS[0], DOCUMENT, tmp_path, "dataset", lambda _: None)
    fetch_into(Data(uri="acme://x"), DOCUMENT, tmp_path, "dataset", lambda _: None)
    assert (tmp_path / "dataset" / "deep" / "partial.txt").read_text() == "a part"
    assert not (tmp_path / ".staging").exists()
