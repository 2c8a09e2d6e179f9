"""Which files of a repository are fetched without patterns."""

import pytest

from tunewright import ExitCode, FetchError
from tunewright.providers.snapshots import Entry
from tunewright_hf.config.dataset_part import DatasetPart
from tunewright_hf.hub.file_selection import of_part, without_duplicates


def entries(paths):
    return [Entry(path=path, size=1) for path in paths.split()]


@pytest.mark.parametrize(
    ("there", "left_out"),
    [
        ("model.safetensors config.json tokenizer.json", ""),
        ("pytorch_model.bin config.json", ""),
        (
            "model.safetensors pytorch_model.bin tf_model.h5 flax_model.msgpack rust_model.ot pytorch_model.pt",
            "pytorch_model.bin tf_model.h5 flax_model.msgpack rust_model.ot pytorch_model.pt",
        ),
        # Shards, and their index.
        (
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json "
            "pytorch_model-00001-of-00003.bin pytorch_model.bin.index.json",
            "pytorch_model-00001-of-00003.bin pytorch_model.bin.index.json",
        ),
        # One of the shards is missing: the others are of no use by themselves.
        ("model-00001-of-00002.safetensors pytorch_model.bin", ""),
        ("model.safetensors.index.json pytorch_model.bin", ""),
        # An adapter, and the parts of a pipeline: each for itself.
        ("adapter_model.safetensors adapter_model.bin", "adapter_model.bin"),
        ("adapter_model.safetensors pytorch_model.bin", ""),
        (
            "unet/diffusion_pytorch_model.safetensors unet/diffusion_pytorch_model.bin vae/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.bin",
        ),
        ("original/model.safetensors pytorch_model.bin", ""),
        # Another precision.
        ("model.safetensors pytorch_model.fp16.bin model.fp16.safetensors", "pytorch_model.fp16.bin"),
        ("model.safetensors pytorch_model.fp16.bin", ""),
        # What is no weights, in the same formats.
        ("model.safetensors training_args.bin optimizer.pt scheduler.pt rng_state.pth spiece.model vocab.h5", ""),
        ("model.safetensors consolidated.00.pth model.gguf model.Q4.gguf", ""),
        # ONNX.
        (
            "model.safetensors onnx/model.onnx onnx/model.onnx_data onnx/decoder_int8.onnx onnx/config.json model.onnx",
            "onnx/model.onnx onnx/model.onnx_data onnx/decoder_int8.onnx model.onnx",
        ),
        ("pytorch_model.bin onnx/model.onnx", ""),
        ("model.safetensors preprocess.onnx", ""),
    ],
)
def test_weights_that_are_there_as_safetensors_too_are_left_out(there, left_out):
    for order in (entries(there), entries(there)[::-1]):
        kept = {entry.path for entry in without_duplicates(order)}
        assert kept == set(there.split()) - set(left_out.split())


def test_what_is_no_weights_comes_before_the_listing_has_ended():
    def listing():
        yield Entry(path="config.json", size=1)
        raise FetchError("It broke off.", remedy="", code=75)

    assert next(iter(without_duplicates(listing()))).path == "config.json"


def part_of(there: str, *, config: str | None = None, split: str | None = None, card: str = "") -> str:
    part = DatasetPart(config=config, split=split)
    return " ".join(entry.path for entry in of_part(entries(there), part, card, "hf://datasets/org/name"))


