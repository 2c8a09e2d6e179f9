"""Chat templates of model families, reduced to how they end turns and where they write thoughts; and tokenizers for them.

They are written for these tests. Default system prompts, dates and descriptions of tools are left out.
"""

# ruff: noqa: RUF001 - DeepSeek's tokens are written with wide bars

from __future__ import annotations

import attrs

THINK = ("<think>", "</think>")

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if tools %}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Takes thoughts from a key or from the content, and writes them behind the last question only.
QWEN3 = """\
{%- set ns = namespace(last=-1) -%}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
{%- set content = m.content or '' -%}
{%- set thought = '' -%}
{%- if m.role == 'assistant' -%}
{%- if m.reasoning_content is string -%}{%- set thought = m.reasoning_content -%}
{%- elif '</think>' in content -%}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{%- endif -%}
{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' -}}
{%- if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or thought) -%}
{{- '<think>\\n' + thought + '\\n</think>\\n\\n' -}}
{%- endif -%}
{{- content -}}
{%- for c in m.tool_calls or [] -%}
{{- '<tool_call>' + c.function.name + c.function.arguments | tojson + '</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if tools %}{% endif -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
# Cuts thoughts out of every answer, and asks with <think>.
DEEPSEEK_R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}"
)
# Begins every answer with the end of the thoughts that it does not write.
DEEPSEEK_V31 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% else %}<｜Assistant｜></think>{{ m.content.split('</think>', 1)[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜></think>{% endif %}"
)
# Writes nothing at the end of an answer: generation stops where the next message begins.
GLM45 = """\
[gMASK]<sop>
{%- set ns = namespace(last=-1) -%}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<|user|>\\n' + m.content -}}
{%- elif m.role == 'system' -%}{{- '<|system|>\\n' + m.content -}}
{%- elif m.role == 'tool' -%}{{- '<|observation|>\\n<tool_response>\\n' + m.content + '\\n</tool_response>' -}}
{%- else -%}
{%- set content = m.content or '' -%}
{%- set thought = m.reasoning_content or '' -%}
{%- if not thought and '</think>' in content -%}
{%- set thought = content.split('</think>')[0].split('<think>')[-1] -%}
{%- set content = content.split('</think>')[-1] -%}
{%- endif -%}
{{- '<|assistant|>\\n<think>' + (thought.strip() if loop.index0 > ns.last else '') + '</think>' -}}
{%- if content.strip() -%}{{- '\\n' + content.strip() -}}{%- endif -%}
{%- for c in m.tool_calls or [] -%}{{- '\\n<tool_call>' + c.function.name + '</tool_call>' -}}{%- endfor -%}
{%- endif -%}
{%- endfor -%}
{%- if tools %}{% endif -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
# Ends the last answer with <|return|>, others with <|end|>, and calls with <|call|>.
GPT_OSS = """\
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- if m.tool_calls -%}
{%- set ns = namespace(answered=false) -%}
{%- for later in messages[loop.index:] -%}
{%- if later.role == 'assistant' and not later.tool_calls -%}{%- set ns.answered = true -%}{%- endif -%}
{%- endfor -%}
{%- if m.thinking and not ns.answered -%}
{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' -}}
{%- endif -%}
{{- '<|start|>assistant to=functions.' + m.tool_calls[0].function.name + '<|channel|>commentary json<|message|>' -}}
{{- m.tool_calls[0].function.arguments | tojson + '<|call|>' -}}
{%- elif loop.last and not add_generation_prompt -%}
{%- if m.thinking -%}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' -}}{%- endif -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' -}}
{%- else -%}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' -}}
{%- endif -%}
{%- elif m.role == 'tool' -%}
{{- '<|start|>functions to=assistant<|channel|>commentary<|message|>' + m.content | tojson + '<|end|>' -}}
{%- else -%}
{{- '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if tools %}{% endif -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
"""
# Reads thoughts from a part of the content.
MAGISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
    "{% elif m.content is string %}{{ m.content }}{{ eos_token }}"
    "{% else %}{% for part in m.content %}{% if part.type == 'thinking' %}[THINK]{{ part.thinking }}[/THINK]"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA3 = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Marks answers, of which it writes the header, too.
SMOLLM3 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}<|im_start|>assistant\n"
    "{{ m.content }}<|im_end|>\n{% endgeneration %}"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
