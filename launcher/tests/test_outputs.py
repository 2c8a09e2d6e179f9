"""Outputs: what is uploaded, what is not sent again, and what a job on a new node resumes from."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest

from tunewright.errors import ExitCode, FetchError
from tunewright.providers.builtin.file_store import FileStore
from tunewright.providers.limits import FetchLimits
from tunewright.providers.snapshots import Entry
from tunewright.providers.wire import WireDocument
from tunewright.runner.checkpoints import MARKER, mark_checkpoint
from tunewright_launcher.outputs import CheckpointUploads, Output, key_of
from tunewright_launcher.superseded import superseded


class Counting(FileStore):
    """A real folder that counts, and that fails where it is told to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.sent: list[str] = []
        self.refuses: dict[str, FetchError] = {}
        self.busy: set[str] = set()  # folders that are not listed the first time
        self.stuck: set[str] = set()  # folders that are not removed the first time

    def entries(self, folder: str) -> Iterator[Entry]:
        if folder in self.busy:
            self.busy.remove(folder)
            raise FetchError("busy.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
        return super().entries(folder)

    def remove(self, folder: str) -> None:
        if folder in self.stuck:
            self.stuck.remove(folder)
            raise FetchError("busy.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
        super().remove(folder)

    def upload(self, files: Mapping[str, Path]) -> None:
        for path in files:
            if error := self.refuses.pop(path, None):
                raise error
        super().upload(files)
        self.sent += files


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "remote")


def output_of(store: Counting, *, key: str = "k1") -> Output:
    return Output(store=store, uri="file:///remote", key=key, limits=FetchLimits(retry_for=5), say=lambda text: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    return folder


def checkpoint(folder: Path, step: int, text: str = "weights") -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "model.bin").write_text(f"{text} {step}")
    mark_checkpoint(made)
    return made


def test_the_model_is_uploaded_and_marked_last(store: Counting, model: Path, tmp_path: Path) -> None:
    output_of(store).upload_model(model)
    assert store.sent[-1] == MARKER
    assert sorted(store.sent[:-1]) == ["model.safetensors", "tokenizer/vocab.json"]
    assert (tmp_path / "remote/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    marker = json.loads((tmp_path / "remote" / MARKER).read_text())
    assert set(marker["files"]) == {"model.safetensors", "tokenizer/vocab.json"}


def test_what_is_there_already_is_not_sent_again(store: Counting, model: Path) -> None:
    output_of(store).upload_model(model)
    store.sent.clear()
    (model / "tokenizer" / "vocab.json").write_text("[]")  # of the same size
    output_of(store).upload_model(model)
    assert store.sent == ["tokenizer/vocab.json", MARKER]


def test_files_of_an_earlier_result_go_and_other_files_stay(store: Counting, model: Path, tmp_path: Path) -> None:
    (model / "adapter_config.json").write_text("{}")
    output_of(store).upload_model(model)
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "first", 10))
    (tmp_path / "remote" / "notes.bin").write_text("of the user")
    (tmp_path / "outside").write_text("not in the output")
    marker = tmp_path / "remote" / MARKER
    named = json.loads(marker.read_text())
    named["files"] |= {"../outside": {}, "checkpoints/k1/checkpoint-10/model.bin": {}}
    marker.write_text(json.dumps(named))
    (model / "adapter_config.json").unlink()
    (model / "tokenizer" / "vocab.json").unlink()
    output_of(store).upload_model(model)
    there = {path.relative_to(tmp_path / "remote").as_posix() for path in (tmp_path / "remote").rglob("*.*")}
    assert {path for path in there if "/" not in path} == {"model.safetensors", "notes.bin", MARKER}
    assert "checkpoints/k1/checkpoint-10/model.bin" in there
    assert "tokenizer/vocab.json" not in there
    assert (tmp_path / "outside").exists()
    assert set(json.loads(marker.read_text())["files"]) == {"model.safetensors"}


def test_weights_that_another_program_left_go_too_and_the_users_files_stay(
    store: Counting, model: Path, tmp_path: Path
) -> None:
    remote = tmp_path / "remote"
    (remote / "onnx").mkdir(parents=True)
    old = ["pytorch_model.bin", "model.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json"]
    kept = ["README.md", "notes.bin", "model.gguf", "onnx/model.safetensors"]
    for name in old + kept:
        (remote / name).write_text("of somebody")
    output_of(store).upload_model(model)
    there = {path.relative_to(remote).as_posix() for path in remote.rglob("*") if path.is_file()}
    assert there == {*kept, "model.safetensors", "tokenizer/vocab.json", MARKER}


