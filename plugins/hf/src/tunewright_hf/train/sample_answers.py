"""Sample answers: let the trained model answer the user's prompts."""

from __future__ import annotations

import logging
import time

import torch
import transformers

from tunewright.events import Sample
from tunewright.providers import TrainRun
from tunewright_hf.config.tasks import SEQ2SEQ
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.data.samples.language_modeling import Encoder
from tunewright_hf.data.samples.preference import PREFERENCE, is_conversation
from tunewright_hf.data.samples.seq2seq import PairEncoder
from tunewright_hf.distributed import is_sharded
from tunewright_hf.model.generation import answer_settings
from tunewright_hf.phases import say

logger = logging.getLogger(__name__)

_ANSWER_TOKENS = 128
_SECONDS_BEFORE = 60


def answer_samples(trainer: transformers.Trainer, params: TrainParams, form: str, run: TrainRun) -> None:
    """Answer the sample prompts by greedy decoding, and emit each as a `sample` event. Only rank 0 does it.

    The model has been saved by now, so an answer that fails is only logged.
    """
    if run.rank or not params.sample_prompts:
        return
    if is_sharded(trainer):
        logger.warning("no sample answers: the model is sharded over the ranks; load the result to generate some")
        return
    say(run, "answer", "answering the sample prompts")
    _answer_all(trainer, params, form, run, step=None)


def answer_samples_before(trainer: transformers.Trainer, params: TrainParams, form: str, run: TrainRun) -> None:
    """Answer the sample prompts with the model as it was given, for a comparison, unless it resumes. Only rank 0 does it.

    A sharded model does not answer. Prompts that are left after a minute are left out, as the other ranks wait meanwhile.
    """
    if params.sample_prompts and run.rank == 0 and not run.resume_from and not is_sharded(trainer):
        say(run, "answer", "answering the sample prompts before the training")
        _answer_all(trainer, params, form, run, step=0)


def _answer_all(
    trainer: transformers.Trainer, params: TrainParams, form: str, run: TrainRun, *, step: int | None
) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model)
    was_training, end = model.training, time.monotonic() + _SECONDS_BEFORE
    model.eval()
    for prompt in params.sample_prompts:
        if step == 0 and time.monotonic() > end:
            break
        try:
            text = answer(model, _encoder(trainer, params, form), prompt)
        except Exception as error:  # whatever a model's generate() raises
            logger.warning("no answer to %r: %s: %s", prompt, type(error).__name__, error)
        else:
            run.emit(Sample(prompt=prompt, text=text, step=step))
    model.train(was_training)


def _encoder(trainer: transformers.Trainer, params: TrainParams, form: str) -> Encoder | PairEncoder:
    tokenizer = trainer.processing_class
    if params.task is SEQ2SEQ:
        return PairEncoder(tokenizer, params.data)
    if form == PREFERENCE:
        form = "chat" if is_conversation(trainer.train_dataset) else "prompt_completion"
    return Encoder(tokenizer, form, params.data)


def answer(model: transformers.PreTrainedModel, encoder: Encoder | PairEncoder, prompt: str) -> str:
    """Return the model's answer to a prompt: at most 128 tokens, or as many as its context has room for."""
    tokenizer = encoder.tokenizer
    ids = torch.tensor([encoder.prompt(prompt)], device=model.device)
    asked = 0 if model.config.is_encoder_decoder else ids.shape[1]  # tokens of the prompt, which the output repeats
    settings = answer_settings(model, tokenizer, prompt=ids.shape[1], max_tokens=_ANSWER_TOKENS)
    if settings is None:
        logger.warning("no answer to %r: it fills the model's context", prompt)
        return ""
    output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return str(tokenizer.decode(output[0, asked:], skip_special_tokens=True)).strip()
