"""Every family of models that transformers registers for our tasks, built tiny and tried out: fused, packed, saved, adapted.

`python -m plugins.hf.tests.model.family_scan` writes what became of each into `docs/model-families.json`, for the documentation.
"""

import contextlib
import copy
import json
import logging
import multiprocessing
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import peft
import torch
import transformers
from plugins.hf.tests.model.family_fields import GIVEN

from tunewright_hf.config.library_arguments import LoraConfig
from tunewright_hf.config.tasks import CAUSAL, CLASSIFICATION, IMAGE_TEXT, SEQ2SEQ, TASKS
from tunewright_hf.data.samples.collators import Collator
from tunewright_hf.kernels.cross_entropy import fuse_loss
from tunewright_hf.kernels.lora import fuse_lora
from tunewright_hf.kernels.rms_norm import fuse_norms
from tunewright_hf.kernels.rotary import fuse_rotary
from tunewright_hf.model import adapters, attention, config, probe
from tunewright_hf.model import families as families_
from tunewright_hf.model.language import freeze_other_parts
from tunewright_hf.model.miniature import miniature

OUTCOMES = Path(__file__).parents[4] / "docs" / "model-families.json"
LOADERS = (CAUSAL.auto_class, IMAGE_TEXT, SEQ2SEQ.auto_class, CLASSIFICATION.auto_class)
LENGTHS = [9, 2, 14, 5]
LARGEST = 2e7  # weights; a miniature with more has parts that no rule makes small


class Unbuilt(Exception):  # noqa: N818 - an outcome
    """A family that cannot be built tiny."""


def families() -> Iterator[tuple[str, str]]:
    """Yield each Auto class and model type."""
    for loader in LOADERS:
        for family in sorted(getattr(transformers, loader)._model_mapping._model_mapping):
            yield loader, family


def built(loader: str, family: str) -> transformers.PreTrainedModel:
    """Return a tiny model.

    Raises:
        Unbuilt: says why there is none.
    """
    cls = transformers.CONFIG_MAPPING[family]
    auto = getattr(transformers, loader)
    try:
        small = miniature(cls(), **GIVEN.get(family, {}))
        if loader == CLASSIFICATION.auto_class:  # a classifier of a batch needs one
            small.pad_token_id = small.get_text_config().pad_token_id = 0
        with torch.device("meta"):
            size = sum(w.numel() for w in auto.from_config(small).parameters())
        if size > LARGEST:
            raise Unbuilt(f"{size / 1e6:.0f} million weights at least")
        torch.manual_seed(0)
        model = auto.from_config(small)
    except Unbuilt:
        raise
    except BaseException as error:  # whatever an architecture makes of sizes that it was not written for
        raise Unbuilt(f"{type(error).__name__}: {brief(error)}") from error
    without_dropout(model)
    return model


def without_dropout(model: torch.nn.Module) -> None:
    for part in config.every_config(model.config):
        for name, value in list(vars(part).items()):
            if isinstance(value, float) and re.search("dropout|drop_rate|layerdrop|pdrop|jitter|noise", name):
                vars(part)[name] = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and re.search("dropout|layerdrop|drop_prob|jitter", name):
                vars(module)[name] = 0.0


def brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return re.sub(r"/\S+/", "", text)[:160]


def outcome(loader: str, family: str) -> str:
    """Return what becomes of a family: trained (packed or padded), refused, or not built.

    Raises:
        AssertionError: something is trained wrongly.
    """
    if family in families_.REFUSED:
        return f"refused: {families_.REFUSED[family]}"
    task = TASKS[loader]
    try:
        known = transformers.CONFIG_MAPPING[family]()
    except Exception as error:
        return f"not built: {type(error).__name__}: {brief(error)}"
    loads = config.auto_class_of(known, task)
    others = not config.is_known(known, task) or (loader == IMAGE_TEXT and loads != loader)
    needs = "" if others else config.other_input(known, task)
    if others or needs:
        return f"refused: {f'it reads {needs}' if needs else 'it is not a causal language model'}"
    if loader == CAUSAL.auto_class and loads != loader:
        return f"trained with {loads}"
    try:
        return tried(built(loader, family), loader)
    except Unbuilt as unbuilt:
        return f"not built: {unbuilt}"


def tried(model: transformers.PreTrainedModel, loader: str) -> str:
    """As `outcome`, of a tiny model."""
    task = TASKS[loader]
    if task is CAUSAL and (flaw := probe.flaw_of(model)):
        return f"refused: {flaw}"
    try:
        found = step(copy.deepcopy(model), batch_of(task, model.config))
    except Exception as error:
        raise Unbuilt(f"no step: {type(error).__name__}: {brief(error)}") from error
    if found is None:
        raise Unbuilt("its loss is not a number")
    check_saved(model, loader)
    if not check_fused(model, task):
        return "trained, without LoRA"
    if task is not CAUSAL:
        return "trained"
    return "trained, packed" if packs(model) else "trained, padded"


def ids_of(rows: int = 2, length: int = 12) -> torch.Tensor:
    return torch.randint(2, 40, (rows, length), generator=torch.Generator().manual_seed(1))


def batch_of(task, about: transformers.PreTrainedConfig) -> dict[str, torch.Tensor]:
    ids = ids_of()
    if about.is_encoder_decoder and task is CLASSIFICATION:  # it looks at the end of a text
        end = about.get_text_config().eos_token_id
        ids[ids == end] = 2 if end != 2 else 3
        ids[:, -1] = end
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return {**batch, "labels": torch.tensor([0, 1])} if task is CLASSIFICATION else {**batch, "labels": ids}