@pytest.mark.parametrize(
    ("old", "goes"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.fp16.json", True),
        ("consolidated.safetensors", True),
        ("pytorch_model-00001-of-00002.bin", True),
        ("tf_model-00001-of-00002.h5", True),
        ("generation_config.json", True),
        ("chat_template.jinja", True),
        ("added_tokens.json", True),
        ("embeddings.safetensors", False),
        ("train.index.json", False),
        ("vocab.txt", False),
        ("lora/adapter_config.json", False),
    ],
)
def test_what_would_be_loaded_with_a_new_result_goes(old: str, goes: bool) -> None:
    new = {"model.safetensors", "config.json", "tokenizer_config.json"}
    assert superseded({old, *new}, set(), new) == ({old} if goes else set())


def test_what_nothing_new_reads_stays() -> None:
    there = {"generation_config.json", "chat_template.jinja", "config.json"}
    assert superseded(there, set(), {"adapter_model.safetensors", "adapter_config.json"}) == set()
    assert superseded(there, {"chat_template.jinja", "gone"}, {"config.json"}) == {
        "generation_config.json",
        "chat_template.jinja",
    }


def test_links_in_a_result_are_uploaded_as_what_they_lead_to(store: Counting, model: Path, tmp_path: Path) -> None:
    outside = tmp_path / "blobs"
    outside.mkdir()
    (model / "model.safetensors").rename(outside / "weights")
    (model / "model.safetensors").symlink_to(outside / "weights")
    (model / "best").symlink_to("tokenizer")
    (model / "around").symlink_to(".")
    (model / "nowhere").symlink_to("not-there")
    said: list[str] = []
    output = Output(store=store, uri="file:///remote", key="k", limits=FetchLimits(retry_for=5), say=said.append)
    output.upload_model(model)
    assert sorted(store.sent[:-1]) == ["best/vocab.json", "model.safetensors", "tokenizer/vocab.json"]
    assert (tmp_path / "remote/model.safetensors").read_bytes() == (outside / "weights").read_bytes()
    assert not (tmp_path / "remote/model.safetensors").is_symlink()
    assert "around" in said[0]
    assert "nowhere" in said[0]


class Disturbed(Counting):
    """Somebody else removes a file, so many times, while the marker is written."""

    times = 1

    def upload(self, files: Mapping[str, Path]) -> None:
        super().upload(files)
        if MARKER in files and self.times:
            self.times -= 1
            self.remove_files(["model.safetensors"])


class Versioned(Counting):
    """Names versions of files in place of digests; a rival writes a file of the same size before the marker, so many times."""

    times = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.versions: dict[str, str] = {}

    def entries(self, folder: str) -> Iterator[Entry]:
        for entry in super().entries(folder):
            yield attrs.evolve(entry, digests=(), validator=f'"{self.versions[entry.path]}"')

    def upload(self, files: Mapping[str, Path]) -> Mapping[str, str | None]:
        for path in files:
            if path == MARKER and self.times:
                self.times -= 1
                rival = self._folder / "model.safetensors"
                rival.write_bytes(rival.read_bytes()[::-1])
                self.versions[rival.name] = "of the rival"
            self.versions[path] = f"{len(self.sent)}"
        super().upload(files)
        return {path: self.versions[path] for path in files}


def test_a_file_of_another_job_is_told_from_an_own_one_of_the_same_size(model: Path, tmp_path: Path) -> None:
    store = Versioned(tmp_path / "remote")
    output_of(store).upload_model(model)
    assert (tmp_path / "remote/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert store.sent.count("model.safetensors") == 2


@pytest.mark.parametrize("times", [1, -1])
def test_what_another_job_removes_meanwhile_is_uploaded_again(model: Path, tmp_path: Path, times: int) -> None:
    store = Disturbed(tmp_path / "remote")
    store.times = times
    if times > 0:
        output_of(store).upload_model(model)
        assert (tmp_path / "remote" / "model.safetensors").exists()
        return
    with pytest.raises(FetchError, match=r"5 times in a row model\.safetensors was not what was sent") as caught:
        output_of(store).upload_model(model)
    assert caught.value.code is ExitCode.TRY_AGAIN
    assert "another one uploads there at the same time" in caught.value.remedy
    assert not (tmp_path / "remote" / MARKER).exists()


def test_a_result_replaces_one_of_another_shape_only_where_that_is_asked_for(store: Counting, model: Path) -> None:
    output_of(store).upload_model(model)
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    with pytest.raises(FetchError, match=r"holds other files than the result's: model.safetensors"):
        output_of(store).refuse_another(model, replace=False)
    output_of(store).refuse_another(model, replace=True)


@pytest.mark.slow
def test_an_upload_that_fails_for_a_while_comes_to_its_end(store: Counting, model: Path) -> None:
    store.refuses["model.safetensors"] = FetchError("down.", remedy="Wait.", code=ExitCode.UNAVAILABLE)
    output_of(store).upload_model(model)
    assert store.sent[-1] == MARKER


@pytest.mark.slow
def test_a_listing_that_fails_for_a_while_ends_neither_the_check_nor_an_upload(
    store: Counting, model: Path, tmp_path: Path
) -> None:
    store.busy = {"", "checkpoints/k1", "checkpoints/k1/checkpoint-10"}
    output_of(store).upload_model(model)
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "first", 10))
    assert not store.busy
    store.busy = {"checkpoints/k1"}
    (tmp_path / "second").mkdir()
    output_of(store).fetch_checkpoint(tmp_path / "second")
    assert (tmp_path / "second/checkpoint-10" / MARKER).is_file()


