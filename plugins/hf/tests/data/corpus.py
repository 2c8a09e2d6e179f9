"""Row shapes of public datasets, written for these tests in the schemas that their cards document; no row is theirs.

Each shape has what must become of it, written by hand: turns of a conversation, a prompt with its completion, a text, or the
words with which it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

Turn = tuple[str, str]

MEDIA, NOTHING, TASK, READINGS, MODEL = WHY = (
    "it is not text",
    "there is nothing to learn, or it is broken",
    "a label, a rating or choices are in it, for another task or for a filter",
    "two readings are possible",
    "the model lacks a template for it",
)
"""Why shapes are refused."""


@attrs.frozen(kw_only=True)
class Shape:
    """One shape.

    Attributes:
        name: of the shape; the schema's best-known user where it has one.
        row: a row.
        turns: what a conversation must say, as (role, text); the assistant's texts are supervised.
        unsupervised: indices of the assistant's turns that are not.
        pair: prompt and completion.
        text: what is trained on as a whole.
        refused: a part of the error's message.
        why: why it is refused, one of `WHY`.
        data: DataParams that the user has to give.
        template: whether the tokenizer has a chat template.
        tools: whether that template writes tools.
        further_answers: how many other answers are said not to be learnt.
    """

    name: str
    row: Mapping[str, object]
    turns: Sequence[Turn] | None = None
    unsupervised: Sequence[int] = ()
    pair: tuple[str, str] | None = None
    text: str | None = None
    refused: str | None = None
    why: str | None = None
    data: Mapping[str, object] = attrs.field(factory=dict)
    template: bool = True
    tools: bool = False
    further_answers: int = 0


ASK = [("user", "Name a prime."), ("assistant", "Seven.")]
TWICE = [*ASK, ("user", "Another."), ("assistant", "Eleven.")]
SYSTEM = ("system", "Be brief.")


def gpt(*turns: Turn, role: str = "from", text: str = "value") -> list[dict[str, str]]:
    """ShareGPT's keys and role names."""
    names = {"user": "human", "assistant": "gpt"}
    return [{role: names.get(who, who), text: said} for who, said in turns]


def openai(*turns: Turn) -> list[dict[str, str]]:
    """OpenAI's keys and role names."""
    return [{"role": who, "content": said} for who, said in turns]


def parts(*turns: Turn, **more: str) -> list[dict[str, object]]:
    """Contents as lists of typed parts."""
    return [{"role": who, "content": [{"type": "text", "text": said, **more}]} for who, said in turns]


def gemini(*turns: Turn) -> list[dict[str, object]]:
    """Gemini's keys and role names."""
    return [{"role": {"assistant": "model"}.get(who, who), "parts": [{"text": said}]} for who, said in turns]


