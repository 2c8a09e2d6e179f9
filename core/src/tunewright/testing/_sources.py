"""Tests of sources: the init container runs for real, against the author's own service or a fake."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import base64
import glob
import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tunewright._convert import to_dict
from tunewright.errors import ExitCode
from tunewright.plugins.registry import Plugin
from tunewright.providers.base import DatasetProvider, ModelProvider, SourceProvider
from tunewright.providers.fields import FilePatterns
from tunewright.providers.snapshots import SnapshotSource
from tunewright.providers.uris import uri_scheme
from tunewright.runner.checkpoints import MARKER
from tunewright.testing._pod import (
    Done,
    Pod,
    ask_elsewhere,
    check_printed,
    document_of,
    literals,
    secrets_left,
    with_wrong_secrets,
)
from tunewright.testing._providers import ProviderTests, check_shaping

_READ_AND_ENTER = stat.S_IRUSR | stat.S_IXUSR
_FINAL_REFUSALS = (ExitCode.NOT_FOUND, ExitCode.NO_PERMISSION)


@attrs.frozen(kw_only=True)
class Served:
    """A service that is there for a test, and what it has.

    Attributes:
        provider: reads from the service, with secrets that it accepts, of eight characters or more.
        files: what the provider fetches: relative path → contents. At least one file should be larger than a few bytes.
        missing: the same for something that the service does not have. By default the provider with a longer URI.
        checks_secrets: whether the service refuses wrong secrets; False for a service that lets everybody in.
        has_versions: whether the service tells anything by which a file can be told from a later one: a digest, an entity tag, a
            time, a revision. Without that, a file that changes while it is fetched is a mixture of two.
    """

    provider: SourceProvider
    files: Mapping[str, bytes] = attrs.field(factory=dict, converter=to_dict)
    missing: SourceProvider | None = None
    checks_secrets: bool = True
    has_versions: bool = True


class SourceProviderTests(ProviderTests):
    """Tests for model and dataset providers. Derive from one of the subclasses instead.

    Give the fixture `served`, which lets the kit run the provider for real:

        @pytest.fixture
        def served(self, tmp_path: Path) -> Iterator[Served]:
            with fake_service({"sales/train.jsonl": b"…"}, token="the-right-token") as address:
                yield Served(
                    provider=AcmeDataset(uri="acme://sales", server=address, token="the-right-token"),
                    files={"train.jsonl": b"…"},
                )
    """

    def provider(self) -> SourceProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError

    @pytest.fixture
    def served(self) -> Served:
        """Return a provider whose service is there, and what it has. Override it."""
        self.need_container()
        if self.provider().mounted_claim() is not None:
            pytest.skip("its files are mounted, so nothing is fetched")
        pytest.fail(
            f"{type(self).__name__} has no fixture `served`, so the kit cannot run the container half. "
            "Yield a Served(provider=…, files=…) with a service that is there, or say where it is tested: tested_elsewhere."
        )

    def test_the_scheme_is_the_plugins_name(self) -> None:
        """The scheme of the provider's URI selects the plugin."""
        assert uri_scheme(self.provider().uri) == self.name

    def test_init_container_shapes_a_container(self) -> None:
        """init_container() is pure, and returns a ContainerSpec that shows no secret and has all that it was given."""
        provider = self.provider()
        check_shaping(provider, provider.init_container, f"fetch-{self.kind}", "fetch", self.kind)
        assert provider == self.provider(), "init_container() must not change the provider."

    def test_the_files_arrive(self, served: Served, plugin: Plugin, pod: Pod) -> None:
        """The init container fetches the service's files, and nothing else, and leaves nothing elsewhere."""
        done = self._fetch(served.provider, plugin, pod)
        done.succeeded("Fetching")
        _compare(pod.workspace / self.kind, served.files)
        _check_modes(pod.workspace / self.kind)
        _check_traces(done, pod, self.kind)
        left = secrets_left(pod, served.provider)
        assert not left, (
            f"The provider leaves a secret in {left}: give it to its library without a file, or remove that."
        )
        check_printed(done, served.provider, "Fetching")

    def test_wrong_secrets_are_refused(self, served: Served, plugin: Plugin, pod: Pod) -> None:
        """With wrong secrets the step ends at once, with a code that says so, and leaves and shows nothing."""
        if not served.checks_secrets:
            pytest.skip("the service lets everybody in, or takes any secret")
        need_secret(served.provider, "Served")
        pod.give(self.kind, plugin, served.provider)
        env = {**pod.env(served.provider), **with_wrong_secrets(served.provider)}
        done = pod.step("fetch", self.kind, env=env)
        assert done.failure, f"A fetch with wrong secrets succeeds: does the provider send them? {done.shown}"
        check_refusal(done, "A wrong secret")
        assert not (pod.workspace / self.kind).exists(), "A fetch that fails must leave nothing."
        check_printed(done, served.provider, "A fetch with wrong secrets")

    def test_what_is_missing_is_refused(self, served: Served, plugin: Plugin, pod: Pod) -> None:
        """Something that the service does not have ends the step at once, with a code that says so."""
        missing = served.missing or attrs.evolve(served.provider, uri=f"{served.provider.uri}-that-is-not-there")
        done = self._fetch(missing, plugin, pod)
        assert done.failure, f"{missing.uri} is not there, and fetching it succeeds. {done.shown}"
        check_refusal(done, f"{missing.uri}, which is not there,")
        assert not (pod.workspace / self.kind).exists(), "A fetch that fails must leave nothing."
        check_printed(done, missing, "A fetch of something that is not there")

    def test_patterns_select_files(self, served: Served, plugin: Plugin, pod: Pod) -> None:
        """A provider with FilePatterns fetches all files but those that its patterns leave out."""
        if not isinstance(served.provider, FilePatterns) or len(served.files) == 1:
            pytest.skip("it has no patterns, or the service has a single file")
        left_out = min(served.files)
        ignored = (*served.provider.ignore_patterns, glob.escape(left_out))
        provider = attrs.evolve(served.provider, ignore_patterns=ignored)  # type: ignore[call-arg] # of both classes
        self._fetch(provider, plugin, pod).succeeded("Fetching")
        _compare(pod.workspace / self.kind, {path: data for path, data in served.files.items() if path != left_out})

    def test_a_snapshot_keeps_its_word(self, served: Served, plugin: Plugin) -> None:
        """A snapshot lists the same files twice, and its ranges, sizes and digests are those of the files."""
        if not isinstance(served.provider, SnapshotSource):
            pytest.skip("the fetch engine does not read it")
        document = document_of(self.kind, plugin, served.provider)
        found = ask_elsewhere(
            "snapshot",
            limit=self.time_limit,
            another_day=False,
            name=self.name,
            kind=self.kind,
            params=document.params,
            secrets=literals(served.provider),
        )
        _check_snapshot(found, served.files)
        assert not (served.has_versions and found["unversioned"]), (
            f"{found['unversioned']} are listed without a digest and a validator, and the snapshot has no revision: a file that "
            "changes while it is fetched would be a mixture. If the service tells nothing, say so: Served(has_versions=False)."
        )

    def _fetch(self, provider: SourceProvider, plugin: Plugin, pod: Pod) -> Done:
        pod.give(self.kind, plugin, provider)
        return pod.fetch(self.kind, provider)


