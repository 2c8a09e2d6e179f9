"""What `benchmarks.train` trains on, made by a seed: documents of a language with a grammar, and Llamas with random weights.

Every word is one token, so the numbers of tokens are exact. Documents are short, as chats are, and end with `</s>`,
written out: all arms learn the same tokens then. The tokenizer pads with a token of its own, because an arm that pads
with `</s>` would not learn it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

SPECIAL = ("<pad>", "</s>")
_SHORTEST = 4  # tokens
_SUCCESSORS = 8  # words that may follow a word, so that there is something to learn


@attrs.frozen(kw_only=True)
class Setting:
    """A size of model with the data for it.

    Attributes:
        shape: fields of LlamaConfig.
        documents: number of documents.
        useful: tokens that are predicted and learnt in all of them.
        max_length: the longest document, and the model's context.
        packs: packs of `max_length` tokens in a step.
        batch: documents in a step where they are not packed: about as many tokens.
        micro_batch: those of them that are computed at once, with pads up to `max_length`.
        tied: whether embeddings and head are one.
        learning_rate: of all arms.
    """

    shape: Mapping[str, int]
    documents: int = 400
    useful: int = 20_600
    max_length: int = 512
    packs: int = 2
    batch: int = 20
    micro_batch: int = 20
    tied: bool = True
    learning_rate: float = 2e-3

    @property
    def vocabulary(self) -> int:
        """Tokens, special ones included."""
        return self.shape["vocab_size"]

    @property
    def flops(self) -> float:
        """Of the least that a learnt token costs: frozen weights forward, and back to their inputs."""
        s = self.shape
        heads = s["num_key_value_heads"] / s["num_attention_heads"]
        attention = (2 + 2 * heads) * s["hidden_size"] ** 2
        layer = attention + 3 * s["hidden_size"] * s["intermediate_size"]
        return 4 * (s["num_hidden_layers"] * layer + s["hidden_size"] * s["vocab_size"])


def _shape(vocabulary: int, hidden: int, inner: int, layers: int, *, heads: int, kv_heads: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }


_TINY = _shape(300, 32, 64, 2, heads=2, kv_heads=1)

SETTINGS = {
    "small": Setting(shape=_shape(3_000, 256, 688, 4, heads=4, kv_heads=4)),  # 3.9M parameters
    "27m": Setting(shape=_shape(3_000, 512, 1_376, 8, heads=8, kv_heads=8)),
    # Llama-3 8B, for one GPU with 80 GB; documents as short as chats are, packed to 4,096.
    "8b": Setting(
        shape=_shape(128_256, 4_096, 14_336, 32, heads=32, kv_heads=8),
        documents=500,
        useful=200_000,
        max_length=4_096,
        packs=1,
        batch=10,
        micro_batch=1,
        tied=False,
        learning_rate=2e-4,
    ),
    # The same model; each document fills the model's context.
    "8b_full": Setting(
        shape=_shape(128_256, 4_096, 14_336, 32, heads=32, kv_heads=8),
        documents=100,
        useful=100 * 4_095,
        max_length=4_096,
        packs=1,
        batch=1,
        micro_batch=1,
        tied=False,
        learning_rate=2e-4,
    ),
    # To see within a minute that a benchmark runs, with enough steps to learn something.
    "tiny": Setting(
        shape=_TINY, documents=400, useful=10_000, max_length=64, batch=8, micro_batch=8, learning_rate=2e-2
    ),
    "tiny_full": Setting(
        shape=_TINY, documents=160, useful=160 * 63, max_length=64, batch=2, micro_batch=2, learning_rate=2e-2
    ),
}


def lengths(setting: Setting, seed: int = 0) -> list[int]:
    """Tokens of each document: log-normal, so that most are short and few are long; together exact."""
    numbers = random.Random(seed)
    mean = setting.useful / setting.documents + 1
    drawn = [numbers.lognormvariate(math.log(mean) - 0.32, 0.8) for _ in range(setting.documents)]
    found = [min(max(_SHORTEST, round(length)), setting.max_length) for length in drawn]
    missing = setting.useful - sum(n - 1 for n in found)
    while missing:  # spread what rounding and cutting took, or gave
        i = numbers.randrange(len(found))
        changed = found[i] + (1 if missing > 0 else -1)
        if _SHORTEST <= changed <= setting.max_length:
            missing -= changed - found[i]
            found[i] = changed
    return found


def documents(setting: Setting, *, seed: int = 0) -> list[str]:
    """Texts of one word a token, each ending with `</s>`; another seed gives other texts of the same language."""
    words = setting.vocabulary - len(SPECIAL)
    numbers = random.Random(seed)
    texts = []
    for length in lengths(setting, seed):
        word = numbers.randrange(words)
        chain = [word]
        for _ in range(length - 2):
            word = (word * 31 + 7 + numbers.randrange(_SUCCESSORS) ** 2) % (
                words // 4
            )  # a quarter of the words is in use
            chain.append(word)
        texts.append(" ".join(f"w{w}" for w in chain) + f" {SPECIAL[1]}")
    return texts


def write_inputs(folder: Path, setting: Setting, *, dtype: str) -> None:
    """Write `model/`, if it is not there, `dataset/train.jsonl` and `held_out.jsonl`. Texts are in a column `text`."""
    if not (folder / "model").is_dir():
        _write_model(folder / "model", setting, dtype)
    (folder / "dataset").mkdir(exist_ok=True)
    _write_rows(folder / "dataset" / "train.jsonl", documents(setting))
    _write_rows(
        folder / "held_out.jsonl", documents(attrs.evolve(setting, documents=40, useful=setting.useful // 10), seed=1)
    )


def _write_rows(file: Path, texts: Sequence[str]) -> None:
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")


def _write_model(folder: Path, setting: Setting, dtype: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **setting.shape,
        max_position_embeddings=setting.max_length,
        tie_word_embeddings=setting.tied,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        dtype=dtype,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config).to(getattr(torch, dtype))
    model.save_pretrained(folder)
    _tokenizer(setting).save_pretrained(folder)


def _tokenizer(setting: Setting) -> object:
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*SPECIAL, *(f"w{i}" for i in range(setting.vocabulary - len(SPECIAL)))]
    raw = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.add_special_tokens([AddedToken(name, lstrip=True, special=True) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", model_max_length=setting.max_length
    )


def held_out_loss(inputs: Path, adapter: Path | None, device: str) -> float:
    """Mean loss, in nats, on documents that no arm has seen, with the adapter that an arm saved; None: without any."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(inputs / "model", dtype="auto").to(device)
    model = (model if adapter is None else peft.PeftModel.from_pretrained(model, adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(inputs / "model")
    total = tokens = 0.0
    for line in (inputs / "held_out.jsonl").read_text("utf-8").splitlines():
        ids = tokenizer(json.loads(line)["text"], return_tensors="pt")["input_ids"].to(device)
        with torch.no_grad():
            scores = model(ids).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(scores, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
    return total / tokens
