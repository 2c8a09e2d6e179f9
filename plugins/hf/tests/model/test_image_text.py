"""Models that read images as well, trained on texts: every tensor is kept, and the language part alone is trained."""

import shutil
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import HuggingFaceTrainParams

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
safetensors = pytest.importorskip("safetensors.torch")

from tunewright_hf.model.language import language_part  # noqa: E402 - it needs torch
from tunewright_hf.model.miniature import miniature  # noqa: E402
from tunewright_hf.trained import load as load_result  # noqa: E402

FAMILIES = ["gemma3", "qwen2_vl", "llava", "smolvlm", "qwen3_5"]
PACE = {"max_steps": 2, "learning_rate": 1e-2, "save_strategy": "no"}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, model_folder: Path, tmp_path: Path) -> Path:
    return made(request.param, model_folder, tmp_path / "model")


def made(family: str, model_folder: Path, folder: Path) -> Path:
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    size = len(transformers.AutoTokenizer.from_pretrained(folder))
    small = miniature(transformers.AutoConfig.for_model(family)).to_dict()
    texts = {"vocab_size": size, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    small["text_config"] |= texts
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family].from_dict(small)
    transformers.AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "CLIPImageProcessor"}')
    return folder


def tensors(folder: Path):
    return {k: v for file in folder.glob("*.safetensors") for k, v in safetensors.load_file(file).items()}


def load(folder: Path):
    return transformers.AutoModelForImageTextToText.from_pretrained(folder)


def names_of_language(folder: Path) -> set[str]:
    """The names of weights in the files that belong to the language part or its head."""
    found = load(folder)
    head = found.get_output_embeddings()
    texts = {id(w) for part in (language_part(found), head) for w in part.parameters()}
    return {name for name, w in found.named_parameters() if id(w) in texts}


@pytest.mark.slow
@pytest.mark.parametrize("given", [{}, {"lora_config": {"r": 4}, "merge": True}], ids=["full", "merged"])
def test_every_tensor_is_kept_and_those_for_images_as_they_were(
    given, train, qa: Path, model: Path, tmp_path: Path
) -> None:
    result = train(tmp_path / "out", qa, model=model, **PACE, **given).result
    before, after = tensors(model), tensors(result)
    assert before.keys() == after.keys()
    assert type(load(result)) is type(load(model))
    own, texts = dict(load(result).named_parameters()), names_of_language(model)
    changed = {name for name, w in load(model).named_parameters() if not torch.equal(w, own[name])}
    assert changed
    assert changed <= texts
    assert (result / "preprocessor_config.json").exists()
    assert "AutoModelForImageTextToText.from_pretrained" in (result / "README.md").read_text()


@pytest.mark.slow
def test_an_adapter_adapts_the_language_part_alone(train, qa: Path, model: Path, tmp_path: Path) -> None:
    packs = transformers.AutoConfig.from_pretrained(model).model_type != "qwen3_5"  # it has layers with a state
    data = {"packing": packs, "max_length": 60}
    training = train(tmp_path / "out", qa, model=model, **PACE, lora_config={}, data=data)
    load_result(training.result, model).merge(tmp_path / "merged")
    assert tensors(tmp_path / "merged").keys() == tensors(model).keys()
    assert (tmp_path / "merged" / "preprocessor_config.json").exists()
    base = load(model)
    plain = peft.PeftModel.from_pretrained(load(model), training.result)
    adapted = [name for name, module in plain.get_base_model().named_modules() if hasattr(module, "lora_A")]
    prefix = next(name for name, module in base.named_modules() if module is language_part(base))
    assert adapted
    assert all(name.startswith(f"{prefix}.") for name in adapted)


@pytest.mark.slow
def test_images_are_refused_in_a_line(train, dataset_of, model_folder: Path, tmp_path: Path) -> None:
    model = made("llava", model_folder, tmp_path / "model")
    content = [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What is this?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A cat."}]
    rows = {
        "parts": [{"messages": messages}],
        "column": [{"prompt": "What?", "completion": " A cat.", "images": ["cat.png"]}],
    }
    for name, given in rows.items():
        with pytest.raises(RequestError, match=r"image") as caught:
            train(tmp_path / name, dataset_of(given, name=name), model=model, **PACE)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_adapter_is_continued_or_merged_and_images_stay(train, qa: Path, model_folder: Path, tmp_path: Path) -> None:
    model = made("gemma3", model_folder, tmp_path / "model")
    first = train(tmp_path / "first", qa, model=model, lora_config={"r": 4}, **PACE).result
    second = train(tmp_path / "second", qa, model=model, adapter=first, **PACE).result
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    assert any((one[name] != other[name]).any() for name in one)
    run = TrainRun(model=model, adapter=second, dataset=qa, output=tmp_path / "out", emit=lambda _: None)
    HuggingFaceTrainParams().check(run)
    whole = tensors(train(tmp_path / "whole", qa, model=model, adapter=second, adapter_mode="merge", **PACE).result)
    before = tensors(model)
    assert whole.keys() == before.keys()
    changed = {name for name in whole if not torch.equal(whole[name], before[name])}
    assert changed
    assert not [name for name in changed if "vision" in name]