class ModelProviderTests(SourceProviderTests):
    """Tests for the class that a plugin returns from `tunewright_model_provider`."""

    kind = "model"

    def provider(self) -> ModelProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError


class DatasetProviderTests(SourceProviderTests):
    """Tests for the class that a plugin returns from `tunewright_dataset_provider`."""

    kind = "dataset"

    def provider(self) -> DatasetProvider:
        """Return a provider; see `ProviderTests.provider`."""
        raise NotImplementedError


def need_secret(provider: SourceProvider, where: str) -> None:
    """Fail the test unless a provider has a secret that can be wrong."""
    assert literals(provider), (
        f"{where}.provider has no literal in a secret field, so the kit cannot find out whether a wrong one is refused. Declare the field "
        f"with secret(env=…), and pass a literal; or say {where}(checks_secrets=False) if the service lets everybody in."
    )


def _compare(folder: Path, files: Mapping[str, bytes]) -> None:
    assert (folder / MARKER).is_file(), "The step has ended without an error, and before it had committed anything."
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p != folder / MARKER}
    marker = json.loads((folder / MARKER).read_text("utf-8"))
    assert files, "Served.files is empty: say what the service has, so that the kit can compare it."
    assert found.keys() == files.keys(), "The provider has fetched other files than the service has."
    for name, contents in files.items():
        fetched = found[name].read_bytes()
        assert len(fetched) == len(contents), f"{name} has {len(fetched)} bytes, and the service has {len(contents)}."
        assert fetched == contents, f"{name} has other contents than the service has."
        recorded = marker["files"][name]["sha256"]
        assert recorded == hashlib.sha256(contents).hexdigest(), (
            f"finish() says that the SHA-256 digest of {name} is {recorded!r}, which is that of other contents."
        )


