"""What a model is tried out for before it is trained: windows, autocast, and families that cannot learn the next token."""

import contextlib
from pathlib import Path

import pytest

from tunewright import RequestError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from tunewright_hf import HuggingFaceTrainParams  # noqa: E402
from tunewright_hf.config.library_arguments import LoraConfig  # noqa: E402
from tunewright_hf.config.tasks import CAUSAL  # noqa: E402 - they need torch
from tunewright_hf.data.samples.collators import Collator  # noqa: E402
from tunewright_hf.kernels import attention as kernel  # noqa: E402
from tunewright_hf.model import adapters, attention, probe  # noqa: E402
from tunewright_hf.model.families import check_family, check_packing  # noqa: E402
from tunewright_hf.model.miniature import miniature  # noqa: E402

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "vocab_size": 60}
COLLATE = Collator(0, padding_free=True)


def model_of(family: str, **given: object):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **{**SIZES, "initializer_range": 0.5, **given})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def test_a_window_longer_than_the_samples_is_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("mistral", sliding_window=4096)
    attention.choose_attention(model, "segments", half=False)
    assert probe.isolates_samples(model, COLLATE)
    assert model.config.sliding_window == 4096, "it is as it was"
    attend = kernel.attend

    def ignoring_windows(*heads, sliding_window, **more):
        return attend(*heads, **more)

    monkeypatch.setattr(kernel, "attend", ignoring_windows)
    kernel.register()
    assert not probe.isolates_samples(model, COLLATE)
    monkeypatch.undo()
    kernel.register()


class OwnCode(transformers.LlamaForCausalLM):
    """A model's own code that computes long rows in another way, without a window in any name."""

    def forward(self, input_ids, position_ids=None, **given):
        if input_ids.shape[1] > 80:
            return super().forward(input_ids)
        return super().forward(input_ids, position_ids=position_ids, **given)


@pytest.mark.parametrize(("longest", "tokens"), [(60, 100), (20, 100)], ids=["long samples", "many samples"])
def test_own_code_is_tried_out_with_rows_as_long_as_the_trainings(longest: int, tokens: int) -> None:
    model = OwnCode(transformers.LlamaConfig(**SIZES, initializer_range=0.5)).eval()
    assert probe.isolates_samples(model, COLLATE)
    assert probe.isolates_samples(model, COLLATE, row=probe.Row.within(30, 60))
    assert not probe.isolates_samples(model, COLLATE, row=probe.Row.within(longest, tokens))


@pytest.mark.parametrize("family", ["mamba", "mistral"])
def test_the_check_refuses_to_pack_where_samples_are_not_isolated(family: str) -> None:
    refused = pytest.raises(RequestError, match=r"packing=True: does not work with this Mamba\w+.*Leave packing out")
    for packing in (True, False):
        params = HuggingFaceTrainParams(data={"packing": packing})
        with refused if packing and family == "mamba" else contextlib.nullcontext():
            check_packing(transformers.AutoConfig.for_model(family), params)


def test_the_model_is_tried_out_in_the_trainings_precision() -> None:
    def half_only(module, query, *heads, **given):
        if query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):  # else transformers casts them
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        return kernel.sdpa_attention_forward(module, query, *heads, **given)

    transformers.AttentionInterface.register("half_only", half_only)
    transformers.AttentionMaskInterface.register("half_only", transformers.masking_utils.sdpa_mask)
    model = model_of("llama")
    model.set_attn_implementation("half_only")
    model.config.use_cache = False
    assert probe.isolates_samples(model, COLLATE, autocast=torch.autocast("cpu", torch.bfloat16))


ENCODER = "bert", {"is_decoder": False}
DECODER = (
    "bart",
    {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_layers": 1, "encoder_layers": 1},
)


@pytest.mark.parametrize(
    ("family", "given", "problem"),
    [(*ENCODER, "attend to the ones that they are to predict"), (*DECODER, "would learn to copy its input")],
)
def test_a_model_that_cannot_learn_the_next_token_is_refused(family: str, given, problem: str) -> None:
    config = transformers.AutoConfig.for_model(family, **given)
    with pytest.raises(RequestError, match=rf"model='{family}': is a \w+, .*{problem}.*\. Give a causal"):
        check_family(config, CAUSAL)


@pytest.mark.parametrize("given", [{"is_decoder": True}, {"is_decoder": True, "add_cross_attention": True}])
def test_a_decoder_is_not(given) -> None:
    check_family(transformers.AutoConfig.for_model("bert", **given), CAUSAL)


@pytest.mark.slow
def test_ranks_refuse_it_where_the_check_could_not(
    train, qa: Path, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(model_folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    sizes = {**DECODER[1], "vocab_size": 400, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    model_of("bart", **sizes).save_pretrained(tmp_path / "model")
    with pytest.raises(RequestError, match="would learn to copy its input"):
        train(tmp_path / "out", qa, model=tmp_path / "model", max_steps=1)


def test_no_probe_is_left_in_a_model() -> None:
    model = model_of("llama")
    attention.choose_attention(model, "segments", half=False)
    model.train()
    with contextlib.suppress(RequestError):
        probe.check_causal(model)
    probe.isolates_samples(model, COLLATE)
    assert model.training
    assert model.config._attn_implementation == "segments"


@pytest.mark.parametrize(
    ("family", "left"),
    [
        ("llama4_text", "router"),
        pytest.param("mamba2", "out_proj", marks=pytest.mark.slow),
        pytest.param("gpt_oss", "experts", marks=pytest.mark.slow),
    ],
)
def test_all_linear_leaves_out_what_lora_does_not_fit(family: str, left: str, caplog) -> None:
    given = {"num_heads": 8, "head_dim": 8} if family == "mamba2" else {}
    model = transformers.AutoModelForCausalLM.from_config(
        miniature(transformers.AutoConfig.for_model(family, hidden_size=2048, **dict.fromkeys(given, 64)), **given)
    )
    adapted = peft.get_peft_model(model, adapters.fit_to(adapters.build_lora(LoraConfig()), model))
    names = [name for name, module in adapted.named_modules() if hasattr(module, "lora_A")]
    assert names
    assert not any(left in name for name in names)
    assert left in caplog.text
