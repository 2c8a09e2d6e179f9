"""The files of a result: their dtypes and modes, the base that they name, and nothing of an earlier result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

from tunewright.providers import MARKER  # noqa: E402
from tunewright_hf import HuggingFaceTrainParams  # noqa: E402

FAST = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def half(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in bf16, as it comes from the Hub, with a card."""
    folder = tmp_path_factory.mktemp("half") / "job" / "model"
    shutil.copytree(model_folder, folder)
    transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    (folder / MARKER).write_text(json.dumps({"uri": "hf://org/base@main", "revision": COMMIT}))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    return folder


def dtypes_of(folder: Path) -> set[torch.dtype]:
    files = list(folder.glob("*.safetensors"))
    assert files
    return {tensor.dtype for file in files for tensor in safetensors.load_file(file).values()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, torch.bfloat16),
        ({"save_dtype": "float32"}, torch.float32),
        ({"lora_config": {}, "merge": True}, torch.bfloat16),
        ({"lora_config": {}, "merge": True, "save_dtype": torch.float16}, torch.float16),
        ({"lora_config": {}}, torch.float32),
        ({"lora_config": {}, "save_dtype": "bf16"}, torch.bfloat16),
    ],
)
def test_weights_have_the_models_own_dtype_or_the_one_that_is_named(
    given: dict[str, object], expected: torch.dtype, half: Path, train, qa: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "model").mkdir(parents=True)
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "adapter_config.json"):
        (tmp_path / "out" / "model" / name).write_text("of an earlier result")
    result = train(tmp_path / "out", qa, model=half, **FAST, **given).result
    assert dtypes_of(result) == {expected}
    assert {path.stat().st_mode & 0o777 for path in result.iterdir()} == {0o644}
    assert not (result / "model-00001-of-00002.safetensors").exists()
    adapter = (result / "adapter_config.json").is_file()
    if not adapter:
        config = json.loads((result / "config.json").read_text())
        assert config["dtype"] == str(expected).removeprefix("torch.")
        loaded = transformers.AutoModelForCausalLM.from_pretrained(result)
        assert loaded.dtype == expected
        trained = loaded.state_dict()
        before = transformers.AutoModelForCausalLM.from_pretrained(half).state_dict()
        assert any((trained[name] != before[name]).any() for name in before), "something was learnt"
    card = (result / "README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: ")
    assert "base_model: org/base\n" in card
    assert "license: apache-2.0\n" in card
    assert f"revision `{COMMIT}`, licence apache-2.0" in card


@pytest.mark.slow
def test_an_adapter_names_its_base_and_finds_it_in_its_job(half: Path, train, qa: Path) -> None:
    result = train(half.parent / "output", qa, model=half, **FAST, lora_config={}, sample_prompts=["What is 1 and 1?"])
    config = json.loads((result.result / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", COMMIT)
    loaded = HuggingFaceTrainParams().load_result(result.result, None)
    assert loaded._model.dtype == torch.bfloat16


def test_a_dtype_is_one_that_weights_can_be_trained_in() -> None:
    from tunewright.errors import RequestError

    assert HuggingFaceTrainParams(save_dtype=torch.bfloat16).save_dtype == "bfloat16"
    assert HuggingFaceTrainParams(save_dtype="fp16").save_dtype == "float16"
    with pytest.raises(RequestError, match=r"save_dtype='int8'.*Give float32, bfloat16 or float16"):
        HuggingFaceTrainParams(save_dtype="int8")
