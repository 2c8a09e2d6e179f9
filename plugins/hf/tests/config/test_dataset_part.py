"""What a dataset's provider says of its part is what the trainer reads."""

import attrs
import pytest

import tunewright_hf
from tunewright import RequestError, TrainingClient
from tunewright._planning.assemble import assemble
from tunewright_hf import DataParams, HuggingFaceDatasetParams, HuggingFaceTrainParams

URI = "hf://datasets/org/name"


def data_of(data: object = None, *, eval_dataset: object = None, **part: object) -> DataParams:
    request = TrainingClient(backend="local").train_request(
        model="hf://org/model",
        dataset=HuggingFaceDatasetParams(uri=URI, **part),
        eval_dataset=eval_dataset,
        trainer=HuggingFaceTrainParams(data=data or {}),
    )
    return request.trainer.provider.data


@pytest.mark.parametrize(
    ("part", "data", "config", "train_split"),
    [
        ({}, {}, None, "train"),
        ({"config": "en"}, {}, "en", "train"),
        ({"split": "train[:3000]"}, {}, None, "train[:3000]"),
        ({"split": "test"}, {}, None, "test"),
        ({"split": "train"}, {"train_split": "train[:5]", "config": "en"}, "en", "train[:5]"),
        ({"config": "en", "split": "sft[:5]"}, {"train_split": "sft", "config": "en"}, "en", "sft[:5]"),
    ],
)
def test_the_trainer_reads_the_part_that_the_provider_names(part, data, config, train_split) -> None:
    found = data_of(data, **part)
    assert (found.config, found.train_split, found.eval_split) == (config, train_split, None)


def test_a_uri_tells_the_trainer_too() -> None:
    request = TrainingClient(backend="local").train_request(
        model="hf://org/model",
        dataset=f"{URI}?config=en&split=train[:10]",
        eval_dataset=f"{URI}?config=fr&split=test[:5]",
        trainer="hf",
    )
    data = request.trainer.provider.data
    assert (data.config, data.train_split, data.eval_split) == ("en", "train[:10]", "test[:5]")


@pytest.mark.parametrize(
    ("part", "data", "words"),
    [
        ({"config": "en"}, {"config": "fr"}, r"DataParams\.config='fr': differs from the dataset provider's, 'en'"),
        ({"split": "test"}, {"train_split": "dev"}, r"train_split='dev': differs from the dataset provider's, 'test'"),
        ({"split": "train[:5]"}, {"train_split": "train[:6]"}, r"differs from the dataset provider's, 'train\[:5\]'"),
        ({"split": "train"}, {"eval_split": "test"}, r"eval_split='test': is not fetched.*trainer\.data\.train_split: train"),
        ({"split": "train[10%:]"}, {"streaming": True}, "does not work with streaming=True"),
    ],
)  # fmt: skip
def test_what_the_provider_and_the_trainer_say_must_agree(part, data, words) -> None:
    with pytest.raises(RequestError, match=words):
        HuggingFaceTrainParams(data=data, max_steps=1).for_datasets(HuggingFaceDatasetParams(uri=URI, **part), None)


def test_the_split_to_evaluate_on_may_be_of_the_same_one_or_of_another_dataset() -> None:
    assert data_of({"eval_split": "train[:5]"}, split="train[5:]").eval_split == "train[:5]"
    other = HuggingFaceDatasetParams(uri=URI, split="test")
    assert data_of({}, split="train", eval_dataset=other).eval_split == "test"
    with pytest.raises(RequestError, match="eval_split='dev': differs"):
        data_of({"eval_split": "dev"}, split="train", eval_dataset=other)


def test_a_slice_is_refused_for_a_trainer_that_would_not_take_it() -> None:
    request = TrainingClient(backend="local").train_request(
        model="hf://org/model", dataset=HuggingFaceDatasetParams(uri=URI, split="train[:3]"), trainer="hf"
    )
    plan = assemble(request)
    assert tunewright_hf.tunewright_modify_plan(plan, request) == plan

    other = attrs.evolve(request, trainer=attrs.evolve(request.trainer, provider=object()))
    with pytest.raises(RequestError, match=r"dataset\.rows='\[:3\]': are taken by the trainer hf only"):
        tunewright_hf.tunewright_modify_plan(plan, other)


def test_what_only_a_list_of_datasets_gives_a_meaning_to_is_refused_on_the_client() -> None:
    with pytest.raises(RequestError, match="mix_by='tokens': shares a training out among several datasets"):
        data_of({"mix_by": "tokens"})
    client = TrainingClient(backend="local")
    trainer = HuggingFaceTrainParams(data={"mix_by": "tokens"})
    client.train_request(model="hf://org/model", dataset=[URI, f"{URI}-2"], trainer=trainer)
