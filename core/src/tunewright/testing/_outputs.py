"""Tests of outputs: a result is uploaded, listed, downloaded and removed for real."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import pytest

from tunewright._kit.store import BESIDE
from tunewright.environment import OUTPUT_SLOT
from tunewright.plugins.registry import Plugin
from tunewright.providers.base import SourceProvider
from tunewright.providers.outputs import OutputTarget
from tunewright.runner.checkpoints import MARKER
from tunewright.testing._pod import Pod, ask_elsewhere, check_printed, document_of, literals, with_wrong_secrets
from tunewright.testing._providers import PluginTests
from tunewright.testing._sources import check_refusal, need_secret

_RESULT = {"config.json": b'{"layers": 1}', "weights/part-1.bin": b"1" * 70_000, "weights/part 2.bin": b"2" * 50}


@attrs.frozen(kw_only=True)
class Written:
    """A service that can be written to during a test.

    Attributes:
        provider: the output, with secrets that may write. There is nothing below its URI.
        contents: returns what the service has below the URI: path → contents. None if only the provider can say.
        checks_secrets: whether the service refuses wrong secrets.
        beside: another output of the same service, with nothing in it, such as that of a longer URI: it has to stay as it is.
        own_files: paths of files that the service itself adds, as a Hub adds ".gitattributes".
        folder: the folder that the output is, if it is one of this machine.
    """

    provider: SourceProvider
    contents: Callable[[], Mapping[str, bytes]] | None = None
    checks_secrets: bool = True
    beside: SourceProvider | None = None
    own_files: Collection[str] = attrs.field(default=(), converter=frozenset)
    folder: Path | None = None

    def elsewhere(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are not in the output's own folder."""
        return [path for path in paths if self.folder is None or not Path(path).is_relative_to(self.folder)]


class OutputTargetTests(PluginTests):
    """Tests for a model provider that results are uploaded to: derive from it besides `ModelProviderTests`.

    Give the fixture `written`, with a service that is there, and nothing below the provider's URI.
    """

    kind: ClassVar[str] = "model"

    @pytest.fixture
    def written(self) -> Written:
        """Return an output whose service is there. Override it."""
        self.need_container()
        pytest.fail(
            f"{type(self).__name__} has no fixture `written`: yield a Written(provider=…) with a service that is there."
        )

    def test_the_class_is_an_output(self, written: Written, plugin: Plugin) -> None:
        """The class derives from OutputTarget, or `output=` refuses it."""
        cls: type = type(written.provider)
        assert plugin.provider("model") is cls, "The plugin returns another class for models."
        assert issubclass(cls, OutputTarget), "Derive from OutputTarget, before ModelProvider."

    def _beside(self, written: Written, plugin: Plugin, *, write: bool) -> None:
        """Write a file to the output beside; or else fail the test unless that is all it has."""
        if written.beside is None:
            return
        params, secrets = document_of(OUTPUT_SLOT, plugin, written.beside).params, literals(written.beside)
        limit, about = self.time_limit, {"name": self.name, "params": params, "secrets": secrets, "write": write}
        there = ask_elsewhere("beside", limit=limit, another_day=False, about=about)
        assert write or there == [BESIDE], (
            f"{written.beside.uri} has {there} and not {[BESIDE]}, after a test of {written.provider.uri}."
        )

    def test_the_store_keeps_its_word(self, written: Written, plugin: Plugin) -> None:
        """Files are uploaded, listed, downloaded, replaced and removed, and others are left alone."""
        document = document_of(OUTPUT_SLOT, plugin, written.provider)
        about = {"secrets": literals(written.provider), "own_files": sorted(written.own_files)}
        self._beside(written, plugin, write=True)
        problems = ask_elsewhere(
            "store", limit=self.time_limit, another_day=False, name=self.name, params=document.params, **about
        )
        assert not problems, "The store breaks the contract: " + "; ".join(problems) + "."
        self._beside(written, plugin, write=False)

    def test_a_result_is_uploaded(self, written: Written, plugin: Plugin, pod: Pod) -> None:
        """The launcher uploads a result, and it comes back as it was; a second upload changes nothing."""
        provider = written.provider
        for attempt in ("upload", "upload-again"):
            done = pod.step("upload", self._result(plugin, provider, pod), env=pod.env(provider), name=attempt)
            done.succeeded("Uploading")
            check_printed(done, provider, "Uploading")
            strays = written.elsewhere(done.strays)
            assert not strays, f"The store writes outside of its folder and of /tmp: {strays}."
            left = pod.leftovers(slots=[OUTPUT_SLOT])
            assert not left, f"The store leaves files: {left}. Put temporary ones where they are removed."
        params, secrets = document_of(OUTPUT_SLOT, plugin, provider).params, literals(provider)
        stored = ask_elsewhere(
            "stored", limit=self.time_limit, another_day=False, name=self.name, params=params, secrets=secrets
        )
        left_out = {MARKER, *written.own_files}
        found = {path: base64.b64decode(text) for path, text in stored.items() if path not in left_out}
        assert found == _RESULT, "What is downloaded from the output is not what was uploaded."
        if written.contents is not None:
            there = {path: data for path, data in written.contents().items() if path not in left_out}
            assert there == _RESULT, "The service has other files than were uploaded."

    def test_wrong_secrets_are_refused(self, written: Written, plugin: Plugin, pod: Pod) -> None:
        """With wrong secrets, the upload ends at once, with a code that says so."""
        if not written.checks_secrets:
            pytest.skip("the service lets everybody in, or takes any secret")
        need_secret(written.provider, "Written")
        env = {**pod.env(written.provider), **with_wrong_secrets(written.provider)}
        done = pod.step("upload", self._result(plugin, written.provider, pod), env=env)
        assert done.failure, f"An upload with wrong secrets succeeds: does the provider send them? {done.shown}"
        check_refusal(done, "A wrong secret")
        check_printed(done, written.provider, "An upload with wrong secrets")
        params, wrong = document_of(OUTPUT_SLOT, plugin, written.provider).params, with_wrong_secrets(written.provider)
        refused = ask_elsewhere(
            "refused", limit=self.time_limit, another_day=False, name=self.name, params=params, secrets=wrong
        )
        assert refused, "upload() raises no FetchError when the service refuses a file."

    def _result(self, plugin: Plugin, provider: SourceProvider, pod: Pod) -> str:
        """Write a result, and name the output in the pod's configuration; return the result's folder."""
        pod.give(OUTPUT_SLOT, plugin, provider)
        folder = pod.workspace / OUTPUT_SLOT / "model"
        for path, data in _RESULT.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return str(folder)