def test_an_upload_that_is_refused_leaves_no_marker(store: Counting, model: Path, tmp_path: Path) -> None:
    store.refuses["model.safetensors"] = FetchError("no.", remedy="Ask.", code=ExitCode.NO_PERMISSION)
    with pytest.raises(FetchError, match="no"):
        output_of(store).upload_model(model)
    assert not (tmp_path / "remote" / MARKER).exists()


def test_whether_it_may_be_written_to_is_found_out_and_leaves_nothing(store: Counting, tmp_path: Path) -> None:
    output_of(store).check_writable()
    assert [p for p in (tmp_path / "remote").rglob("*") if p.is_file()] == []


def test_a_new_node_resumes_from_the_newest_complete_checkpoint(store: Counting, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    output_of(store).upload_checkpoint(checkpoint(first, 10))
    output_of(store).upload_checkpoint(checkpoint(first, 20))
    cut = tmp_path / "remote/checkpoints/k1/checkpoint-30"
    cut.mkdir()
    (cut / "model.bin").write_text("half an upload")
    second.mkdir()
    output_of(store).fetch_checkpoint(second)
    assert sorted(p.name for p in second.iterdir()) == ["checkpoint-20"]
    assert (second / "checkpoint-20" / "model.bin").read_text() == "weights 20"
    assert (second / "checkpoint-20" / MARKER).is_file()


def test_a_newer_checkpoint_replaces_older_ones(store: Counting, tmp_path: Path) -> None:
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "local", 10))
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "local", 20))
    assert [p.name for p in (tmp_path / "remote/checkpoints/k1").iterdir()] == ["checkpoint-20"]


@pytest.mark.slow
def test_an_older_checkpoint_that_cannot_be_removed_for_a_while_is_removed_in_the_end(
    store: Counting, tmp_path: Path
) -> None:
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "local", 10))
    store.stuck = {"checkpoints/k1/checkpoint-10"}
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "local", 20))
    assert [p.name for p in (tmp_path / "remote/checkpoints/k1").iterdir()] == ["checkpoint-20"]


def test_a_node_that_is_further_than_the_store_keeps_what_it_has(store: Counting, tmp_path: Path) -> None:
    output_of(store).upload_checkpoint(checkpoint(tmp_path / "first", 10))
    checkpoint(tmp_path / "second", 20)
    output_of(store).fetch_checkpoint(tmp_path / "second")
    assert [p.name for p in (tmp_path / "second").iterdir()] == ["checkpoint-20"]


def test_another_job_with_the_same_output_never_resumes_from_there(store: Counting, tmp_path: Path) -> None:
    output_of(store, key="k1").upload_checkpoint(checkpoint(tmp_path / "first", 10))
    (tmp_path / "second").mkdir()
    output_of(store, key="k2").fetch_checkpoint(tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []


def test_checkpoints_are_uploaded_while_the_training_goes_on_and_one_that_fails_does_not_end_it(
    store: Counting, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    refusal = FetchError("no.", remedy="Ask.", code=ExitCode.NO_PERMISSION)
    store.refuses["checkpoints/k1/checkpoint-10/model.bin"] = refusal
    with CheckpointUploads(output_of(store), folder):
        checkpoint(folder, 10)
    assert not (tmp_path / "remote/checkpoints/k1/checkpoint-10" / MARKER).exists()
    with CheckpointUploads(output_of(store), folder):
        checkpoint(folder, 20)
        shutil.rmtree(folder / "checkpoint-10")
    assert (tmp_path / "remote/checkpoints/k1/checkpoint-20" / MARKER).exists()


def test_keys_depend_on_the_documents_and_not_on_their_order() -> None:
    def document(**params: str) -> WireDocument:
        return WireDocument(kind="dataset", provider="p", distribution="d", version="1", params=params)

    a, b, c = (document(uri=uri) for uri in "abc")
    assert key_of([a, b]) == key_of([b, a]) == key_of([a, document(uri="b", policy="Always", verify="full")])
    assert key_of([a, b]) != key_of([a, c])
