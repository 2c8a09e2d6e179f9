"""How to use a result: the code and the commands of its model card, which run in its folder or from its repository."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

import attrs

from tunewright_hf.config.tasks import CLASSIFICATION, SEQ2SEQ, Task
from tunewright_hf.model.origin import Origin

_FETCHED = "./base/model"


@attrs.frozen(kw_only=True)
class Usage:
    """What a user of the result has to know.

    Attributes:
        task: what the model was trained for.
        adapter: whether the result is an adapter.
        base: the model that was trained.
        labels: names of a classifier's classes.
        prompt: an example of what to ask.
        turns: whether the prompt is a message of a conversation, for the chat template.
        loader: the Auto class to load the model with; "" for that of the task.
        trusted: whether Python code that comes with the model was trusted, which loading it needs as well.
    """

    task: Task
    adapter: bool
    base: Origin
    prompt: str
    labels: Sequence[str] = ()
    turns: bool = False
    trusted: bool = False
    loader: str = ""

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

    def _imports(self) -> list[str]:
        peft = ["from peft import PeftModel"] if self.adapter else []
        return [*peft, f"from transformers import {self.loader or self.task.auto_class}, AutoTokenizer"]

    def _loading(self) -> list[str]:
        trust = ", trust_remote_code=True" if self.trusted else ""
        name, tokenizer = (
            self.loader or self.task.auto_class,
            f"tokenizer = AutoTokenizer.from_pretrained(FOLDER{trust})",
        )
        if not self.adapter:
            return ['FOLDER = "."', f"model = {name}.from_pretrained(FOLDER{trust})", tokenizer]
        # The adapter's folder has no model configuration, which would contain the labels.
        head = "" if self.task is not CLASSIFICATION else f", num_labels={len(self.labels) or 1}"
        head += f", id2label={dict(enumerate(self.labels))}" if self.labels else ""
        revision = f", revision={json.dumps(self.base.revision)}" if self.base.on_hub and self.base.revision else ""
        return [
            'FOLDER = "."',
            self._base_line(),
            f"base = {name}.from_pretrained(BASE{revision}{head}{trust})",
            "model = PeftModel.from_pretrained(base, FOLDER)",
            tokenizer,
        ]

    def _base_line(self) -> str:
        """Return the line of code that says where the base model is."""
        base = self.base
        if base.on_hub:
            return f"BASE = {_quoted(base.name)}"
        if base.uri:
            return f"BASE = {_quoted(_FETCHED)}  # fetched with: tunewright fetch {base.uri} ./base"
        return f"BASE = {_quoted(base.name)}  # the folder of the model that was trained"

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
        fetch = [f"tunewright fetch {shlex.quote(self.base.uri)} ./base"] if self.base.uri else []
        base = _FETCHED if self.base.uri else "BASE"
        return [*fetch, f"tunewright chat . --model {base}", f"tunewright merge . ./merged --model {base}"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