def step(model, batch) -> dict[str, torch.Tensor] | None:
    """The loss and the gradients of a step in training mode; None if the loss is not a number."""
    model.train()
    model.zero_grad()
    restore = config.without_cache(model.config)
    torch.manual_seed(3)
    loss = model(**batch).loss
    restore()
    if not torch.isfinite(loss):
        return None
    loss.backward()
    return {"loss": loss.detach(), **{n: w.grad for n, w in model.named_parameters() if w.grad is not None}}


def check_fused(model, task) -> bool:
    """Assert that a step with fused layers is one with PEFT's own; return False if LoRA fits no layer."""
    freeze_other_parts(model)
    lora = adapters.build_lora(LoraConfig(r=4, init_lora_weights=False), task.lora)
    if task is CLASSIFICATION:
        lora = adapters.with_head(lora, model)
    torch.manual_seed(2)
    try:
        plain = peft.get_peft_model(model, adapters.fit_to(lora, model))
    except ValueError as error:
        if "No modules were targeted" not in str(error):
            raise
        return False  # `check` refuses `lora_config` with PEFT's words
    assert any(hasattr(module, "lora_A") for module in plain.modules()), "LoRA adapts nothing"
    expected = step(plain, batch_of(task, model.config))
    fuse_lora(plain), fuse_norms(plain), fuse_rotary(plain)
    if task is CAUSAL:
        fuse_loss(plain)
    found = step(plain, batch_of(task, model.config))
    for module in plain.modules():  # what is compared next is the model's own
        vars(module).pop("forward", None)
    assert expected is not None
    assert found is not None
    assert expected.keys() == found.keys()
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        # What is zero but for rounding, as for a query with one key, differs in any order of sums.
        least = 1e-4 * float(value.abs().max()) + 1e-6 * largest
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=least, msg=lambda m, n=name: f"{n}: {m}")
    plain.unload()
    return True


def check_saved(model, loader: str) -> None:
    """Assert that a saved model loads as its own class, with every tensor that it had."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        cls = getattr(
            transformers, config.auto_class_of(transformers.AutoConfig.from_pretrained(folder), TASKS[loader])
        )
        loaded, info = cls.from_pretrained(folder, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not info["missing_keys"], info
    assert not info["unexpected_keys"], info
    before, after = model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    changed = [name for name, value in before.items() if not torch.equal(value.to(after[name]), after[name])]
    assert not [name for name in changed if name in dict(model.named_parameters())], changed


def packs(model) -> bool:
    """Whether samples are concatenated; asserts that they are computed as each by itself."""
    attention.choose_attention(model, "auto", half=False)
    collate = Collator(0, padding_free=True)
    if not probe.isolates_samples(model, collate):
        return False
    check_isolated(exact(model), collate)
    return True


def exact(model):
    """The model in float64, where no choice of an expert hangs on a rounding; in float32 if it computes in no other."""
    try:
        with probe.evaluating(model):
            model.double()(input_ids=ids_of())
    except (RuntimeError, TypeError):
        return model.float()
    return model


def check_isolated(model, collate) -> None:
    """Assert that each sample of a packed row has the logits that it has by itself, whatever the others are."""
    rows = [ids_of(1, n)[0].tolist() for n in LENGTHS]
    packed, others = (
        {k: v for k, v in collate([{"input_ids": row, "labels": row} for row in given]).items() if k != "labels"}
        for given in (rows, [[*reversed(rows[0])], *rows[1:]])
    )
    with probe.evaluating(model):
        found, moved = (model(**batch).logits[0].double() for batch in (packed, others))
        # As transformers computes it: "segments" is what is tried out.
        with probe.another_attention(model):
            expected = torch.cat([model(input_ids=torch.tensor([row])).logits[0].double() for row in rows])
    change = (moved - found)[LENGTHS[0] :].abs().mean()
    assert float(change) <= 1e-5 * float(found.abs().mean()), "a sample changes those behind it"
    off = (found - expected).abs().mean(1) > 1e-3 * expected.abs().mean(1)
    assert not off.any(), f"{int(off.sum())} of {len(off)} tokens are not as those of each sample alone"


def said(pair: tuple[str, str]) -> str:
    """As `outcome`, with what goes wrong."""
    with quiet():
        try:
            return outcome(*pair)
        except BaseException as error:
            return f"WRONG: {type(error).__name__}: {brief(error)}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what libraries say of small models, and compute in one thread, where more of them wait for each other."""
    of, threads, level = transformers.utils.logging, torch.get_num_threads(), logging.root.manager.disable
    verbosity, bars = of.get_verbosity(), of.is_progress_bar_enabled()
    of.set_verbosity_error()
    of.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        torch.set_num_threads(threads)
        logging.disable(level)
        of.set_verbosity(verbosity)
        if bars:
            of.enable_progress_bar()


def main() -> None:
    only = sys.argv[1:]
    pairs = [pair for pair in families() if not only or pair[0] in only or pair[1] in only]
    found: dict[str, dict[str, str]] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for (loader, family), text in zip(pairs, pool.imap(said, pairs, chunksize=4), strict=True):
            found.setdefault(loader, {})[family] = text
            print(loader, family, text, flush=True)
    if not only:
        whole = {"transformers": transformers.__version__, "families": found}
        OUTCOMES.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