CONVERSATIONS = [
    Shape(name="OpenAI fine-tuning", row={"messages": openai(*ASK)}, turns=ASK),
    Shape(name="OpenAI with a system prompt", row={"messages": openai(SYSTEM, *ASK)}, turns=[SYSTEM, *ASK]),
    Shape(name="two rounds", row={"messages": openai(*TWICE)}, turns=TWICE),
    Shape(name="ultrachat_200k", row={"prompt_id": "1", "messages": openai(*TWICE)}, turns=TWICE),
    Shape(name="smoltalk", row={"messages": openai(*ASK), "source": "x", "full_topic": "a"}, turns=ASK),
    Shape(name="a column of its own", row={"messages": openai(*ASK), "notes": "a b"}, refused="'notes'", why=READINGS),
    Shape(
        name="a column of its own, told",
        row={"messages": openai(*ASK), "notes": "a b"},
        turns=ASK,
        data={"ignore_columns": ["notes"]},
    ),
    Shape(name="tulu-3", row={"id": "1", "messages": openai(*ASK), "source": "x"}, turns=ASK),
    Shape(name="no_robots", row={"prompt_id": "1", "messages": openai(*ASK), "category": "Chat"}, turns=ASK),
    Shape(
        name="oasst",
        row={
            "messages": [{"role": "prompter", "content": "Name a prime."}, {"role": "assistant", "content": "Seven."}]
        },
        turns=ASK,
    ),
    Shape(name="ShareGPT", row={"id": "a", "conversations": gpt(SYSTEM, *TWICE)}, turns=[SYSTEM, *TWICE]),
    Shape(
        name="OpenHermes",
        row={"conversations": gpt(*ASK), "source": "x", "id": "1", "model_name": None, "title": None},
        turns=ASK,
    ),
    Shape(
        name="SlimOrca",
        row={
            "conversations": [
                {"from": "system", "value": "Be brief.", "weight": None},
                {"from": "human", "value": "Name a prime.", "weight": 0.0},
                {"from": "gpt", "value": "Seven.", "weight": 1.0},
            ]
        },
        turns=[SYSTEM, *ASK],
    ),
    Shape(name="conversation", row={"conversation": openai(*ASK)}, turns=ASK),
    Shape(
        name="WildChat",
        row={
            "conversation_hash": "x",
            "model": "m",
            "timestamp": 1,
            "conversation": openai(*ASK),
            "turn_count": 1,
            "language": "English",
        },
        turns=ASK,
    ),
    Shape(
        name="LMSYS",
        row={"conversation_id": "1", "model": "m", "conversation": openai(*ASK), "redacted": False},
        turns=ASK,
    ),
    Shape(name="chat", row={"chat": openai(*ASK)}, turns=ASK),
    Shape(name="from and text", row={"conversations": gpt(*ASK, text="text")}, turns=ASK),
    Shape(name="role and value", row={"conversations": gpt(*ASK, role="role")}, turns=ASK),
    Shape(name="from and content", row={"messages": gpt(*ASK, text="content")}, turns=ASK),
    Shape(name="role names of ShareGPT", row={"messages": gpt(*ASK, role="role", text="content")}, turns=ASK),
    Shape(
        name="role names in capitals",
        row={"messages": [{"role": "User", "content": "Name a prime."}, {"role": "Assistant", "content": "Seven."}]},
        turns=ASK,
    ),
    Shape(
        name="chatgpt",
        row={"conversations": [{"from": "user", "value": "Name a prime."}, {"from": "chatgpt", "value": "Seven."}]},
        turns=ASK,
    ),
    Shape(
        name="bot",
        row={"messages": [{"role": "user", "content": "Name a prime."}, {"role": "bot", "content": "Seven."}]},
        turns=ASK,
    ),
    Shape(
        name="own role names",
        row={"messages": [{"role": "Ann", "content": "Name a prime."}, {"role": "Bob", "content": "Seven."}]},
        refused="role: 'Ann'.*trainer.data.roles",
        why=READINGS,
    ),
    Shape(
        name="questions and answers as roles",
        row={"messages": [{"role": "Q", "content": "Name a prime."}, {"role": "A", "content": "Seven."}]},
        turns=ASK,
    ),
    Shape(
        name="questions and answers as speakers",
        row={"dialog": [{"speaker": "question", "text": "Name a prime."}, {"speaker": "answer", "text": "Seven."}]},
        turns=ASK,
    ),
    Shape(
        name="own role names, told",
        row={"messages": [{"role": "Ann", "content": "Name a prime."}, {"role": "Bob", "content": "Seven."}]},
        turns=ASK,
        data={"roles": {"Ann": "user", "Bob": "assistant"}},
    ),
    Shape(
        name="speaker",
        row={"dialog": [{"speaker": "user", "text": "Name a prime."}, {"speaker": "assistant", "text": "Seven."}]},
        turns=ASK,
    ),
    Shape(name="content parts", row={"messages": parts(*ASK)}, turns=ASK),
    Shape(
        name="content parts with value",
        row={
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "Name a prime."}]},
                {"role": "assistant", "content": [{"type": "text", "value": "Seven."}]},
            ]
        },
        turns=ASK,
    ),
    Shape(
        name="content parts as strings",
        row={
            "messages": [{"role": "user", "content": ["Name ", "a prime."]}, {"role": "assistant", "content": "Seven."}]
        },
        refused="type: 'str'",
        why=READINGS,
    ),
    Shape(
        name="OpenAI responses",
        row={
            "messages": [
                {"role": "user", "content": [{"type": "input_text", "text": "Name a prime."}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": "Seven."}]},
            ]
        },
        turns=ASK,
    ),
    Shape(name="Anthropic", row={"system": "Be brief.", "messages": parts(*ASK)}, turns=[SYSTEM, *ASK]),
    Shape(
        name="Anthropic with cache control",
        row={
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Name a prime.", "cache_control": {"type": "ephemeral"}}],
                },
                {"role": "assistant", "content": "Seven."},
            ]
        },
        turns=ASK,
    ),
    Shape(name="Gemini", row={"contents": gemini(*TWICE)}, turns=TWICE),
    Shape(
        name="Gemini with a system instruction",
        row={"system_prompt": "Be brief.", "contents": gemini(*ASK)},
        turns=[SYSTEM, *ASK],
    ),
    Shape(name="Mistral", row={"messages": openai(*ASK), "tools": None}, turns=ASK),
    Shape(
        name="weights",
        row={
            "messages": [
                {"role": "user", "content": "Name a prime."},
                {"role": "assistant", "content": "Seven.", "weight": 0},
                {"role": "user", "content": "Another."},
                {"role": "assistant", "content": "Eleven.", "weight": 1},
            ]
        },
        turns=TWICE,
        unsupervised=[1],
    ),
    Shape(
        name="train",
        row={
            "messages": [
                {"role": "user", "content": "Name a prime.", "train": False},
                {"role": "assistant", "content": "Seven.", "train": False},
                {"role": "user", "content": "Another."},
                {"role": "assistant", "content": "Eleven.", "train": True},
            ]
        },
        turns=TWICE,
        unsupervised=[1],
    ),
    Shape(
        name="a system column beside messages",
        row={"system": "Be brief.", "messages": openai(*ASK)},
        turns=[SYSTEM, *ASK],
    ),
    Shape(name="an empty system column", row={"system": "", "messages": openai(*ASK)}, turns=ASK),
    Shape(name="Glaive", row={"system": "Be brief.", "conversations": gpt(*ASK)}, turns=[SYSTEM, *ASK]),
    Shape(
        name="null content beside words",
        row={"messages": [{"role": "system", "content": None}, *openai(*ASK)]},
        turns=[("system", ""), *ASK],
    ),
    Shape(
        name="LLaVA",
        row={
            "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
            "images": ["a.png"],
        },
        refused="'images'.*ignore_columns",
        why=MEDIA,
    ),
    Shape(
        name="an image part",
        row={
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
                {"role": "assistant", "content": "A cat."},
            ]
        },
        refused="image_url",
        why=MEDIA,
    ),
    Shape(
        name="images in a message",
        row={
            "messages": [
                {"role": "user", "content": "What?", "images": ["a.png"]},
                {"role": "assistant", "content": "A cat."},
            ]
        },
        refused="images",
        why=MEDIA,
    ),
    Shape(
        name="an audio part",
        row={
            "messages": [
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
                {"role": "assistant", "content": "A cat."},
            ]
        },
        refused="input_audio",
        why=MEDIA,
    ),
    Shape(
        name="a part of an unknown type",
        row={
            "messages": [
                {"role": "user", "content": [{"type": "odd", "odd": 1}]},
                {"role": "assistant", "content": "A cat."},
            ]
        },
        refused="type: 'odd'",
        why=NOTHING,
    ),
    Shape(name="a list of texts", row={"messages": ["Name a prime.", "Seven."]}, turns=ASK),
    Shape(name="one text", row={"messages": ["Name a prime."]}, refused="not a list of messages", why=NOTHING),
]

