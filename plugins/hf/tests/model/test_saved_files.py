"""What a result says of its base, and the form that its files are in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tunewright.providers import MARKER  # noqa: E402
from tunewright_hf.model.dtypes import SavedDtypes, saved_dtypes  # noqa: E402
from tunewright_hf.model.origin import Origin, origin_of  # noqa: E402
from tunewright_hf.model.saved_files import finish_files  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("marker", "uri", "kind", "expected"),
    [
        (("hf://org/base", COMMIT), "hf://org/base@main", "model", ("org/base", COMMIT, f"hf://org/base@{COMMIT}")),
        (None, "hf://org/base@v1%2Fa", "model", ("org/base", "v1/a", "hf://org/base@v1/a")),
        (
            ("hf://datasets/org/data@main?config=a", COMMIT),
            None,
            "dataset",
            ("org/data", COMMIT, f"hf://datasets/org/data@{COMMIT}"),
        ),
        (("s3://bucket/base", ""), None, "model", ("s3://bucket/base", None, "s3://bucket/base")),
        (None, "pvc://claim/base", "model", ("pvc://claim/base", None, None)),
        (None, f"file:///cache/models--org--base/snapshots/{COMMIT}", "model", ("org/base", COMMIT, None)),
        (None, "file:///a%20b/base", "model", ("/a b/base", None, None)),
    ],
)
def test_an_input_is_named_by_what_other_people_know_it_by(marker, uri, kind, expected, tmp_path: Path) -> None:
    if marker:
        (tmp_path / MARKER).write_text(json.dumps({"uri": marker[0], "revision": marker[1]}))
    found = origin_of(tmp_path, uri, kind)
    assert (found.name, found.revision) == expected[:2]
    assert found.on_hub == (uri or marker[0]).startswith("hf:") or "models--" in uri
    assert found.uri == expected[2] or "models--" in uri


def test_a_folder_that_was_fetched_from_the_hub_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"uri": "hf://org/base", "revision": COMMIT}))
    assert origin_of(tmp_path / "job" / "model", tmp_path.as_uri()).name == "org/base"
    assert origin_of(Path("/elsewhere")) == Origin(name="/elsewhere")


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", {"license": "mit"}),
        ("license: [mit, apache-2.0]", {"license": "mit, apache-2.0"}),
        (
            "license: other\nlicense_name: own\nlicense_link: LICENSE.md",
            {
                "license": "other",
                "license_name": "own",
                "license_link": f"https://huggingface.co/org/base/blob/{COMMIT}/LICENSE.md",
            },
        ),
        ("license: {a: b", {}),
        ("license: 3", {}),
    ],
)
def test_the_licence_is_that_of_the_base_models_card(front: str, licence: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(json.dumps({"uri": "hf://org/base", "revision": COMMIT}))
    (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# Base\n")
    assert origin_of(tmp_path).licence == licence


def test_weights_are_saved_in_the_dtypes_that_their_files_had(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(8, dtype=torch.bfloat16), "norm": torch.zeros(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    tied = torch.ones(8)
    state = {"a": tied, "head": tied, "new": torch.ones(2), "norm": torch.ones(2), "ids": torch.ones(2).long()}
    cast = saved_dtypes(tmp_path, None).cast(state)
    dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in cast.items()}
    half = dict.fromkeys(("a", "head", "new"), "bfloat16")
    assert dtypes == {**half, "norm": "float32", "ids": "int64"}
    assert cast["a"] is cast["head"], "tied weights are saved once"
    assert {t.dtype for t in saved_dtypes(tmp_path, "float16").cast(state).values()} == {torch.float16, torch.int64}
    (tmp_path / "config.json").write_text('{"torch_dtype": "float16"}')
    assert saved_dtypes(tmp_path, None).default == torch.float16
    assert SavedDtypes().cast(state) == state


def test_transformers_4_reads_the_tokenizer_and_others_may_read_the_files(model_folder: Path, tmp_path: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|user|>"]})
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").chmod(0o600)
    before = os.umask(0o027)
    try:
        finish_files(tmp_path, tokenizer)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<|user|>"]
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert not {"extra_special_tokens", "is_local", "local_files_only"} & set(config)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "What is <|user|> 1?"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.extra_special_tokens == ["<|user|>"]
