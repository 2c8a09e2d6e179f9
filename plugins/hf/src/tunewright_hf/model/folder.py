"""What a model's folder holds beside its weights: the configuration and the tokenizer. Nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

import attrs
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.tasks import Task
from tunewright_hf.config.train_params import CONTINUE, TrainParams
from tunewright_hf.data.templates.overrides import override
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import is_known, other_input, other_tasks


def needed_model(run: TrainRun) -> Path:
    """Return the model's folder.

    Raises:
        RequestError: the job has no model.
    """
    if run.model is None:
        raise RequestError("is required for training", field="model", remedy="Give model=…, for example hf://org/name.")
    return run.model


def tokenizer_folder(run: TrainRun) -> Path:
    """Return the folder to load the tokenizer from: an adapter's own, which has the template that it was trained with."""
    if run.adapter is not None and (run.adapter / "tokenizer_config.json").is_file():
        return run.adapter
    return needed_model(run)


def with_lora(params: TrainParams, run: TrainRun) -> TrainParams:
    """Return the parameters of a LoRA, if the run continues one, whose own configuration is not needed."""
    continues = run.adapter is not None and params.adapter_mode == CONTINUE
    return attrs.evolve(params, lora_config=params.lora_config or LoraConfig()) if continues else params


def load_config(folder: Path, params: TrainParams) -> transformers.PreTrainedConfig:
    """Return the model's configuration.

    Raises:
        RequestError: it cannot be read, needs remote code that is not trusted, or is for another task.
    """
    loadable = f"Give a model folder that transformers {transformers.__version__} can load"
    trust = "" if params.trust_remote_code else ", or trust_remote_code=True if you trust the Python code in it"
    with as_request_error("model", f"{loadable}{trust}."):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=params.trust_remote_code)
    task = params.task
    own_code = task.auto_class in (getattr(config, "auto_map", None) or {})
    known = is_known(config, task)
    if not own_code and not (known and _does_with_texts(config, task)):
        raise _no_model(folder, config, task, known=known)
    return config


def _does_with_texts(config: transformers.PreTrainedConfig, task: Task) -> bool:
    """Whether texts are all that a model needs to read, as far as that can be told here."""
    return not transformers.utils.is_torch_available() or not other_input(config, task)


def _no_model(folder: Path, config: transformers.PreTrainedConfig, task: Task, *, known: bool) -> RequestError:
    """Return the error for a model that a task cannot train."""
    others, needs = other_tasks(config), other_input(config, task)
    problem = f"has a {type(config).__name__}, which {task.auto_class} cannot load"
    if needs and (known or not others):
        name = (config.architectures or [type(config).__name__])[0]
        problem = f"is a {name}, which reads {needs}, and models are trained on texts only"
    remedy = f"Give transformer_type={others[0].auto_class!r}." if others else f"Give one of the {task.models}."
    return RequestError(problem, field="model", value=str(folder), remedy=remedy)


def load_tokenizer(folder: Path, params: TrainParams) -> transformers.PreTrainedTokenizerBase:
    """Return the model's tokenizer, with the chat template and the end-of-text token that the user gave.

    Raises:
        RequestError: the folder has none, or it lacks a token that the user named.
    """
    with as_request_error("model", "Save the tokenizer into the model's folder with save_pretrained()."):
        found = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=params.trust_remote_code)
    return override(found, params.data)
