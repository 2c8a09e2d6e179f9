"""Which files of a repository are fetched without patterns."""

import pytest

from tunewright import FetchError
from tunewright.providers.snapshots import Entry
from tunewright_hf.hub.file_selection import of_split, without_duplicates


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


@pytest.mark.parametrize(
    ("there", "split", "kept"),
    [
        ("train.jsonl test.jsonl README.md", "train", "train.jsonl README.md"),
        ("train/a.csv validation/a.csv", "validation", "validation/a.csv"),
        ("data/train-00000-of-00002.parquet data/dev-00000-of-00001.parquet", "validation", "data/dev-00000-of-00001.parquet"),
        ("data.jsonl README.md", "train", "data.jsonl README.md"),
    ],
)  # fmt: skip
def test_a_split(there, split, kept):
    assert [e.path for e in of_split(entries(there), split)] == kept.split()


@pytest.mark.parametrize(("there", "others"), [("train.csv test.csv", "test, train"), ("data.csv", "none")])
def test_a_split_that_no_file_is_named_by(there, others):
    with pytest.raises(FetchError, match=others):
        list(of_split(entries(there), "validation"))
