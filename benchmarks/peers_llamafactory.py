"""Tokens and label masks of the corpus of row shapes, ours and LLaMA-Factory's: `python -m benchmarks.peers_llamafactory --peer PYTHON`.

PYTHON is the interpreter of an environment of its own, as LLaMA-Factory pins other versions of transformers and datasets:

    uv venv factory && VIRTUAL_ENV=$PWD/factory uv pip install llamafactory
    uv run python -m benchmarks.peers_llamafactory --peer factory/bin/python

LLaMA-Factory recognises no columns: its dataset_info.json names them. Here it is told what ours has recognised, or what the
user had to tell ours; where that cannot be written there, or ours refuses the row, it reads its own default columns. Both
write Llama 3's template, and learn the assistant's turns. Where LLaMA-Factory reads a row, tokens and masks must be equal, or
the difference is explained in `DIFFERENCES`; the command fails otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from plugins.hf.tests.data.corpus import Shape
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from benchmarks.peers_rows import SHAPES, compare, sample_of
from tunewright.errors import RequestError
from tunewright_hf import DataParams
from tunewright_hf.config.named_templates import NAMED, named_template
from tunewright_hf.data.rows.accounting import columns_in
from tunewright_hf.data.rows.column_reading import ColumnReading
from tunewright_hf.data.rows.formats import read_columns

NAME = "LLaMA-Factory"

_BESIDE = "it passes over columns that its dataset_info.json does not name; ours refuses them until ignore_columns does"
_MEANS = "likewise, though the other column rates, labels or belongs to what is learnt"
_MEDIA = "it is told of messages alone, and trains on the text without its image; ours refuses the row"
_AS_THEY_ARE = "it writes any pair as a conversation; ours concatenates columns that are called or told to be prompt and completion"
_WEIGHTS = "it learns every turn; ours leaves out the turns that the row says not to learn"
_TOOLS = "its llama3 template writes tools in words of its own, with a date; ours refuses tools that the model's template does not write"

DIFFERENCES: Mapping[str, str] = {
    **dict.fromkeys(("a column of its own", "alpaca with another text", "messages beside another problem"), _BESIDE),
    **dict.fromkeys(
        ("an answer beside messages that ask something else", "another completion beside messages"), _BESIDE
    ),
    **dict.fromkeys(("scores for the turns", "OpenR1-Math, without its generations", "dolphin-r1"), _MEANS),
    **dict.fromkeys(("LLaVA", "images in a message"), _MEDIA),
    **dict.fromkeys(
        ("prompt and completion", "with an id", "pandas' index", "tickets, told", "columns, told"), _AS_THEY_ARE
    ),
    **dict.fromkeys(("weights", "train"), _WEIGHTS),
    **dict.fromkeys(("tools of OpenAI's fine-tuning", "tools for a model without them"), _TOOLS),
    "alpaca without a template": "it writes its own template; ours parts the texts with a line break, as the tokenizer has none",
    "alpaca with a history": "it learns the answers of the history, too; ours learns the row's own answer, and says how many others there are",
    "null content beside words": "it leaves out a system message without content; ours writes it, empty",
}
"""Shape → why its tokens or its mask differ from LLaMA-Factory's (0.9.4)."""

_TEMPLATE = "llama3"

_PEER = r"""
import importlib.metadata, json, logging, sys
logging.disable(logging.WARNING)
import datasets, transformers
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import DatasetAttr
from llamafactory.data.processor import PretrainDatasetProcessor, SupervisedDatasetProcessor
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
folder, template, rows, found = sys.argv[1:]
data_args = DataArguments(template=template, cutoff_len=100_000)
tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
writer = get_template_and_fix_tokenizer(tokenizer, data_args)
results = []
for given in json.load(open(rows)):
    try:
        row = datasets.Dataset.from_list([given["row"]])[0]
        attr = DatasetAttr("file", "bench")
        attr.join(given["info"])
        example = get_dataset_converter(attr.formatting, attr, data_args)(row)
        kind = PretrainDatasetProcessor if given["is_text"] else SupervisedDatasetProcessor
        made = kind(writer, tokenizer, None, data_args).preprocess_dataset({k: [v] for k, v in example.items()})
        if not made.get("input_ids"):
            results.append({"error": "dropped as an invalid example"})
            continue
        ids = made["input_ids"][0]
        results.append({"ids": ids, "labels": made["labels"][0] if "labels" in made else ids})
    except Exception as error:
        results.append({"error": f"{type(error).__name__}: {error}"[:300]})
json.dump({"version": importlib.metadata.version("llamafactory"), "results": results}, open(found, "w"))
"""


