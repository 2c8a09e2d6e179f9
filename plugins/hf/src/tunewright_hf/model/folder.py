"""What a model's folder holds beside its weights: the configuration and the tokenizer. Nothing here needs torch."""

from __future__ import annotations

from pathlib import Path

import attrs
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.tasks import TASKS
from tunewright_hf.config.train_params import CONTINUE, TrainParams
from tunewright_hf.data.templates.overrides import override
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.config import is_known


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
    if not is_known(config, task) and not own_code:
        others = [t.auto_class for t in TASKS.values() if is_known(config, t)]
        remedy = f"Give transformer_type={others[0]!r}." if others else f"Give one of the {task.models}."
        problem = f"has a {type(config).__name__}, which {task.auto_class} cannot load"
        raise RequestError(problem, field="model", value=str(folder), remedy=remedy)
    return config


def load_tokenizer(folder: Path, params: TrainParams) -> transformers.PreTrainedTokenizerBase:
    """Return the model's tokenizer, with the chat template and the end-of-text token that the user gave.

    Raises:
        RequestError: the folder has none, or it lacks a token that the user named.
    """
    with as_request_error("model", "Save the tokenizer into the model's folder with save_pretrained()."):
        found = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=params.trust_remote_code)
    return override(found, params.data)