def _check_modes(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        needed = _READ_AND_ENTER if path.is_dir() else stat.S_IRUSR
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & needed == needed, (
            f"{path.relative_to(folder)} has the mode {mode:o}, so that the trainer cannot read it: does the provider change the umask?"
        )


def _check_traces(done: Done, pod: Pod, slot: str) -> None:
    assert not done.strays, f"The provider writes outside of its folder and of /tmp: {list(done.strays)}."
    left = pod.leftovers(slots=[slot])
    assert not left, (
        f"The provider leaves files outside of `target`: {left}. Put temporary ones where they are removed."
    )


def check_refusal(done: Done, what: str) -> None:
    """Fail the test unless a step has ended with a code that is final, and a remedy."""
    assert done.failure is not None
    code = done.failure.code
    hint = "Raise FetchError with ExitCode.NOT_FOUND or NO_PERMISSION, which end the job at once"
    assert code in _FINAL_REFUSALS, f"{what} ends with exit code {code}: {done.failure}\n{hint}. {done.shown}"
    assert done.failure.remedy, f"{what} is refused without a remedy: say in FetchError(…, remedy=…) what to do."


def _check_snapshot(found: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    assert found["again"] == found["entries"], "Two snapshots of the same URI differ in entries() or revision."
    assert not found["described"], (
        f"describe() must return the entry with the same path and size: {found['described']}."
    )
    for entry in found["entries"]["files"]:
        contents = files.get(entry["path"])
        if contents is None:  # finish() makes the files of it
            continue
        assert entry["size"] == len(contents), (
            f"{entry['path']} is listed with {entry['size']} bytes of {len(contents)}."
        )
        for algorithm, value in entry["digests"]:
            expected = _digest(algorithm, contents)
            assert expected in (None, value), (
                f"{entry['path']} is listed with a wrong {algorithm} digest, {value!r}: in lowercase hexadecimal digits it is {expected}."
            )
    for path, start, stop, text in found["ranges"]:
        if path in files:
            expected_bytes = files[path][start:stop]
            assert base64.b64decode(text) == expected_bytes, f"open({path!r}, {start}, {stop}) gives other bytes."


def _digest(algorithm: str, contents: bytes) -> str | None:
    if algorithm == "git-blob-sha1":
        return hashlib.sha1(b"blob %d\0%b" % (len(contents), contents), usedforsecurity=False).hexdigest()
    if algorithm in ("sha256", "sha1", "md5"):
        return hashlib.new(algorithm, contents, usedforsecurity=False).hexdigest()
    return None