def main() -> None:
    """Print each shape with what both make of it, and the numbers; exit with 1 on a difference without an explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help=f"Python of an environment with {NAME}")
    arguments = parser.parse_args()
    readings = [_reading(shape) for shape in SHAPES]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = _tokenizer(Path(folder))
        version, theirs = _theirs(arguments.peer, Path(folder), readings)
    counts: Counter[str] = Counter()
    for shape, reading, peer in zip(SHAPES, readings, theirs, strict=True):
        ours = {"error": reading} if isinstance(reading, str) else sample_of(tokenizer, reading, shape)
        verdict, about = compare(NAME, DIFFERENCES.get(shape.name), ours, peer, tokenizer, predicted=_predicted)
        counts[verdict] += 1
        print(f"{verdict:28} {shape.name:45} {about}")
    print(f"{NAME} {version}:", ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    sys.exit(bool(counts["different"]))


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a tokenizer with Llama 3's special tokens; like Llama 3's own it keeps line breaks together."""
    raw = Tokenizer(models.BPE())
    breaks = pre_tokenizers.Split(Regex(r"\s*[\r\n]+"), "isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([breaks, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    raw.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>", *NAMED[_TEMPLATE]]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=special, initial_alphabet=alphabet)
    raw.train_from_iterator([json.dumps(shape.row) for shape in SHAPES], trainer)
    names = {"bos_token": special[0], "eos_token": special[1], "pad_token": special[1]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **names)
    tokenizer.chat_template = named_template(_TEMPLATE)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _reading(shape: Shape) -> ColumnReading | str:
    """Return how ours reads a row, or why it refuses its columns."""
    try:
        return read_columns(columns_in([shape.row]), DataParams(**shape.data)).for_tokenizer(shape.template)
    except RequestError as error:
        return error.problem


def _info(row: Mapping[str, object], reading: ColumnReading | str) -> dict[str, object]:
    """Return the entry of a dataset_info.json for a row."""
    if isinstance(reading, str):
        conversation = next((row[name] for name in ("conversations", "messages") if name in row), None)
        return (
            _of_chat(conversation, {"messages": "conversations" if "conversations" in row else "messages"}, {})
            if conversation
            else {}
        )
    data = reading.data
    more = {"system": data.system_column, "tools": data.tools_column, "history": data.history_column}
    more = {name: column for name, column in more.items() if column in reading.used}
    if reading.format == "text":
        return {"columns": {"prompt": data.columns_of("text")[0]}}
    if reading.format == "chat" and not data.prompt_template:
        return _of_chat(row.get(data.messages_column), {"messages": data.messages_column, **more}, data.roles)
    asked, answered = data.columns_of("prompt"), data.columns_of("completion")
    names = {"prompt": asked[0], "response": answered[0], **more}
    return {"columns": names | ({"query": asked[1]} if len(asked) > 1 else {})}


def _of_chat(value: object, columns: Mapping[str, object], roles: Mapping[str, str]) -> dict[str, object]:
    """Return the entry for a conversation, with the keys and the names of roles that its messages have."""
    messages = [m for m in cast("Sequence[object]", value) if isinstance(m, dict)] if isinstance(value, list) else []
    keys = {key for message in messages for key in message}
    tags = {
        "role_tag": next((k for k in ("role", "from", "speaker", "author") if k in keys), "from"),
        "content_tag": next((k for k in ("content", "value", "text", "parts") if k in keys), "value"),
    }
    said = [str(message.get(tags["role_tag"])) for message in messages]
    names = {
        "system_tag": ("system",),
        "user_tag": (*(k for k, role in roles.items() if role == "user"), "user", "human", "User", "USER"),
        "assistant_tag": (
            *(k for k, role in roles.items() if role == "assistant"),
            "assistant",
            "gpt",
            "model",
            "chatgpt",
            "bot",
        ),
        "observation_tag": ("observation", "tool"),
        "function_tag": ("function_call",),
    }
    tags |= {tag: next((name for name in known if name in said), known[-1]) for tag, known in names.items()}
    return {"formatting": "sharegpt", "columns": dict(columns), "tags": tags}


def _theirs(python: str, folder: Path, readings: Sequence[ColumnReading | str]) -> tuple[str, list[dict[str, object]]]:
    rows, found = folder / "rows.json", folder / "found.json"
    given = [
        {"row": s.row, "info": _info(s.row, r), "is_text": not isinstance(r, str) and r.format == "text"}
        for s, r in zip(SHAPES, readings, strict=True)
    ]
    rows.write_text(json.dumps(given), encoding="utf-8")
    subprocess.run([python, "-c", _PEER, str(folder), _TEMPLATE, str(rows), str(found)], check=True)
    answer = json.loads(found.read_text(encoding="utf-8"))
    return answer["version"], answer["results"]


def _predicted(found: Mapping[str, object]) -> object:
    """Return tokens and labels without the first label, which no model predicts."""
    return found if "error" in found else (found["ids"], cast("list[int]", found["labels"])[1:])


if __name__ == "__main__":
    main()
