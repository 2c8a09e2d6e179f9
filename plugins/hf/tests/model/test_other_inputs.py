"""Models that are made to read something else than texts: refused with what they read, whatever Auto class is asked for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import HuggingFaceTrainParams
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, IMAGE_TEXT, SEQ2SEQ
from tunewright_hf.model.folder import load_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

EVERY = tuple(task.auto_class for task in (CAUSAL, SEQ2SEQ, CLASSIFICATION))
HEARS = {
    "whisper": "WhisperForConditionalGeneration",
    "speech_to_text": "Speech2TextForConditionalGeneration",
    "moonshine": "MoonshineForConditionalGeneration",
    "speech-encoder-decoder": "SpeechEncoderDecoderModel",
    "wav2vec2": "Wav2Vec2ForCTC",
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "voxtral": "VoxtralForConditionalGeneration",
    "granite_speech": "GraniteSpeechForConditionalGeneration",
    "seamless_m4t": "SeamlessM4TForSpeechToText",
    "clap": "ClapModel",
}
SEES = {
    "vision-encoder-decoder": "VisionEncoderDecoderModel",
    "vit": "ViTForImageClassification",
    "clip": "CLIPModel",
    "florence2": "Florence2ForConditionalGeneration",
    "timesformer": "TimesformerForVideoClassification",
}
SPEECH = {"vocab_size": 405, "d_model": 16, "num_mel_bins": 8, "max_source_positions": 12, "max_target_positions": 64}
SPEECH |= {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SPEECH |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "pad_token_id": 0, "decoder_start_token_id": 0}


def config_of(family: str) -> object:
    if family.endswith("-encoder-decoder"):
        encoder = "wav2vec2" if family.startswith("speech") else "vit"
        parts = [transformers.CONFIG_MAPPING[name]() for name in (encoder, "gpt2")]
        return transformers.CONFIG_MAPPING[family].from_encoder_decoder_configs(*parts)
    return transformers.CONFIG_MAPPING[family]()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, str | None], Path]:
    def make(family: str, architecture: str | None) -> Path:
        config = config_of(family)
        config.architectures = [architecture] if architecture else None
        config.save_pretrained(tmp_path / family)
        return tmp_path / family

    return make


@pytest.mark.slow
@pytest.mark.parametrize("asked", EVERY)
@pytest.mark.parametrize(("family", "architecture"), [*HEARS.items(), *SEES.items()], ids=[*HEARS, *SEES])
def test_a_model_of_sounds_or_images_is_refused_with_what_it_reads(
    family: str, architecture: str, asked: str, saved: Callable[[str, str | None], Path]
) -> None:
    words = "sound" if family in HEARS else "images|videos"
    with pytest.raises(RequestError) as error:
        load_config(saved(family, architecture), HuggingFaceTrainParams(transformer_type=asked))
    assert error.match(
        rf"is a {architecture}, which reads (images and )?({words}), and models are trained on texts only"
    )
    assert error.value.field == "model"
    assert "transformer_type" not in (error.value.remedy or ""), "no other class would do"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "architecture", "asked"),
    [
        ("llama", "LlamaForCausalLM", CAUSAL.auto_class),
        ("llama", None, CAUSAL.auto_class),
        ("t5", "T5ForConditionalGeneration", SEQ2SEQ.auto_class),
        ("t5gemma2", "T5Gemma2ForConditionalGeneration", SEQ2SEQ.auto_class),
        ("encoder-decoder", None, SEQ2SEQ.auto_class),
        ("bert", "BertForMaskedLM", CLASSIFICATION.auto_class),
        ("gemma3", "Gemma3ForConditionalGeneration", IMAGE_TEXT),
        ("gemma3n", "Gemma3nForConditionalGeneration", CAUSAL.auto_class),
        ("phi4_multimodal", "Phi4MultimodalForCausalLM", CAUSAL.auto_class),
        ("moss_transcribe_diarize", "MossTranscribeDiarizeForConditionalGeneration", CAUSAL.auto_class),
        ("seamless_m4t", "SeamlessM4TForTextToText", SEQ2SEQ.auto_class),
    ],
)
def test_what_can_do_with_texts_is_loaded(
    family: str, architecture: str | None, asked: str, saved: Callable[[str, str | None], Path], tmp_path: Path
) -> None:
    if family == "encoder-decoder":
        parts = [transformers.CONFIG_MAPPING["bert"]() for _ in range(2)]
        transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*parts).save_pretrained(tmp_path / family)
        folder = tmp_path / family
    else:
        folder = saved(family, architecture)
    assert load_config(folder, HuggingFaceTrainParams(transformer_type=asked)).model_type == family


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "architecture", "asked", "other"),
    [
        ("bert", "BertForMaskedLM", SEQ2SEQ, CLASSIFICATION),
        ("t5", "T5ForConditionalGeneration", CAUSAL, SEQ2SEQ),
        ("moss_transcribe_diarize", "MossTranscribeDiarizeForConditionalGeneration", SEQ2SEQ, CAUSAL),
    ],
)
def test_another_class_is_named_if_it_would_do(
    family: str, architecture: str, asked, other, saved: Callable[[str, str | None], Path]
) -> None:
    with pytest.raises(RequestError, match=rf"Give transformer_type='{other.auto_class}'"):
        load_config(saved(family, architecture), HuggingFaceTrainParams(transformer_type=asked.auto_class))


@pytest.mark.slow
@pytest.mark.parametrize("asked", EVERY)
def test_a_built_speech_model_is_refused_by_check(
    asked: str, model_folder: Path, qa: Path, classified: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**SPEECH)).save_pretrained(folder)
    dataset = classified if asked == CLASSIFICATION.auto_class else qa
    run = TrainRun(model=folder, dataset=dataset, output=tmp_path / "out", emit=lambda _: None)
    with pytest.raises(RequestError, match=r"is a WhisperForConditionalGeneration, which reads sound"):
        HuggingFaceTrainParams(transformer_type=asked).check(run)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["ReformerModelWithLMHead", "ReformerForMaskedLM"])
def test_reformer_is_refused_for_its_lengths(architecture: str, model_folder: Path, qa: Path, tmp_path: Path) -> None:
    sizes = {"attention_head_size": 8, "hidden_size": 16, "num_attention_heads": 2, "feed_forward_size": 16}
    more = {
        "vocab_size": 405,
        "attn_layers": ["lsh", "local"],
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [8, 8],
    }
    config = transformers.ReformerConfig(**sizes, **more, is_decoder=architecture.endswith("LMHead"))
    folder = tmp_path / "model"
    transformers.AutoTokenizer.from_pretrained(model_folder).save_pretrained(folder)
    getattr(transformers, architecture)(config).save_pretrained(folder)
    run = TrainRun(model=folder, dataset=qa, output=tmp_path / "out", emit=lambda _: None)
    with pytest.raises(
        RequestError, match=r"is a ReformerConfig, which trains on texts of one length alone.*axial_pos_shape"
    ):
        HuggingFaceTrainParams().check(run)