COHERE = (
    "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>"
    "{{ '<|CHATBOT_TOKEN|>' if m.role == 'assistant' else '<|USER_TOKEN|>' }}{{ m.content.strip() }}<|END_OF_TURN_TOKEN|>"
    "{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
PHI4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)
# A token behind the whole conversation, which generation stops at, too.
PHI35 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
# The same without an end of its own for each turn.
PHI_BARE = PHI35.replace("<|end|>", "")
# Nothing but words.
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"


@attrs.frozen(kw_only=True)
class Family:
    """A chat template with a tokenizer that has its tokens.

    Attributes:
        template: the chat template.
        eos: the end-of-text token.
        stops: tokens that generation stops at, as in generation_config.json.
        tokens: control tokens.
        tags: tokens that decoding keeps.
        bos: the token that a conversation begins with.
    """

    template: str
    eos: str
    stops: tuple[str, ...]
    tokens: tuple[str, ...]
    tags: tuple[str, ...] = ()
    bos: str = "<s>"


_QWEN = {"tokens": ("<|im_start|>", "<|im_end|>"), "tags": (*THINK, "<tool_call>", "</tool_call>")}
_DEEPSEEK = {
    "eos": "<｜end▁of▁sentence｜>",
    "stops": ("<｜end▁of▁sentence｜>",),
    "tokens": ("<｜User｜>", "<｜Assistant｜>"),
    "tags": THINK,
}
_LLAMA = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_PHI = {"eos": "<|endoftext|>", "tokens": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")}

FAMILIES = {
    "qwen2.5": Family(template=CHATML, eos="<|im_end|>", stops=("<|im_end|>", "<|endoftext|>"), **_QWEN),
    "qwen2.5 base": Family(template=CHATML, eos="<|endoftext|>", stops=("<|endoftext|>",), **_QWEN),
    "qwen3": Family(template=QWEN3, eos="<|im_end|>", stops=("<|im_end|>", "<|endoftext|>"), **_QWEN),
    "deepseek r1": Family(template=DEEPSEEK_R1, **_DEEPSEEK),
    "deepseek v3.1": Family(template=DEEPSEEK_V31, **_DEEPSEEK),
    "glm 4.5": Family(
        template=GLM45,
        eos="<|endoftext|>",
        stops=("<|endoftext|>", "<|user|>", "<|observation|>"),
        tokens=("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>", "<|system|>"),
        tags=(*THINK, "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
    ),
    "gpt-oss": Family(
        template=GPT_OSS,
        eos="<|return|>",
        stops=("<|return|>", "<|endoftext|>", "<|call|>"),
        tokens=("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|call|>"),
    ),
    "magistral": Family(
        template=MAGISTRAL, eos="</s>", stops=("</s>",), tokens=("[INST]", "[/INST]", "[THINK]", "[/THINK]")
    ),
    "gemma 3": Family(
        template=GEMMA3, eos="<eos>", stops=("<eos>", "<end_of_turn>"), tokens=("<start_of_turn>", "<end_of_turn>")
    ),
    "llama 3": Family(template=LLAMA3, eos="<|eot_id|>", stops=("<|eot_id|>", "<|end_of_text|>"), tokens=_LLAMA),
    "llama 3 base": Family(template=LLAMA3, eos="<|end_of_text|>", stops=("<|end_of_text|>",), tokens=_LLAMA),
    "smollm3": Family(template=SMOLLM3, eos="<|im_end|>", stops=("<|im_end|>",), **_QWEN),
    "granite": Family(
        template=GRANITE,
        eos="<|end_of_text|>",
        stops=("<|end_of_text|>",),
        tokens=("<|start_of_role|>", "<|end_of_role|>"),
    ),
    "cohere": Family(
        template=COHERE,
        eos="<|END_OF_TURN_TOKEN|>",
        stops=("<|END_OF_TURN_TOKEN|>",),
        tokens=("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
    ),
    "phi 4": Family(template=PHI4, eos="<|im_end|>", stops=("<|im_end|>",), tokens=("<|im_start|>", "<|im_sep|>")),
    "phi 3.5": Family(template=PHI35, stops=("<|end|>", "<|endoftext|>"), **_PHI),
    "phi, bare": Family(template=PHI_BARE, stops=("<|endoftext|>",), **_PHI),
    "plain": Family(template=PLAIN, eos="</s>", stops=("</s>",), tokens=()),
}
