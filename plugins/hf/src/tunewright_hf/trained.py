"""Load a finished model and let it answer: the result of the trainer `hf`, with its template and its stop tokens."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import huggingface_hub
import peft
import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import MARKER, Message, Sampling, TrainedModel
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import auto_class_of, reads_images
from tunewright_hf.model.generation import answer_settings
from tunewright_hf.model.language import copy_processor
from tunewright_hf.model.origin import origin_of
from tunewright_hf.model.saved_files import ADAPTER_CONFIG, finish_files

_STAGE = ".tunewright-merging-"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class HuggingFaceModel(TrainedModel):
    """A model and its tokenizer, on the first GPU if there is one."""

    def __init__(self, model: transformers.PreTrainedModel, folder: Path, base: Path) -> None:
        self._model = model.eval()
        self._folder = folder
        self._base = base
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if (folder / "generation_config.json").is_file():  # of the result, where an adapter's model has the base's
            self._model.generation_config = transformers.GenerationConfig.from_pretrained(folder)

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        """Yield the answer piece by piece; see `TrainedModel.answer`."""
        ids = torch.tensor([self._prompt(messages, sampling)], device=self._model.device)
        settings = answer_settings(
            self._model,
            self._tokenizer,
            prompt=ids.shape[1],
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
        )
        if settings is None:
            problem = f"has {ids.shape[1]} tokens, which fill the model's context"
            raise RequestError(problem, field="messages", remedy="Begin a new conversation, or shorten it.")
        streamer = transformers.TextIteratorStreamer(
            self._tokenizer, skip_prompt=not self._model.config.is_encoder_decoder, skip_special_tokens=True
        )
        yield from self._stream(ids, settings, streamer, sampling.seed)

    def merge(self, folder: Path) -> None:
        """Write the merged model and its tokenizer; see `TrainedModel.merge`."""
        if not isinstance(self._model, peft.PeftModel):
            problem = "is a whole model, without an adapter to merge"
            raise RequestError(problem, field="result", value=str(self._folder), remedy="Use the folder as it is.")
        if folder.exists():
            remedy = "Give a folder that does not exist yet."
            raise RequestError("exists already", field="folder", value=str(folder), remedy=remedy)
        settings = self._model.generation_config
        remedy = "Load the adapter with peft instead: not every kind of adapter can be merged."
        with as_request_error("result", remedy), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT uses a name that transformers is to remove
            merged = self._model.merge_and_unload()
        merged.generation_config = settings
        stage = folder.with_name(f"{_STAGE}{folder.name}")
        shutil.rmtree(stage, ignore_errors=True)
        merged.save_pretrained(stage)
        self._tokenizer.save_pretrained(stage)
        if reads_images(merged.config):
            copy_processor(self._base, stage)
        finish_files(stage, self._tokenizer)
        stage.rename(folder)

    def _prompt(self, messages: Sequence[Message], sampling: Sampling) -> list[int]:
        if sampling.as_text or not self._tokenizer.chat_template:
            return cast("list[int]", self._tokenizer(messages[-1]["content"])["input_ids"])
        with as_request_error("messages", "Give the messages that the model's chat template takes, or --text."):
            rendered = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], add_generation_prompt=True, return_dict=True
            )
        return list(rendered["input_ids"])

    def _stream(
        self,
        ids: torch.Tensor,
        settings: transformers.GenerationConfig,
        streamer: transformers.TextIteratorStreamer,
        seed: int | None,
    ) -> Iterator[str]:
        failed: list[BaseException] = []

        def generate() -> None:
            try:
                if seed is not None:
                    transformers.set_seed(seed)
                with torch.inference_mode():
                    self._model.generate(
                        input_ids=ids,
                        attention_mask=torch.ones_like(ids),
                        generation_config=settings,
                        streamer=streamer,
                    )
            except BaseException as error:  # raised again in the thread that reads
                failed.append(error)
                streamer.end()

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        yield from streamer
        thread.join()
        if failed:
            raise failed[0]


def load(folder: Path, model: Path | None) -> HuggingFaceModel:
    """Load a result of the trainer `hf`; see `TrainerProvider.load_result`."""
    transformers.utils.logging.disable_progress_bar()
    adapter = _adapter_of(folder)
    base = _base_of(adapter, folder, model) if adapter else folder
    _check_code(base)
    remedy = "Give the folder of a result: the model's files, or an adapter beside --model, the model that it was trained on."
    with as_request_error("result", remedy):
        config = transformers.AutoConfig.from_pretrained(base)
        task = _task_of(adapter.get("task_type"), folder, config)
        loaded = getattr(transformers, auto_class_of(config, task)).from_pretrained(base, dtype="auto")
        if adapter:
            loaded = peft.PeftModel.from_pretrained(loaded, folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return HuggingFaceModel(loaded.to(device), folder, base)


def _check_code(base: Path) -> None:
    """Refuse a model that brings Python code where nobody can be asked whether it may run, as transformers asks."""
    file = base / transformers.utils.CONFIG_NAME
    brings = file.is_file() and bool(json.loads(file.read_text("utf-8")).get("auto_map"))
    if brings and not sys.stdin.isatty():
        problem = "brings Python code of its own, and there is no terminal to ask whether it may run"
        remedy = "Run this command in a terminal, or load the result as its README.md says."
        raise RequestError(problem, field="result", value=str(base), remedy=remedy)


def _adapter_of(folder: Path) -> dict[str, object]:
    """Return the configuration of an adapter; empty for a whole model."""
    file = folder / ADAPTER_CONFIG
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _task_of(named: object, folder: Path, config: transformers.PreTrainedConfig) -> Task:
    kinds = [*(getattr(config, "architectures", None) or []), str(named)]
    if any("Classification" in kind or kind == "SEQ_CLS" for kind in kinds):
        remedy = "Use transformers' pipeline('text-classification', model=…)."
        problem = f"is a classifier ({CLASSIFICATION.auto_class}), which answers nothing"
        raise RequestError(problem, field="result", value=str(folder), remedy=remedy)
    return SEQ2SEQ if config.is_encoder_decoder else CAUSAL


def _base_of(adapter: Mapping[str, object], folder: Path, model: Path | None) -> Path:
    """Return the folder of the model that an adapter belongs to.

    Raises:
        RequestError: it is not on this machine.
    """
    name, revision = str(adapter.get("base_model_name_or_path") or ""), cast("str | None", adapter.get("revision"))
    base = model or (Path(name) if Path(name).is_dir() else _beside(folder, name) or _cached(name, revision))
    if base is not None and base.is_dir():
        return base
    problem = f"is an adapter of the model {name!r}, which is not on this machine"
    uri = f"hf://{name}{f'@{revision}' if revision else ''}" if _REPOSITORY.fullmatch(name) else name
    fetch = uri if "://" in uri else "hf://org/name"
    remedy = f"Give --model the folder of that model; `tunewright fetch {fetch} ./base` downloads it to ./base/model."
    raise RequestError(problem, field="result", value=str(folder), remedy=remedy)


def _beside(result: Path, name: str) -> Path | None:
    """Return the model's folder in the job that made a result, if it is the model of that name."""
    base = result.resolve().parent.parent / "model"
    return base if (base / MARKER).is_file() and origin_of(base).name == name else None


def _cached(name: str, revision: str | None) -> Path | None:
    """Return a model's folder in the cache of huggingface_hub."""
    if not _REPOSITORY.fullmatch(name):
        return None
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):  # it is not there
        return None
