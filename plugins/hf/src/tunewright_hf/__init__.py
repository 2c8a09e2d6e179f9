"""Tunewright plugin for Hugging Face: `hf://` models and datasets, and the trainer `hf`."""

from __future__ import annotations

from tunewright import DatasetProvider, ModelProvider, Request, RequestError, TrainerProvider, TrainRequest, hookimpl
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
    "HuggingFaceTrainerParams",
    "LoraConfig",
    "TrainingArguments",
]

HuggingFaceTrainerParams = HuggingFaceTrainParams
"""The name that kubeflow-training 1.9 has for it."""


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
    if isinstance(request, TrainRequest):
        if isinstance(request.trainer.provider, HuggingFaceTrainParams):
            sharding.check_plan(plan, request, request.trainer.provider.training_parameters)
        else:
            _refuse_rows(request)
    return plan


def _refuse_rows(request: TrainRequest) -> None:
    """Refuse a slice of a split for a trainer that would train on all of it."""
    for slot, source in request.sources.items():
        if isinstance(source.provider, HuggingFaceDatasetParams) and (rows := source.provider.part.rows):
            problem = f"are taken by the trainer hf only, and {request.trainer.plugin.name} would get all rows"
            remedy = "Name the split without a slice, and let the trainer take some of its rows."
            raise RequestError(problem, field=f"{slot}.rows", value=rows, remedy=remedy)
