"""Make what the quickstart trains on, from nothing but the installed Python, in examples/quickstart/ beside this file.

data/train.jsonl and data/validation.jsonl: questions about Python's standard library; each answer is the first sentence
of a docstring. model/: a byte-level BPE tokenizer trained on them, and a small Llama with random weights. Takes seconds,
and the same Python makes the same files.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Modules that every Python has, on every system; importing one does nothing that can be seen.
MODULES = """
    argparse base64 bisect builtins calendar collections configparser contextlib copy csv dataclasses datetime difflib
    enum fileinput fnmatch fractions functools getpass glob gzip hashlib heapq hmac html ipaddress itertools json keyword
    math os os.path pathlib pickle platform pprint queue random re sched secrets shelve shlex shutil signal socket
    statistics string struct subprocess sys tempfile textwrap threading time timeit types urllib.parse urllib.request
    warnings weakref webbrowser zipfile zlib zoneinfo
"""
LEAST_PAIRS = 2_000
VOCABULARY = 4_096

# The last form is kept for the evaluation: what was learnt, asked in other words.
QUESTIONS = {
    "function": ("What does {name} do?", "What is {name} for?", "Explain {name}.", "Describe {name}."),
    "class": ("What is {name}?", "What is {name} for?", "Explain {name}.", "Describe {name}."),
    "module": ("What does the module {name} do?", "What is {name} for?", "Explain {name}.", "Describe {name}."),
}

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL_TOKENS = ["<|end|>", "<|user|>", "<|assistant|>"]

Pair = tuple[str, str]
"""A question and its answer."""


def main(folder: Path = Path(__file__).parent / "quickstart") -> None:
    """Make the data, the tokenizer and the model in a folder, and say what was made."""
    train, held_out = question_answer_pairs()
    write_rows(folder / "data" / "train.jsonl", train)
    write_rows(folder / "data" / "validation.jsonl", held_out)
    parameters = make_model(folder / "model", train)
    print(f"data:  {len(train):,} questions and answers in {folder / 'data'}")
    print(f"       for example: {train[0][0]} {train[0][1]}")
    print(f"model: a Llama with {parameters / 1e6:.1f}M random weights, and its tokenizer, in {folder / 'model'}")


def documented() -> Iterator[tuple[str, str, str]]:
    """Name, kind and description of what is public in `MODULES` and has a docstring with a first sentence."""
    for name, kind, thing in public_things():
        description = first_sentence(getattr(thing, "__doc__", None))
        if description and not any(part.startswith("_") for part in name.split(".")):
            yield name, kind, description


def public_things() -> Iterator[tuple[str, str, object]]:
    """Name, kind and object: the modules, their functions and classes, and the classes' methods."""
    for module_name in MODULES.split():
        module = importlib.import_module(module_name)
        yield module_name, "module", module
        prefix = "" if module_name == "builtins" else f"{module_name}."
        for name in sorted(getattr(module, "__all__", dir(module))):
            thing = getattr(module, name)
            if inspect.isroutine(thing):
                yield f"{prefix}{name}", "function", thing
            elif inspect.isclass(thing):
                yield f"{prefix}{name}", "class", thing
                methods = sorted(n for n, value in vars(thing).items() if inspect.isroutine(value))
                yield from ((f"{prefix}{name}.{n}", "function", vars(thing)[n]) for n in methods)


def first_sentence(docstring: object) -> str | None:
    """The first sentence of a docstring, if it is a plain one: a capital, not too long, a full stop."""
    paragraph = str(docstring).strip().partition("\n\n")[0]
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z])", paragraph)[0]
    found = re.fullmatch(r"[A-Z][^:<>|]{18,62}\.", " ".join(sentence.split()))
    return found[0] if found else None


def question_answer_pairs() -> tuple[list[Pair], list[Pair]]:
    """What to train on, and what is held out. Each description is used for one name only."""
    names: dict[str, tuple[str, str]] = {}
    for name, kind, description in documented():
        names.setdefault(description, (name, kind))
    train: list[Pair] = []
    held_out: list[Pair] = []
    for number, (answer, (name, kind)) in enumerate(names.items()):
        *asked, kept = (question.format(name=name) for question in QUESTIONS[kind])
        train += [(question, answer) for question in asked]
        held_out += [(kept, answer)] if number % 8 == 0 else []
    if len(train) < LEAST_PAIRS:
        raise SystemExit(f"Only {len(train)} pairs were found: does Python run with -OO, which removes docstrings?")
    return train, held_out


def write_rows(file: Path, pairs: list[Pair]) -> None:
    """Write pairs as conversations, one JSON object a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as rows:
        for question, answer in pairs:
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            rows.write(json.dumps({"messages": messages}) + "\n")


def make_model(folder: Path, pairs: list[Pair]) -> int:
    """Train the tokenizer, make the model, save both as one folder; returns the number of the model's parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = make_tokenizer(text for pair in pairs for text in pair)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    end = SPECIAL_TOKENS[0]
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=end, pad_token=end, chat_template=CHAT_TEMPLATE)


if __name__ == "__main__":
    main()
