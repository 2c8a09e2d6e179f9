"""Tokens and label masks of the corpus of row shapes, ours and TRL's: `python -m benchmarks.peers_rows --peer PYTHON`.

PYTHON is the interpreter of an environment of its own that has TRL and torch; the project does not depend on either version:

    uv venv peers && VIRTUAL_ENV=$PWD/peers uv pip install trl
    uv run python -m benchmarks.peers_rows --peer peers/bin/python

Both get the same rows, a tiny model, and a chat template that writes the same text; TRL's marks the assistant's turns with
{% generation %}, which it needs. TRL is told to learn the assistant's turns of conversations and the completions of pairs.
Where TRL reads a row, tokens and masks must be equal, or the difference is explained in `DIFFERENCES`; the command fails
otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from plugins.hf.tests.data.corpus import SHAPES as FIRST
from plugins.hf.tests.data.corpus import Shape
from plugins.hf.tests.data.corpus_more import MORE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tunewright.errors import RequestError
from tunewright_hf import DataParams
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.formats import read_columns
from tunewright_hf.data.samples.language_modeling import Encoder

SHAPES = (*FIRST, *MORE)

_PARTS = "TRL writes the list of parts as Python shows it; ours writes their text"
_BESIDE = "TRL leaves the other column out and trains; ours refuses it until it is named in ignore_columns"
_MEANS = "TRL trains on every row as it is; ours refuses a column that labels, rates or orders the rows"
_WEIGHTS = "TRL learns every turn; ours leaves out the turns that the row says not to learn"

DIFFERENCES: Mapping[str, str] = {
    **dict.fromkeys(("content parts", "content parts with value", "OpenAI responses"), _PARTS),
    **dict.fromkeys(("Anthropic", "Bedrock"), f"{_PARTS}, and the system prompt, which TRL leaves out"),
    **dict.fromkeys(("a column of its own", "alpaca with its rendered text", "alpaca with another text"), _BESIDE),
    **dict.fromkeys(("messages beside another problem", "dolphin-r1", "tools of OpenAI's fine-tuning"), _BESIDE),
    **dict.fromkeys(("KTO", "rated", "weighted", "OpenR1-Math", "FineWeb-Edu", "oasst1"), _MEANS),
    **dict.fromkeys(("a label beside a text", "banking77", "IMDB", "sentiments"), _MEANS),
    **dict.fromkeys(("train", "weights"), _WEIGHTS),
    **dict.fromkeys(
        ("a system column beside messages", "a system prompt beside a prompt"),
        "TRL leaves the system prompt out; ours writes it",
    ),
    "images in a message": "TRL trains on the text without its image; ours refuses it",
    "oasst": "TRL writes the role 'prompter', which no chat template knows; ours writes 'user'",
}
"""Shape → why its tokens or its mask differ from TRL's (1.16)."""

_OURS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_THEIRS = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}</s>"
    "{% endgeneration %}{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_PEER = r"""
import json, logging, sys
import datasets, transformers, trl
datasets.disable_progress_bars()
transformers.logging.set_verbosity_error()
folder, rows, found = sys.argv[1:]
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
results = []
for row in json.load(open(rows)):
    row = {k: v for k, v in row.items()}
    chat = "messages" in row or "conversations" in row or isinstance(row.get("completion"), list)
    try:
        args = trl.SFTConfig(output_dir=folder, use_cpu=True, report_to="none", max_length=None, assistant_only_loss=chat)
        data = datasets.Dataset.from_list([row])
        trainer = trl.SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)
        sample = trainer.train_dataset[0]
        batch = trainer.data_collator([sample])
        results.append({"ids": batch["input_ids"][0].tolist(), "labels": batch["labels"][0].tolist()})
    except Exception as error:
        results.append({"error": f"{type(error).__name__}: {error}"[:300]})
json.dump({"version": trl.__version__, "results": results}, open(found, "w"))
"""

_IGNORED = -100


def main() -> None:
    """Print each shape with what both make of it, and the numbers; exit with 1 on a difference without an explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="Python of an environment with TRL")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _model(Path(folder))
        version, theirs = _theirs(arguments.peer, Path(folder))
    tokenizer.chat_template = _OURS
    counts: Counter[str] = Counter()
    for shape, peer in zip(SHAPES, theirs, strict=True):
        ours = _ours(tokenizer, shape)
        verdict, about = compare("TRL", DIFFERENCES.get(shape.name), ours, peer, tokenizer)
        counts[verdict] += 1
        print(f"{verdict:22} {shape.name:45} {about}")
    print(f"TRL {version}:", ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    sys.exit(bool(counts["different"]))


def _model(folder: Path) -> PreTrainedTokenizerBase:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words = [json.dumps(shape.row) for shape in SHAPES]
    raw.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=800, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<s>")
    tokenizer.chat_template = _THEIRS
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, **sizes)).save_pretrained(
        folder
    )
    return tokenizer


def _theirs(python: str, folder: Path) -> tuple[str, list[dict[str, object]]]:
    rows, found = folder / "rows.json", folder / "found.json"
    rows.write_text(json.dumps([shape.row for shape in SHAPES]), encoding="utf-8")
    subprocess.run([python, "-c", _PEER, str(folder), str(rows), str(found)], check=True)
    answer = json.loads(found.read_text(encoding="utf-8"))
    return answer["version"], answer["results"]


def _ours(tokenizer: PreTrainedTokenizerBase, shape: Shape) -> dict[str, object]:
    try:
        reading = read_columns(columns_in([shape.row]), DataParams(**shape.data)).for_tokenizer(shape.template)
    except RequestError as error:
        return {"error": error.problem}
    return sample_of(tokenizer, reading, shape)


def sample_of(tokenizer: PreTrainedTokenizerBase, reading: ColumnReading, shape: Shape) -> dict[str, object]:
    """Return the tokens and labels that ours makes of a row, or why there are none."""
    try:
        sample = Encoder(tokenizer, reading.format, reading.data)(shape.row)
    except RequestError as error:
        return {"error": error.problem}
    return {"error": "nothing to learn"} if sample is None else {"ids": sample.ids, "labels": sample.labels}


def compare(
    peer: str,
    explained: str | None,
    ours: Mapping[str, object],
    theirs: Mapping[str, object],
    tokenizer: PreTrainedTokenizerBase,
    *,
    predicted: Callable[[Mapping[str, object]], object] = lambda found: found,
) -> tuple[str, str]:
    """Return a verdict on what both make of a row, and what there is to say about it.

    Args:
        peer: what the other is called.
        explained: why they differ, if that is known.
        ours: tokens and labels, or an error.
        theirs: likewise.
        tokenizer: of both.
        predicted: what of the tokens and labels has to be equal.
    """
    if "error" in ours and "error" in theirs:
        return "refused by both", ""
    if "error" in theirs:
        return f"not read by {peer}", str(theirs["error"]).partition("\n")[0][:90]
    if predicted(ours) == predicted(theirs):
        return "equal", ""
    if explained:
        return "different, explained", explained
    return "different", f"ours {shown(ours, tokenizer)} {peer} {shown(theirs, tokenizer)}"


def shown(found: Mapping[str, object], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of a sample with what is learnt in brackets, or why there is none."""
    if "error" in found:
        return f"refused: {found['error']}"
    text, learnt = "", False
    for token, label in zip(found["ids"], found["labels"], strict=True):  # type: ignore[call-overload]
        if (label != _IGNORED) != learnt:
            learnt = not learnt
            text += "⟦" if learnt else "⟧"
        text += str(tokenizer.decode([token]))
    return text + ("⟧" if learnt else "")


if __name__ == "__main__":
    main()