PAIRS = [
    Shape(
        name="prompt and completion",
        row={"prompt": "Two and two is", "completion": " four."},
        pair=("Two and two is", " four."),
    ),
    Shape(
        name="with an id",
        row={"id": 3, "prompt": "Two and two is", "completion": " four."},
        pair=("Two and two is", " four."),
    ),
    Shape(
        name="pandas' index",
        row={"Unnamed: 0": 3, "prompt": "Two and two is", "completion": " four."},
        pair=("Two and two is", " four."),
    ),
    Shape(
        name="KTO",
        row={"prompt": "The sky is", "completion": " green.", "label": False},
        refused="'label'.*wanted",
        why=TASK,
    ),
    Shape(
        name="rated", row={"prompt": "The sky is", "completion": " green.", "score": 0.1}, refused="'score'", why=TASK
    ),
    Shape(name="weighted", row={"prompt": "a", "completion": "b", "weight": 0.1}, refused="'weight'", why=TASK),
    Shape(name="HelpSteer", row={"prompt": "a", "response": "b", "helpfulness": 4}, refused="'helpfulness'", why=TASK),
    Shape(
        name="a system prompt beside a prompt",
        row={"system": "Be brief.", "prompt": "Name a prime.", "completion": "Seven."},
        turns=[SYSTEM, *ASK],
    ),
    Shape(name="alpaca", row={"instruction": "Name a prime.", "input": "", "output": "Seven."}, turns=ASK),
    Shape(
        name="alpaca with an input",
        row={"instruction": "Add.", "input": "2 and 3", "output": "5"},
        turns=[("user", "Add.\n2 and 3"), ("assistant", "5")],
    ),
    Shape(
        name="alpaca with its rendered text",
        row={"instruction": "Name a prime.", "input": "", "output": "Seven.", "text": "Below: Name a prime.\nSeven."},
        turns=ASK,
    ),
    Shape(
        name="alpaca with another text",
        row={"instruction": "Name a prime.", "input": "", "output": "Seven.", "text": "An essay."},
        refused="'text'.*ignore_columns",
        why=READINGS,
    ),
    Shape(
        name="alpaca with a system prompt",
        row={"instruction": "Name a prime.", "input": "", "output": "Seven.", "system": "Be brief."},
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="alpaca with a history",
        row={"instruction": "Another.", "input": "", "output": "Eleven.", "history": [["Name a prime.", "Seven."]]},
        turns=TWICE,
        unsupervised=[1],
    ),
    Shape(
        name="alpaca without a template",
        row={"instruction": "Name a prime.", "input": "", "output": "Seven."},
        pair=("Name a prime.\n", "Seven."),
        template=False,
    ),
    Shape(
        name="dolly",
        row={"instruction": "When?", "context": "It was in 1893.", "response": "In 1893.", "category": "closed_qa"},
        turns=[("user", "When?\nIt was in 1893."), ("assistant", "In 1893.")],
    ),
    Shape(name="instruction and response", row={"instruction": "Name a prime.", "response": "Seven."}, turns=ASK),
    Shape(name="instruction and output", row={"instruction": "Name a prime.", "output": "Seven."}, turns=ASK),
    Shape(name="prompt and response", row={"prompt": "Name a prime.", "response": "Seven."}, turns=ASK),
    Shape(name="gsm8k", row={"question": "Name a prime.", "answer": "Seven."}, turns=ASK),
    Shape(name="question and response", row={"question": "Name a prime.", "response": "Seven."}, turns=ASK),
    Shape(
        name="OpenOrca",
        row={"id": "1", "system_prompt": "Be brief.", "question": "Name a prime.", "response": "Seven."},
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="MetaMath",
        row={"query": "Name a prime.", "response": "Seven.", "type": "GSM", "original_question": "x"},
        turns=ASK,
    ),
    Shape(name="query and answer", row={"query": "Name a prime.", "answer": "Seven."}, turns=ASK),
    Shape(
        name="MATH", row={"problem": "Name a prime.", "level": "1", "type": "Algebra", "solution": "Seven."}, turns=ASK
    ),
    Shape(
        name="NuminaMath",
        row={"source": "x", "problem": "Name a prime.", "solution": "Seven.", "messages": openai(*ASK)},
        turns=ASK,
    ),
    Shape(
        name="messages beside another problem",
        row={"problem": "Name a square.", "solution": "Four.", "messages": openai(*ASK)},
        refused=r"ignore_columns: \[problem, solution\]",
        why=READINGS,
    ),
    Shape(name="input and output", row={"input": "Name a prime.", "output": "Seven."}, turns=ASK),
    Shape(
        name="samsum",
        row={"id": "1", "dialogue": "A: Lunch?\nB: Noon.", "summary": "Lunch at noon."},
        turns=[("user", "A: Lunch?\nB: Noon."), ("assistant", "Lunch at noon.")],
    ),
    Shape(
        name="cnn_dailymail",
        row={"article": "Long news.", "highlights": "News.", "id": "1"},
        turns=[("user", "Long news."), ("assistant", "News.")],
    ),
    Shape(
        name="xsum",
        row={"document": "Long news.", "summary": "News.", "id": "1"},
        turns=[("user", "Long news."), ("assistant", "News.")],
    ),
    Shape(
        name="two answers",
        row={"question": "Name a prime.", "answer": "Seven.", "solution": "7"},
        refused="no column",
        why=READINGS,
    ),
    Shape(
        name="two questions",
        row={"question": "Name a prime.", "problem": "x", "answer": "Seven."},
        refused="no column",
        why=READINGS,
    ),
    Shape(
        name="tickets",
        row={"betreff": "Login", "antwort": "Reset it."},
        turns=[("user", "Login"), ("assistant", "Reset it.")],
    ),
    Shape(
        name="tickets in two columns of their own",
        row={"betreff": "Login fails", "bescheid": "Reset it."},
        refused=r'template: "\{betreff\}"',
        why=READINGS,
    ),
    Shape(
        name="billsum",
        row={"text": "Long bill.", "summary": "A bill.", "title": "Act"},
        turns=[("user", "Long bill."), ("assistant", "A bill.")],
    ),
    Shape(
        name="counselling",
        row={"Context": "I feel low.", "Response": "Tell me more."},
        turns=[("user", "I feel low."), ("assistant", "Tell me more.")],
    ),
    Shape(
        name="an answer of one word", row={"review": "I like it.", "answer": "positive"}, refused="no column", why=TASK
    ),
    Shape(
        name="an answer and two others",
        row={"a": "x y", "b": "z y", "answer": "Reset it."},
        refused="no column",
        why=READINGS,
    ),
    Shape(
        name="an answer and a worse one",
        row={"bad_answer": "x y", "answer": "Reset it."},
        refused="no column",
        why=READINGS,
    ),
    Shape(
        name="an answer and another's",
        row={"model_answer": "x y", "answer": "Reset it."},
        refused="no column",
        why=READINGS,
    ),
    Shape(
        name="tickets, told",
        row={"betreff": "Login", "antwort": "Reset it."},
        pair=("Login", "Reset it."),
        data={"prompt_template": "{betreff}", "completion_template": "{antwort}"},
    ),
    Shape(
        name="columns, told",
        row={"q": "Login", "a": "Reset it."},
        pair=("Login", "Reset it."),
        data={"columns": {"prompt": "q", "completion": "a"}},
    ),
    Shape(
        name="a text where messages are expected",
        row={"conversations": "Name a prime."},
        refused="not a list of messages",
        why=NOTHING,
    ),
    Shape(
        name="messages as prompt and completion",
        row={"prompt": openai(ASK[0]), "completion": openai(ASK[1])},
        turns=ASK,
    ),
]

