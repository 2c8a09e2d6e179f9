"""Tunewright plugin for Hugging Face: `hf://` models and datasets, and the trainer `hf`."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, Request, TrainerProvider, TrainRequest, hookimpl
from tunewright.plan import JobPlan
from tunewright_hf.config import sharding
from tunewright_hf.config.data_params import DataParams
from tunewright_hf.config.library_arguments import BitsAndBytesConfig, LoraConfig, TrainingArguments
from tunewright_hf.hub.providers import HuggingFaceDatasetParams, HuggingFaceModelParams
from tunewright_hf.provider import HuggingFaceTrainParams

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
        sharding.check_plan(plan, request, request.trainer.provider.training_parameters)
    return plan
