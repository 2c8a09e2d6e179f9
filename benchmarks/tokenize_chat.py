"""Tokenising conversations, and rendering and tokenising them once without a label: `python -m benchmarks.tokenize_chat [--json]`.

Ours also finds the turns, for which templates have to render the beginnings of a conversation, checks that every message
is written, and makes labels. What is promised: the time for a turn does not grow with the number of turns before it.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import transformers

from benchmarks.timing import as_json, interleaved, show
from tunewright_hf import DataParams
from tunewright_hf.data.samples.language_modeling import Encoder

OURS, ONCE = "tunewright", "rendered and tokenised once"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = [f"word{i}" for i in range(3000)]


def main() -> None:
    """Print the table and the ratios, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 2, 5, 20], help="of a conversation")
    parser.add_argument("--model", help="folder of a tokenizer to use instead of one that is made here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model or made(Path(folder)))
    arms: dict[str, Callable[[], object]] = {}
    for rounds in arguments.rounds:
        rows = [conversation(random.Random(number), rounds) for number in range(max(1, 40 // rounds))]
        arms |= {f"{name}, {rounds} rounds": call for name, call in ways(tokenizer, rows).items()}
    timings = interleaved(arms, arguments.repeats)
    medians = {name: timing.median for name, timing in timings.items()}
    ratios = {
        f"{n} rounds to once": medians[f"{OURS}, {n} rounds"] / medians[f"{ONCE}, {n} rounds"] for n in arguments.rounds
    }
    show(timings, ratios, limits={})
    for rounds in arguments.rounds:
        print(f"{rounds} rounds: {medians[f'{OURS}, {rounds} rounds'] / max(1, 40 // rounds) * 1e3:.2f} ms a row")
    if arguments.json:
        print(as_json({"rounds": arguments.rounds, "repeats": arguments.repeats}, timings, ratios))


def conversation(chance: random.Random, rounds: int) -> list[dict[str, str]]:
    """Return rounds of a question and an answer of 30 words each."""
    roles = ("user", "assistant") * rounds
    return [{"role": role, "content": " ".join(chance.choices(WORDS, k=30))} for role in roles]


def ways(
    tokenizer: transformers.PreTrainedTokenizerBase, rows: list[list[dict[str, str]]]
) -> dict[str, Callable[[], object]]:
    """Return both ways to tokenise some conversations."""
    encoder = Encoder(tokenizer, "chat", DataParams())
    return {
        OURS: lambda: [encoder({"messages": messages}) for messages in rows],
        ONCE: lambda: [tokenizer.apply_chat_template(messages, return_dict=True) for messages in rows],
    }


def made(folder: Path) -> Path:
    """Save a byte-level BPE tokenizer, with a template that ends turns with a control token, into a folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=letters, show_progress=False))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>")
    tokenizer.add_tokens([AddedToken("<|im_start|>", special=True, normalized=False)])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