@pytest.mark.parametrize(
    ("there", "split", "kept"),
    [
        ("train.jsonl test.jsonl README.md", "train", "train.jsonl README.md"),
        ("train/a.csv validation/a.csv", "validation", "validation/a.csv"),
        ("data/train-00000-of-00002.parquet data/dev-00000-of-00001.parquet", "validation", "data/dev-00000-of-00001.parquet"),
        ("data/train-00000-of-00002.parquet data/dev-00000-of-00001.parquet", "dev", "data/dev-00000-of-00001.parquet"),
        ("data.jsonl README.md", "train", "data.jsonl README.md"),
        ("train.jsonl test.jsonl extra.jsonl", "train", "train.jsonl"),
        ("train_sft-00000-of-00001.parquet train_gen-00000-of-00001.parquet", "train_sft", "train_sft-00000-of-00001.parquet"),
        # What holds no rows that can be read from here.
        ("train-0.zip test-0.zip all.zip", "train", "train-0.zip"),
        ("train/1.tar test/1.tar", "test", "test/1.tar"),
        ("train/metadata.csv train/cats/1.jpg test/metadata.csv test/cats/1.jpg", "train", "train/metadata.csv train/cats/1.jpg"),
        ("train.json images/1.jpg test.json", "train", "train.json images/1.jpg"),
        ("README.md train/cats/1.jpg test/cats/1.jpg", "test", "README.md test/cats/1.jpg"),
        # As save_to_disk() writes it.
        (
            "dataset_dict.json train/data-00000-of-00001.arrow train/state.json test/data-00000-of-00001.arrow test/state.json",
            "test",
            "dataset_dict.json test/data-00000-of-00001.arrow test/state.json",
        ),
    ],
)  # fmt: skip
def test_a_split(there, split, kept):
    assert part_of(there, split=split) == kept


@pytest.mark.parametrize(
    ("there", "others"),
    [("train.csv test.csv", "It has: test, train"), ("data.csv", "It has: train"), ("README.md", "Leave split out")],
)
def test_a_split_that_no_file_is_named_by(there, others):
    with pytest.raises(FetchError, match=rf"hf://datasets/org/name has no split 'validation'\. {others}") as error:
        part_of(there, split="validation")
    assert error.value.code is ExitCode.NOT_FOUND


CARD = """---
configs:
- config_name: main
  data_files: [{split: train, path: main/train*}, {split: test, path: main/test*}]
- {config_name: socratic, data_dir: socratic}
---
"""
FOLDERS = (
    "README.md main/train-0.parquet main/test-0.parquet socratic/train-0.parquet socratic/test-0.parquet other.bin"
)


@pytest.mark.parametrize("card", [CARD, ""], ids=["card", "folders"])
def test_a_configuration(card):
    main = "README.md main/train-0.parquet main/test-0.parquet other.bin"
    assert part_of(FOLDERS, config="main", card=card) == main
    assert part_of(FOLDERS, config="socratic", split="test", card=card) == "README.md socratic/test-0.parquet other.bin"


def test_a_configuration_has_the_files_of_its_folders_that_hold_no_rows():
    there = "LICENSE en/LICENSE en/pictures/1.png en/a.csv fr/LICENSE fr/pictures/1.png fr/a.csv pictures/2.png"
    assert part_of(there, config="en") == "LICENSE en/LICENSE en/pictures/1.png en/a.csv"


def test_the_card_names_files_that_say_something_else():
    card = "---\nconfigs: [{config_name: x, data_files: {train: sft.jsonl, test: train_exam.jsonl}}]\n---\n"
    assert part_of("README.md sft.jsonl train_exam.jsonl", split="train", card=card) == "README.md sft.jsonl"
    assert (
        part_of("README.md sft.jsonl train_exam.jsonl", config="x", card=card) == "README.md sft.jsonl train_exam.jsonl"
    )


@pytest.mark.parametrize(
    ("card", "given", "words"),
    [
        (CARD, {"config": "maim"}, r"has no configuration 'maim'\. Did you mean 'main'\? It has: main, socratic"),
        ("", {"config": "maim"}, r"has no configuration 'maim'\. Did you mean 'main'\? It has: main, socratic"),
        (CARD, {"split": "train"}, r"holds 2 datasets: main, socratic\. Choose one of them: dataset\.config: main in a job file"),
        ("", {"split": "train"}, r"holds 2 datasets: main, socratic\. .*HuggingFaceDatasetParams\(config='main'\)"),
        (CARD, {"config": "main", "split": "dev"}, r"has no split 'dev'\. It has: test, train\."),
        ("---\nconfigs: 3\n---\n", {"split": "train"}, "configs is not a list"),
    ],
)  # fmt: skip
def test_a_part_that_is_not_there_is_refused_with_what_is(card, given, words):
    with pytest.raises(FetchError, match=words):
        part_of(FOLDERS, card=card, **given)
