"""Going on from an adapter: the configuration that it continues with, whether it fits the model, and its weights."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import torch
import transformers

from tunewright.errors import RequestError
from tunewright.providers import TrainRun
from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.train_params import CONTINUE, MERGE, RANDOM_START, TrainParams
from tunewright_hf.errors import as_request_error
from tunewright_hf.model.adapters import ALL_LINEAR, build_lora, fit_to
from tunewright_hf.model.config import auto_class_of, is_known
from tunewright_hf.model.dtypes import shapes_in
from tunewright_hf.model.files import adapter_config
from tunewright_hf.model.origin import origin_of

if TYPE_CHECKING:
    import peft

logger = logging.getLogger(__name__)

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PREFIX = "base_model.model."  # of the names of an adapter's weights

# Fields of a LoRA that change neither its shape nor what its weights mean: a continued one may have others. Some values of
# init_lora_weights, as "pissa", also change the weights of the model.
_FREE = frozenset({"lora_dropout", "task_type"})


def continued(params: TrainParams, run: TrainRun) -> TrainParams:
    """Return the parameters for a run, with the adapter's own configuration if it is continued.

    Raises:
        RequestError: the run's adapter cannot be read, `lora_config` contradicts it, or it is not used.
    """
    if run.adapter is None:
        params.check_adapter_mode(given=False)
        return params
    params.check_adapter_mode(given=True)
    own = _config_of(run.adapter)
    if params.adapter_mode == MERGE:
        return params
    if str(own.get("init_lora_weights")).startswith(RANDOM_START):
        problem = "was begun with init_lora_weights=pissa_niter, which takes a random part from the model's weights"
        remedy = (
            "Convert it with PEFT where it was trained: save_pretrained(path_initial_model_for_weight_conversion=…)."
        )
        raise RequestError(problem, field="adapter", value=str(run.adapter), remedy=remedy)
    given = params.lora_config or LoraConfig()
    for name, value in given.items():
        if name not in _FREE and not _agrees(name, value, own.get(name, _default(name))):
            problem = f"differs from the adapter's, which is {own.get(name, _default(name))!r}"
            remedy = "Leave it out to continue the adapter, or give adapter_mode='merge' to train a new one."
            raise RequestError(problem, field=f"lora_config.{name}", value=value, remedy=remedy)
    freely = {name: value for name, value in given.items() if name in _FREE}
    return attrs.evolve(params, lora_config=LoraConfig(**{**own, **freely}))


def _config_of(folder: Path) -> LoraConfig:
    import peft

    adapter_config(folder)
    with as_request_error("adapter", "Give the folder of a LoRA adapter as PEFT saves it."):
        return LoraConfig.of(peft.PeftConfig.from_pretrained(folder))


def _agrees(name: str, given: object, own: object) -> bool:
    if name == "target_modules" and given == "all-linear":  # which PEFT replaces by the names of the layers
        return True
    if isinstance(given, list | tuple) and isinstance(own, list | tuple):
        return sorted(map(str, given)) == sorted(map(str, own))
    return given == own


def _default(name: str) -> object:
    import peft

    return getattr(peft.LoraConfig(), name)


def check_fits(
    params: TrainParams, config: transformers.PreTrainedConfig, run: TrainRun, given: LoraConfig | None = None
) -> None:
    """Refuse an adapter of another base model, and one whose weights cannot be read or do not fit the model's layers.

    Args:
        params: the user's parameters, with the adapter's own configuration if it is continued.
        config: the model's configuration.
        run: the run; without an adapter, nothing is checked.
        given: the LoRA that the user gave.

    Raises:
        RequestError: the adapter does not fit.
    """
    if run.adapter is None:
        return
    _check_base(run)
    found = _shapes(run.adapter)
    if not is_known(config, params.task):  # remote code may need its weights
        return
    _check_shapes(params, config, run.adapter, found)
    if params.adapter_mode == CONTINUE and given is not None and given.get("target_modules") == ALL_LINEAR:
        _check_all_linear(params, config, found)


def _check_base(run: TrainRun) -> None:
    """Compare the base that an adapter names with the model, where both are known by their ids on the Hub."""
    assert run.adapter is not None  # noqa: S101 - for the type checker: checked by the caller
    assert run.model is not None  # noqa: S101 - likewise
    named = adapter_config(run.adapter)
    base, revision = str(named.get("base_model_name_or_path") or ""), str(named.get("revision") or "")
    model = origin_of(run.model, run.uris.get("model"))
    if base == model.name:
        if _COMMIT.fullmatch(revision) and model.revision and revision != model.revision:
            logger.warning("the adapter was trained on commit %s of %s, not on %s", revision, base, model.revision)
        return
    if not (model.on_hub and _REPOSITORY.fullmatch(base)):
        logger.warning("the adapter names its base model %s; whether %s is the same is not known", base, model.name)
        return
    problem = f"belongs to the model {base}, not to {model.name}"
    remedy = f"Give model: hf://{base}. If both are the same weights, correct base_model_name_or_path in its adapter_config.json."
    raise RequestError(problem, field="adapter", value=run.uris.get("adapter", str(run.adapter)), remedy=remedy)


def _check_shapes(
    params: TrainParams, config: transformers.PreTrainedConfig, folder: Path, found: Mapping[str, tuple[int, ...]]
) -> None:
    import peft

    lora = cast("peft.LoraConfig", peft.PeftConfig.from_pretrained(folder))
    lora.init_lora_weights = True  # other ways look at the weights
    lora.inference_mode = False
    model = _empty(config, params)
    whole = {f"{_PREFIX}{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    with as_request_error("adapter", "Give an adapter of this model."):
        adapted = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    wanted = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    expected = {name: shape for name, shape in shapes.items() if ".lora_" in name}
    # Modules that are saved as a whole, and embeddings.
    expected |= {name: shape for name, shape in {**whole, **shapes}.items() if name in found}
    for name in sorted(expected.keys() | {name for name in found if ".lora_" in name}):
        if expected.get(name) != found.get(name):
            has, needs = found.get(name, "nothing"), expected.get(name, "nothing")
            problem = f"does not fit the model: for {name} it has {has}, and the model needs {needs}"
            remedy = "Give the model that the adapter was trained on."
            raise RequestError(problem, field="adapter", value=str(folder), remedy=remedy)


def _check_all_linear(
    params: TrainParams, config: transformers.PreTrainedConfig, found: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse to continue an adapter of some linear layers where the user asks for all of them."""
    import peft

    own = {name: value for name, value in (params.lora_config or {}).items() if name == "exclude_modules"}
    model = _empty(config, params)
    lora = fit_to(build_lora(LoraConfig(**own, target_modules=ALL_LINEAR), params.task.lora), model)
    with as_request_error("lora_config", "Leave target_modules out to continue the adapter."):
        adapted = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    every = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if lacking := sorted(name for name in every if ".lora_A." in name and name not in found):
        layer = lacking[0].removeprefix(_PREFIX).partition(".lora_A.")[0]
        problem = f"is more than the adapter has, which leaves out {layer}"
        remedy = "Leave it out to continue the adapter, or give adapter_mode='merge' to train a new one."
        raise RequestError(problem, field="lora_config.target_modules", value=ALL_LINEAR, remedy=remedy)


