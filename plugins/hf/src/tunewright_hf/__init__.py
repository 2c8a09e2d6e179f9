"""Hugging Face for Tunewright: `hf://` models and datasets, and the trainer `hf`."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, TrainerProvider, hookimpl
from tunewright.request import Request, TrainRequest
from tunewright.specs import JobPlan
from tunewright_hf import shards
from tunewright_hf.params import DataParams, HuggingFaceTrainParams, LoraConfig, TrainingArguments
from tunewright_hf.quantization import BitsAndBytesConfig
from tunewright_hf.sources import HuggingFaceDatasetParams, HuggingFaceModelParams

__all__ = [
    "BitsAndBytesConfig",
    "DataParams",
    "HuggingFaceDatasetParams",
    "HuggingFaceModelParams",
    "HuggingFaceTrainParams",
    "LoraConfig",
    "TrainingArguments",
]


@hookimpl
def tunewright_model_provider() -> type[ModelProvider]:
    return HuggingFaceModelParams


@hookimpl
def tunewright_dataset_provider() -> type[DatasetProvider]:
    return HuggingFaceDatasetParams


@hookimpl
def tunewright_trainer_provider() -> type[TrainerProvider]:
    return HuggingFaceTrainParams


@hookimpl
def tunewright_modify_plan(plan: JobPlan, request: Request) -> JobPlan:
    if isinstance(request, TrainRequest) and isinstance(request.trainer.provider, HuggingFaceTrainParams):
        shards.check_plan(plan, request, request.trainer.provider.training_parameters)
    return plan
