"""Layers that compute what PEFT's and transformers' do, with less work. What is not recognised stays as it is.

LoRA: frozen linear layers that read the same input (q, k and v; gate and up) are one autograd function: their A's are one
product, and adapters are added inside the matrix products that are made anyway. The loss: only positions with a label go
through `lm_head`, in pieces, and each piece's gradient is computed at once; the logits are never kept. What is around the
matrix products: see `tunewright_hf.kernels.recognise` and `tunewright_hf.kernels.swiglu`.

Weights stay in PEFT's modules under PEFT's names; saving, merging and evaluating are PEFT's own.
"""

from __future__ import annotations

import logging

import transformers

from tunewright_hf.distributed import is_sharded
from tunewright_hf.kernels.allocator import keep_freed_memory
from tunewright_hf.kernels.cross_entropy import Positions, fuse_loss
from tunewright_hf.kernels.lora import fuse_lora
from tunewright_hf.kernels.rms_norm import fuse_norms
from tunewright_hf.kernels.rotary import fuse_rotary
from tunewright_hf.kernels.swiglu import fuse_gates

logger = logging.getLogger(__name__)


def fuse(trainer: transformers.Trainer) -> None:
    """Replace layers of the trainer's model; called before training.

    Sharded and compiled models are left alone: they replace weights and forwards themselves.
    """
    args = trainer.args
    if args.device.type == "cpu":
        keep_freed_memory()
    if is_sharded(trainer) or args.torch_compile or args.n_gpu > 1:
        logger.info("fused_layers: not with FSDP, ZeRO's stage 3, other sharding, torch.compile or DataParallel")
        return
    layers = fuse_lora(trainer.model)
    # fp16 has no room for gradients that are computed before the loss is scaled; Liger has a forward of its own.
    loss = not (args.fp16 or args.use_liger_kernel) and fuse_loss(trainer.model)
    if loss:
        trainer.data_collator = Positions(trainer.data_collator)
    counts = (fuse_norms(trainer.model), fuse_rotary(trainer.model), fuse_gates(trainer.model))
    told = "loss" if loss else "not the loss"
    logger.info("fused_layers: %d LoRA layers, %d norms, %d rotations, %d gates, %s", layers, *counts, told)