def _empty(config: transformers.PreTrainedConfig, params: TrainParams) -> transformers.PreTrainedModel:
    """Return the model without its weights."""
    with torch.device("meta"):
        return getattr(transformers, auto_class_of(config, params.task)).from_config(config)


def _shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of an adapter's weights by name, without reading the weights.

    Raises:
        RequestError: their file is damaged.
    """
    file = folder / "adapter_model.safetensors"
    if file.is_file():
        return shapes_in(file, "adapter")
    with as_request_error("adapter", "Give the folder of a LoRA adapter as PEFT saves it."):
        state = torch.load(folder / "adapter_model.bin", map_location="meta", weights_only=True)
        return {name: tuple(tensor.shape) for name, tensor in state.items()}


def with_adapter(model: transformers.PreTrainedModel, folder: Path, lora: peft.LoraConfig) -> peft.PeftModel:
    """Return the model with the weights of an adapter, to train them on.

    Args:
        model: the model.
        folder: the adapter.
        lora: the configuration to continue it with.

    Raises:
        RequestError: PEFT cannot load it.
    """
    return _loaded(model, folder, is_trainable=True, config=lora)


def merged_with(model: transformers.PreTrainedModel, folder: Path) -> transformers.PreTrainedModel:
    """Return the model with an adapter merged into its weights, which are trained or frozen as before.

    Raises:
        RequestError: PEFT cannot load or merge it.
    """
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    merged = _loaded(model, folder).merge_and_unload()
    for name, weight in merged.named_parameters():
        weight.requires_grad_(name in trained)
    return merged


def _loaded(model: transformers.PreTrainedModel, folder: Path, **options: object) -> peft.PeftModel:
    import peft

    with as_request_error("adapter", "Give a complete adapter of this model."):
        # On the CPU, or PEFT reads the weights of every rank into the first GPU.
        return peft.PeftModel.from_pretrained(model, folder, torch_device="cpu", **options)
