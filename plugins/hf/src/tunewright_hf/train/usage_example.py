"""How to use a result: the code and the commands of its model card, which run in its folder or from its repository."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from tunewright.providers import MARKER
from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ, Task


@attrs.frozen(kw_only=True)
class Usage:
    """What a user of the result has to know.

    Attributes:
        task: what the model was trained for.
        adapter: whether the result is an adapter.
        base: folder that the job had the model in.
        labels: names of a classifier's classes.
        prompt: an example of what to ask.
        turns: whether the prompt is a message of a conversation, for the chat template.
    """

    task: Task
    adapter: bool
    base: Path | None
    prompt: str
    labels: Sequence[str] = ()
    turns: bool = False

    def section(self) -> str:
        """Return the section of the card."""
        lines = [*self._imports(), "", *self._loading(), "", *self._asking()]
        code = "\n".join(lines)
        commands = "".join(f"{command}\n" for command in self._commands())
        by_hand = f"Or with Tunewright, in the folder of this file:\n\n```sh\n{commands}```\n" if commands else ""
        kind = "This is a LoRA adapter for the model below. " if self.adapter else ""
        return (
            f"## Use it\n\n{kind}`FOLDER` is the folder of this file, or the name of its repository on the Hub.\n\n"
            f"```python\n{code}\n```\n\n{by_hand}"
        )

    def head(self) -> str:
        """Return the metadata of the card, for the Hub."""
        library = "peft" if self.adapter else "transformers"
        lines = [f"library_name: {library}", f"pipeline_tag: {self.task.pipeline}"]
        repo = hub_name(self.base)
        lines += [f"base_model: {repo[0]}"] if repo else []
        lines += [f"base_model_relation: {'adapter' if self.adapter else 'finetune'}"] if repo or self.adapter else []
        return "---\n" + "".join(f"{line}\n" for line in lines) + "---\n"

    def _imports(self) -> list[str]:
        peft = ["from peft import PeftModel"] if self.adapter else []
        return [*peft, f"from transformers import {self.task.auto_class}, AutoTokenizer"]

    def _loading(self) -> list[str]:
        name, tokenizer = self.task.auto_class, "tokenizer = AutoTokenizer.from_pretrained(FOLDER)"
        if not self.adapter:
            return ['FOLDER = "."', f"model = {name}.from_pretrained(FOLDER)", tokenizer]
        # The adapter's folder has no model configuration, which would contain the labels.
        head = "" if self.task is not CLASSIFICATION else f", num_labels={len(self.labels) or 1}"
        head += f", id2label={dict(enumerate(self.labels))}" if self.labels else ""
        repo = hub_name(self.base)
        base = json.dumps(repo[0] if repo else str(self.base), ensure_ascii=False)
        revision = f", revision={json.dumps(repo[1])}" if repo and repo[1] else ""
        note = "" if repo else "  # the folder of the model that was trained"
        return [
            'FOLDER = "."',
            f"BASE = {base}{note}",
            f"base = {name}.from_pretrained(BASE{revision}{head})",
            "model = PeftModel.from_pretrained(base, FOLDER)",
            tokenizer,
        ]

    def _asking(self) -> list[str]:
        prompt = json.dumps(self.prompt, ensure_ascii=False)
        if self.task is CLASSIFICATION:
            label = "model.config.id2label[logits.argmax().item()]" if self.labels else "logits"
            asked = f'logits = model(**tokenizer({prompt}, return_tensors="pt")).logits[0]'
            return [asked, f"print({label})"]
        taken = f'tokenizer({prompt}, return_tensors="pt")'
        before = []
        if self.turns:
            before = [f'messages = [{{"role": "user", "content": {prompt}}}]']
            options = 'add_generation_prompt=True, return_tensors="pt", return_dict=True'
            taken = f"tokenizer.apply_chat_template(messages, {options})"
        start = "" if self.task is SEQ2SEQ else ', inputs["input_ids"].shape[1] :'
        return [
            *before,
            f"inputs = {taken}",
            "output = model.generate(**inputs, max_new_tokens=128)",
            f"print(tokenizer.decode(output[0{start}], skip_special_tokens=True))",
        ]

    def _commands(self) -> list[str]:
        if not self.task.writes:
            return []
        if not self.adapter:
            return ["tunewright chat ."]
        repo = hub_name(self.base)
        fetch = [f"tunewright fetch hf://{repo[0]}{f'@{repo[1]}' if repo[1] else ''} ./base"] if repo else []
        base = "./base/model" if repo else "BASE"
        return [*fetch, f"tunewright chat . --model {base}", f"tunewright merge . ./merged --model {base}"]


def hub_name(folder: Path | None) -> tuple[str, str | None] | None:
    """Return the repository on the Hub that a model was fetched from, and its commit; None if it came from elsewhere."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        marker = json.loads((folder / MARKER).read_text("utf-8")) if folder else {}
        if str(marker["uri"]).startswith("hf://"):
            return str(marker["uri"]).removeprefix("hf://").partition("@")[0], marker["revision"]
    return None
