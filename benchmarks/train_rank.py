"""One rank of an arm of `benchmarks.train`: torchrun starts this file, in the arm's own environment.

Nothing of the project is imported but by our own arm. What it measures is the same for all: a callback that transformers'
Trainer, which all arms have inside, calls after each step. What it writes is in `clock-<rank>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import ClassVar

if sys.argv[1:2] and sys.argv[1].startswith(
    "ours"
):  # imported as `train` of our launcher does it: the clock must not do it before
    from tunewright_hf.startup import without_garbage_collection as begun
else:
    from contextlib import nullcontext as begun
with begun():
    import torch
    import transformers
    from transformers import Trainer, TrainerCallback

Job = dict[str, object]
_IGNORED = -100


class Clock(TrainerCallback):
    """Notes the time, the tokens learnt, and processor time of this process and of the machine, at each step's end.

    On a GPU, whose work is waited for after the first and after the last step only: to wait is what some arms avoid.
    """

    tokens: ClassVar[torch.Tensor | int] = 0
    steps: ClassVar[list[dict[str, float]]] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note them."""
        if not Clock.steps:
            wait()
        Clock.steps.append(now())

    def on_train_end(self, *_: object, **__: object) -> None:
        """Note the last step's again, when it has really ended."""
        if torch.cuda.is_available():
            wait()
            Clock.steps[-1] = now()


def wait() -> None:
    """Until the GPU has done all that it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def now() -> dict[str, float]:
    """What is noted."""
    seconds = {"time": time.time(), "cpu": time.process_time(), "machine": machine_seconds()}
    return {**seconds, "tokens": Clock.tokens}


def machine_seconds() -> float:
    """Processor time that all processes of the machine have used; 0 where the system does not tell."""
    try:
        fields = Path("/proc/stat").read_text("utf-8").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def count_tokens() -> None:
    """Count, in whatever Trainer, the labels that are predicted."""
    original = Trainer.training_step

    def training_step(self, model, inputs, *args, **kwargs):  # type: ignore[no-untyped-def]
        Clock.tokens = Clock.tokens + (inputs["labels"][:, 1:] != _IGNORED).sum()
        return original(self, model, inputs, *args, **kwargs)

    Trainer.training_step = training_step


def arguments(job: Job) -> dict[str, object]:
    """TrainingArguments that all arms share."""
    shared = {"output_dir": f"{job['workspace']}/output", "save_strategy": "no", "report_to": "none", "seed": 1}
    shared |= {"logging_steps": 10, "disable_tqdm": True, "use_cpu": job["device"] == "cpu"}
    return {**shared, "learning_rate": job["learning_rate"], "num_train_epochs": job["epochs"], "bf16": job["bf16"]}


def unpacked(job: Job) -> dict[str, object]:
    """The step of arms that do not pack."""
    return {"per_device_train_batch_size": job["micro_batch"], "gradient_accumulation_steps": job["accumulation"]}


def lora() -> dict[str, object]:
    """LoraConfig that all arms share."""
    return {"r": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def ours(job: Job) -> None:
    """Whatever `train` of the launcher does, with the parameters that it finds in the job's configuration."""
    from tunewright_launcher.cli import main

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from benchmarks.ablations import leave_out

    leave_out(str(job["arm"]))

    if code := main(["train"]):
        sys.exit(code)


def sdk_1_9(job: Job) -> None:
    """What the trainer of kubeflow-training 1.9 does, in our words, since its package on PyPI does not have it.

    Documents are padded to the full context, inputs require gradients, and Trainer has its defaults. Left out: it divides the
    rows among the ranks twice, so two ranks would learn half. Added: it does not save the adapter, which is compared here.
    """
    import datasets
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(job["model"])
    for parameter in model.parameters():
        parameter.requires_grad = False
    rows = datasets.load_dataset("json", data_files=f"{job['dataset']}/train.jsonl", split="train")
    rows = rows.map(lambda row: tokenizer(row["text"], padding="max_length", truncation=True), batched=True)
    model.enable_input_require_grads()
    model = peft.get_peft_model(model, peft.LoraConfig(**lora()))
    args = transformers.TrainingArguments(**arguments(job), **unpacked(job))
    trainer = transformers.Trainer(model=model, train_dataset=rows, args=args)
    trainer.data_collator = transformers.DataCollatorForLanguageModeling(tokenizer, pad_to_multiple_of=8, mlm=False)
    trainer.train()
    trainer.save_model(f"{job['workspace']}/output/model")


def trl_default(job: Job) -> None:
    """TRL as it comes, but for the number format, which all arms share."""
    _trl(job, **unpacked(job))


def trl_tuned(job: Job) -> None:
    """TRL as its documentation makes it fast: packed by best fit, without gradient checkpointing."""
    half = {"model_init_kwargs": {"dtype": "bfloat16"}} if job["bf16"] else {}
    packed = {"packing": True, "packing_strategy": "bfd", "per_device_train_batch_size": job["packs"]}
    _trl(job, **packed, **half, gradient_checkpointing=False)


def trl_segment(job: Job) -> None:
    """As `trl_tuned`, with attention document by document, which transformers lets one register."""
    from torch.nn.functional import scaled_dot_product_attention as attention

    def by_document(*given, scaling=None, cu_seq_lens_q=None, **_):  # type: ignore[no-untyped-def]
        _, query, key, value, _ = given
        lengths = cu_seq_lens_q.diff().tolist()
        parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
        grouped = query.shape[1] != key.shape[1]
        found = [attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped) for q, k, v in parts]
        return torch.cat(found, 2).transpose(1, 2), None

    transformers.AttentionInterface.register("by_document", by_document)
    transformers.AttentionMaskInterface.register("by_document", lambda *_, **__: None)
    job["attention"] = "by_document"
    trl_tuned(job)


def _trl(job: Job, **given: object) -> None:
    import datasets
    import peft
    import trl

    rows = datasets.load_dataset("json", data_files=f"{job['dataset']}/train.jsonl", split="train")
    init = {**given.pop("model_init_kwargs", {}), "attn_implementation": job.get("attention", "sdpa")}  # type: ignore[dict-item]
    args = trl.SFTConfig(**arguments(job), max_length=job["max_length"], model_init_kwargs=init, **given)
    config = peft.LoraConfig(**lora())
    trainer = trl.SFTTrainer(model=job["model"], args=args, train_dataset=rows, peft_config=config)
    trainer.train()
    trainer.save_model(f"{job['workspace']}/output/model")


ARMS = {f.__name__: f for f in (ours, sdk_1_9, trl_tuned, trl_segment, trl_default)}


def main() -> None:
    """Train, and write down what the clock saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm")
    parser.add_argument("job", type=Path, help="a JSON file")
    options = parser.parse_args()
    job = json.loads(options.job.read_text("utf-8"))
    torch.set_num_threads(job["threads"])
    transformers.trainer.DEFAULT_CALLBACKS.append(Clock)
    count_tokens()
    job["arm"] = options.arm
    ARMS.get(options.arm, ours)(job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    device_peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    steps = [{**step, "tokens": int(step["tokens"])} for step in Clock.steps]
    found = {"steps": steps, "peak": peak, "device_peak": device_peak, "torch": torch.__version__}
    file = Path(job["workspace"], f"clock-{os.environ.get('RANK', '0')}.json")
    file.write_text(json.dumps({**found, "transformers": transformers.__version__}), "utf-8")
    if torch.distributed.is_initialized():  # left by other arms: at the process's end its threads now and then abort it
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
