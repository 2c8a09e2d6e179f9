"""Real objects of transformers and peft, given to the client as kubeflow-training 1.9 takes them."""

import copy
from pathlib import Path

from tunewright import TrainingClient
from tunewright_hf import HuggingFaceTrainParams


def test_real_objects_of_transformers_and_peft_go_through_and_stay_as_they_are(tmp_path: Path) -> None:
    import peft
    import transformers

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), learning_rate=3e-4, max_steps=7, save_strategy="no"
    )
    lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj"])
    before = copy.deepcopy((arguments.to_dict(), lora.to_dict()))
    request = TrainingClient("kubernetes").train_request(
        name="real", model="hf://org/m", dataset="hf://datasets/org/d",
        trainer_parameters=HuggingFaceTrainParams(training_parameters=arguments, lora_config=lora),
    )  # fmt: skip
    provider = request.trainer.provider
    assert dict(provider.training_parameters) == {"learning_rate": 3e-4, "max_steps": 7, "save_strategy": "no"}
    assert dict(provider.lora_config) == {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]}
    assert (arguments.to_dict(), lora.to_dict()) == before
    plain = {"training_parameters": {"learning_rate": 3e-4, "max_steps": 7, "save_strategy": "no"}}
    same = HuggingFaceTrainParams(**plain, lora_config={"r": 16, "lora_alpha": 32, "target_modules": ["q_proj"]})
    assert provider == same