TEXTS = [
    Shape(name="text", row={"text": "Seven is a prime."}, text="Seven is a prime."),
    Shape(name="The Pile", row={"text": "Seven is a prime.", "meta": {"pile_set_name": "x"}}, text="Seven is a prime."),
    Shape(name="C4", row={"text": "Seven is a prime.", "timestamp": "x", "url": "y"}, text="Seven is a prime."),
    Shape(
        name="FineWeb",
        row={
            "text": "Seven.",
            "id": "1",
            "dump": "x",
            "url": "u",
            "date": "d",
            "file_path": "f",
            "language": "en",
            "language_score": 0.9,
            "token_count": 2,
        },
        text="Seven.",
    ),
    Shape(
        name="Wikipedia",
        row={"id": "1", "url": "u", "title": "Seven", "text": "Seven is a prime."},
        text="Seven is a prime.",
    ),
    Shape(name="The Stack", row={"content": "x = 7", "size": 5, "lang": "Python", "path": "a.py"}, text="x = 7"),
    Shape(name="code", row={"code": "x = 7", "language": "Python"}, text="x = 7"),
    Shape(
        name="LangChain documents",
        row={"page_content": "Seven is a prime.", "metadata": {"source": "x"}},
        text="Seven is a prime.",
    ),
    Shape(name="a label beside a text", row={"text": "Seven.", "label": 1}, refused="'label'", why=TASK),
    Shape(name="an image beside a text", row={"text": "Seven.", "image": "a.png"}, refused="'image'", why=MEDIA),
    Shape(name="two texts", row={"content": "a", "body": "b"}, refused="no column", why=READINGS),
    Shape(name="text of another name", row={"essay": "Seven is a prime."}, text="Seven is a prime."),
    Shape(name="one word of another name", row={"essay": "Seven"}, refused=r'text_column: "essay"', why=READINGS),
    Shape(name="a part alone", row={"instruction": "Name a prime."}, refused="no column", why=NOTHING),
    Shape(name="a label alone", row={"emotion": "very sad"}, refused="emotion", why=NOTHING),
]

SHAPES = [*CONVERSATIONS, *PAIRS, *TEXTS]
