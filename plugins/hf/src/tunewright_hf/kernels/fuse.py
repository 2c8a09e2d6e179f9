"""Fused layers: replace layers by faster ones of equal results, through `tunewright_hf.kernels.patches`.

LoRA: frozen linear layers with the same input (q, k and v; gate and up) become one autograd function: one product computes
all their A's, and adapters are added inside the products of the frozen weights. Loss: only supervised positions go through
`lm_head`, in chunks whose gradients are computed at once; the logits are never kept. RMSNorm, rotary embeddings and SwiGLU
take fewer passes over memory.

Weights stay in PEFT's modules under PEFT's names, so saving, merging and evaluating are PEFT's own.
"""

from __future__ import annotations

import logging

import transformers

from tunewright_hf.distributed import is_sharded
from tunewright_hf.kernels import patches
from tunewright_hf.kernels.allocator import keep_freed_memory
from tunewright_hf.kernels.cross_entropy import Positions, Record, fuse_loss
from tunewright_hf.kernels.lora import fuse_lora
from tunewright_hf.kernels.rms_norm import fuse_norms
from tunewright_hf.kernels.rotary import fuse_rotary
from tunewright_hf.kernels.swiglu import fuse_gates

logger = logging.getLogger(__name__)


def fuse(trainer: transformers.Trainer, record: Record | None = None, *, own_loss: bool = False) -> bool:
    """Replace layers of the trainer's model, before training.

    Sharded and compiled models are left as they are, since FSDP, DeepSpeed and torch.compile replace weights or forwards.

    Args:
        trainer: the trainer.
        record: receives the loss of each supervised position, if the loss is fused.
        own_loss: whether the trainer's class may need logits, which a model with a fused loss does not return.

    Returns:
        Whether the loss is fused.
    """
    args = trainer.args
    if args.device.type == "cpu":
        keep_freed_memory()
    if is_sharded(trainer) or args.torch_compile or args.n_gpu > 1:
        logger.info("fused_layers: not with FSDP, ZeRO's stage 3, other sharding, torch.compile or DataParallel")
        return False
    context = trainer.accelerator.autocast
    layers = fuse_lora(trainer.model, context)
    reason = "the class of the Trainer computes losses, or evaluates, in its own way" if own_loss else _other_loss(args)
    if reason:
        patches.say_left("loss", reason)
    loss = not reason and fuse_loss(trainer.model, record, context)
    if loss:
        trainer.data_collator = Positions(trainer.data_collator)
    counts = (f(trainer.model, context) for f in (fuse_norms, fuse_rotary, fuse_gates))
    suffix = "loss" if loss else "not the loss"
    logger.info("fused_layers: %d LoRA layers, %d norms, %d rotations, %d gates, %s", layers, *counts, suffix)
    return loss


def _other_loss(args: transformers.TrainingArguments) -> str:
    """Return why arguments do not allow a fused loss, or ""."""
    if args.fp16:
        return "in fp16, gradients that are computed before the loss is scaled would underflow"
    if args.label_smoothing_factor:
        return "label_smoothing_factor needs the logits, which the Trainer computes a loss of"
    return "use_liger_kernel has a forward of its own" if args.use_liger_kernel else ""
