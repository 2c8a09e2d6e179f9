"""Arguments that transformers looks at only when a training begins: they are tried out before a rank starts."""

from __future__ import annotations

import inspect

import accelerate
import torch
import transformers
from transformers.utils import is_liger_kernel_available

from tunewright.errors import RequestError, did_you_mean
from tunewright_hf.config.tasks import CLASSIFICATION, Task
from tunewright_hf.errors import as_request_error

_STEPS = 100  # of a schedule that is only built
_WEIGHTS = [torch.nn.Parameter(torch.zeros(1))]
_MEASURED = ("loss", "runtime", "samples_per_second", "steps_per_second")


def check_begin(args: transformers.TrainingArguments) -> None:
    """Build the optimizer's options and the schedule, and look for the libraries that arguments need.

    Raises:
        RequestError: names the argument.
    """
    _check_optimizer(args)
    _check_schedule(args)
    if args.use_liger_kernel and not is_liger_kernel_available():
        remedy = "Use a trainer image that has it, or leave it out."
        problem = "needs liger-kernel, which is not installed where the training runs"
        raise RequestError(problem, field="use_liger_kernel", value=True, remedy=remedy)
    backends = [backend.value.lower() for backend in accelerate.utils.DynamoBackend]
    if args.torch_compile and str(args.torch_compile_backend).lower() not in backends:
        value, remedy = args.torch_compile_backend, did_you_mean(str(args.torch_compile_backend), backends)
        raise RequestError("is not one of its values", field="torch_compile_backend", value=value, remedy=remedy)
    parameters = inspect.signature(torch.utils.checkpoint.checkpoint).parameters
    known = sorted({*parameters, "preserve_rng_state"} - {"function", "args", "kwargs"})
    for name in args.activation_checkpointing_kwargs or {}:
        if name not in known:
            field, remedy = f"activation_checkpointing_kwargs.{name}", did_you_mean(name, known)
            raise RequestError("is not an argument of torch.utils.checkpoint", field=field, remedy=remedy)


def _check_optimizer(args: transformers.TrainingArguments) -> None:
    with as_request_error("optim", "Use a trainer image that has it, or change what it names."):
        try:
            cls, options = transformers.Trainer.get_optimizer_cls_and_kwargs(args)
            if cls.__module__.startswith("torch."):  # others may need a GPU, or the model
                cls(_WEIGHTS, **options)
        except (ValueError, AttributeError):
            if not args.optim_target_modules:  # which are looked for in the model
                raise


def _check_schedule(args: transformers.TrainingArguments) -> None:
    optimizer = torch.optim.SGD(_WEIGHTS, lr=args.learning_rate)
    kind = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type))
    with as_request_error("lr_scheduler_kwargs", f"Give what lr_scheduler_type={kind!r} takes."):
        transformers.get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=args.get_warmup_steps(_STEPS),
            num_training_steps=_STEPS,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs,
        )


def check_metric(args: transformers.TrainingArguments, task: Task) -> None:
    """Refuse to compare checkpoints by a metric that no evaluation of the task computes: the first one would fail.

    Raises:
        RequestError: names the metrics that there are.
    """
    metric = args.metric_for_best_model
    known = [*_MEASURED, *(("accuracy", "mae") if task is CLASSIFICATION else ())]
    # The loss of each dataset of a mixture is "loss/NAME".
    if metric is not None and metric.removeprefix("eval_").partition("/")[0] not in known:
        problem = "is not computed by evaluations"
        raise RequestError(problem, field="metric_for_best_model", value=metric, remedy=did_you_mean(metric, known))
