"""More row shapes of public datasets: instructions, reasoning, tools, exports of chats and tickets; see corpus.py."""

from __future__ import annotations

from plugins.hf.tests.data.corpus import ASK, MODEL, NOTHING, READINGS, SYSTEM, TASK, TWICE, Shape, gpt, openai

WHEN = [("user", "When?\nIt was in 1893."), ("assistant", "In 1893.")]
PAIR = {"user": "Name a prime.", "assistant": "Seven."}
ROUNDS = [("Name a prime.", "Seven."), ("Another.", "Eleven.")]
TOOL = '[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]'
OTHER = openai(("user", "Name a prime."), ("assistant", "Eight."))


def rounds(asked: str, answered: str) -> list[dict[str, str]]:
    """One object for each question and its answer."""
    return [{asked: question, answered: answer} for question, answer in ROUNDS]


CHATS = [
    Shape(name="UltraChat", row={"id": "0", "data": ["Name a prime.", "Seven.", "Another.", "Eleven."]}, turns=TWICE),
    Shape(
        name="ultrachat_200k, with its prompt",
        row={"prompt": "Name a prime.", "prompt_id": "x", "messages": openai(*TWICE)},
        turns=TWICE,
    ),
    Shape(
        name="no_robots, with its prompt",
        row={"prompt": "Name a prime.", "prompt_id": "x", "messages": openai(*ASK), "category": "Generation"},
        turns=ASK,
    ),
    Shape(name="LIMA", row={"conversations": ["Name a prime.", "Seven."], "source": "stackexchange"}, turns=ASK),
    Shape(name="Capybara", row={"source": "x", "conversation": rounds("input", "output")}, turns=TWICE),
    Shape(
        name="sharegpt_zh",
        row={"conversation_id": 1, "category": "x", "conversation": rounds("human", "assistant")},
        turns=TWICE,
    ),
    Shape(name="MOSS without plugins", row={"conversation": rounds("human", "assistant")}, turns=TWICE),
    Shape(name="rounds of questions", row={"turns": rounds("question", "answer")}, turns=TWICE),
    Shape(
        name="rounds with more in them",
        row={"conversation": [{"human": "Name a prime.", "assistant": "Seven.", "score": 1}]},
        refused="not a list of messages",
        why=TASK,
    ),
    Shape(
        name="WildChat as it is",
        row={
            "conversation_hash": "x",
            "model": "m",
            "conversation": [
                {"content": "Name a prime.", "role": "user", "country": "US", "redacted": False, "toxic": False},
                {"content": "Seven.", "role": "assistant", "country": None, "redacted": False, "toxic": False},
            ],
            "turn": 1,
            "language": "English",
            "openai_moderation": [{"flagged": False}],
            "detoxify_moderation": [{"toxicity": 0.0}],
            "toxic": False,
            "state": "Texas",
            "country": "United States",
            "hashed_ip": "ab",
            "header": {"accept-language": "en"},
        },
        turns=ASK,
    ),
    Shape(
        name="LMSYS as it is",
        row={
            "conversation_id": "x",
            "model": "vicuna",
            "conversation": openai(*ASK),
            "turn": 1,
            "language": "English",
            "openai_moderation": [{"flagged": False}],
            "redacted": False,
        },
        turns=ASK,
    ),
    Shape(name="OpenThoughts", row={"system": "Be brief.", "conversations": gpt(*ASK)}, turns=[SYSTEM, *ASK]),
    Shape(
        name="an answer beside messages that ask something else",
        row={"problem": "Name a square.", "answer": "Four.", "messages": openai(*ASK)},
        refused=r"ignore_columns: \[problem, answer\]",
        why=READINGS,
    ),
    Shape(
        name="another completion beside messages",
        row={"prompt": "Name a prime.", "completion": "Eleven.", "messages": openai(*ASK)},
        refused=r"ignore_columns: \[completion\]",
        why=READINGS,
    ),
    Shape(
        name="OpenR1-Math, without its ratings",
        row={"problem": "Name a prime.", "generations": ["Seven.", "7"], "uuid": "x", "messages": openai(*ASK)},
        turns=ASK,
    ),
    Shape(
        name="OpenR1-Math as it is",
        row={
            "problem": "Name a prime.",
            "solution": "It is 7.",
            "answer": "7",
            "problem_type": "Algebra",
            "question_type": "word",
            "source": "x",
            "uuid": "y",
            "is_reasoning_complete": [True, True],
            "generations": ["Seven.", "The number 7."],
            "correctness_math_verify": [True, False],
            "correctness_llama": [True, True],
            "finish_reasons": ["stop", "stop"],
            "correctness_count": 1,
            "messages": openai(*ASK),
        },
        turns=ASK,
    ),
    Shape(
        name="scores for the turns",
        row={"messages": openai(*TWICE), "scores": [0.1, 0.9]},
        refused="'scores'",
        why=TASK,
    ),
    Shape(
        name="OpenR1-Math, without its generations",
        row={"problem": "Name a prime.", "correctness_math_verify": [True], "messages": openai(*ASK)},
        refused=r"'correctness_math_verify'.*ignore_columns: \[correctness_math_verify\]",
        why=TASK,
    ),
    Shape(
        name="dolphin-r1",
        row={"messages": openai(*ASK), "reasoning": "hm", "answer": "Seven."},
        refused="'reasoning'",
        why=READINGS,
    ),
    Shape(
        name="Glaive function calling",
        row={"system": "SYSTEM: Be brief.", "chat": "USER: Name a prime.\n\n\nASSISTANT: Seven. <|endoftext|>\n\n\n"},
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="a transcript with roles of its own",
        row={"dialogue": "Kunde: Name a prime.\nBerater: Seven."},
        turns=ASK,
        data={"format": "chat", "messages_column": "dialogue", "roles": {"Kunde": "user", "Berater": "assistant"}},
    ),
    Shape(name="HuatuoGPT", row={"data": ["问：Name a prime.", "答：Seven."]}, turns=ASK),  # noqa: RUF001 - its colon
    Shape(name="MedDialog", row={"utterances": ["patient: Name a prime.", "doctor: Seven."]}, turns=ASK),
    Shape(name="a chat in CSV", row={"id": "1", "messages": str(openai(*ASK)).replace("'", '"')}, turns=ASK),
    Shape(
        name="Cohere fine-tuning",
        row={
            "messages": [
                {"role": "System", "content": "Be brief."},
                {"role": "User", "content": "Name a prime."},
                {"role": "Chatbot", "content": "Seven."},
            ]
        },
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="Gemini with its system instruction",
        row={
            "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Name a prime."}]},
                {"role": "model", "parts": [{"text": "Seven."}]},
            ],
        },
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="Bedrock",
        row={
            "schemaVersion": "bedrock-conversation-2024",
            "system": [{"text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"text": "Name a prime."}]},
                {"role": "assistant", "content": [{"text": "Seven."}]},
            ],
        },
        turns=[SYSTEM, *ASK],
    ),
    Shape(
        name="Telegram",
        row={"messages": [{"id": 1, "from": "Ann", "text": "a"}, {"id": 2, "from": "Bob", "text": "b"}]},
        refused=r'roles: \{"Ann": "user", "Bob": "assistant"\}',
        why=READINGS,
    ),
    Shape(
        name="Discord, told",
        row={
            "messages": [
                {"type": "Default", "content": "Name a prime.", "author": {"id": "1", "name": "Ann"}},
                {"type": "Default", "content": "Seven.", "author": {"id": "2", "name": "Bob"}},
            ]
        },
        turns=ASK,
        data={"roles": {"Ann": "user", "Bob": "assistant"}},
    ),
    Shape(
        name="tools of OpenAI's fine-tuning",
        row={"messages": openai(*ASK), "tools": TOOL, "parallel_tool_calls": False},
        turns=[("system", TOOL), *ASK],
        tools=True,
    ),
    Shape(
        name="tools for a model without them",
        row={"messages": openai(*ASK), "tools": TOOL, "parallel_tool_calls": False},
        refused="knows no tools",
        why=MODEL,
    ),
    Shape(
        name="MOSS with plugins",
        row={"chat": {"turn_1": {"Human": "Name a prime.", "MOSS": "Seven."}}, "meta_instruction": "x"},
        refused="not a list of messages",
        why=READINGS,
    ),
]

QUESTIONS = [
    Shape(name="CodeAlpaca", row={"instruction": "Name a prime.", "input": "", "output": "Seven."}, turns=ASK),
    Shape(name="GPTeacher", row={"instruction": "Name a prime.", "input": "", "response": "Seven."}, turns=ASK),
    Shape(
        name="Magicoder",
        row={
            "lang": "python",
            "raw_index": 1,
            "index": 1,
            "seed": "def f(x):",
            "openai_fingerprint": "fp x",
            "problem": "Name a prime.",
            "solution": "Seven.",
        },
        turns=ASK,
    ),
    Shape(
        name="Platypus",
        row={"input": "", "output": "Seven.", "instruction": "Name a prime.", "data_source": "x"},
        turns=ASK,
    ),
    Shape(
        name="FLAN",
        row={"inputs": "Name a prime.", "targets": "Seven.", "_template_idx": 1, "_task_name": "x"},
        turns=ASK,
    ),
    Shape(
        name="P3",
        row={
            "inputs": [1, 2],
            "inputs_pretokenized": "Name a prime.",
            "targets": [3],
            "targets_pretokenized": "Seven.",
        },
        turns=ASK,
    ),
    Shape(
        name="natural instructions",
        row={"task_name": "t", "id": "x", "definition": "When?", "inputs": "It was in 1893.", "targets": "In 1893."},
        turns=WHEN,
    ),
    Shape(
        name="aya",
        row={
            "inputs": "Name a prime.",
            "targets": "Seven.",
            "language": "English",
            "annotation_type": "x",
            "user_id": "y",
        },
        turns=ASK,
    ),
    Shape(name="firefly", row={"kind": "QA", "input": "Name a prime.", "target": "Seven."}, turns=ASK),
    Shape(
        name="COIG-CQIA",
        row={
            "instruction": "Name a prime.",
            "input": "",
            "output": "Seven.",
            "task_type": {"major": ["x"], "minor": ["y"]},
            "domain": ["math"],
            "answer_from": "human",
            "human_verified": True,
            "copyright": "c",
        },
        turns=ASK,
    ),
    Shape(
        name="SQuAD",
        row={
            "id": "x",
            "title": "T",
            "context": "It was in 1893.",
            "question": "When?",
            "answers": {"text": ["In 1893."], "answer_start": [0]},
        },
        turns=WHEN,
    ),
    Shape(
        name="SQuAD's validation split",
        row={"question": "When?", "answers": {"text": ["In 1893.", "1893", "1893"], "answer_start": [0, 1, 1]}},
        turns=[("user", "When?"), ("assistant", "In 1893.")],
        further_answers=1,
    ),
    Shape(
        name="SQuAD 2, without an answer",
        row={"question": "When?", "answers": {"text": [], "answer_start": []}},
        refused="no sample",
        why=NOTHING,
    ),
    Shape(
        name="several answers, and no place of them",
        row={"question": "When?", "answers": {"text": ["In 1893.", "1893"]}},
        refused=r'completion_template: "\{answers\.text\.0\}"',
        why=READINGS,
    ),
    Shape(
        name="NQ-open",
        row={"question": "When?", "answer": ["In 1893.", "1893"]},
        refused=r"answer\.0",
        why=READINGS,
    ),
    Shape(
        name="SQuAD's validation split, told",
        row={"question": "When?", "answers": {"text": ["In 1893.", "1893"], "answer_start": [0, 1]}},
        pair=("When?", "In 1893."),
        data={"prompt_template": "{question}", "completion_template": "{answers.text.0}"},
    ),
    Shape(
        name="TriviaQA",
        row={"question": "When?", "answer": {"aliases": ["x"], "value": "In 1893."}, "question_id": "q"},
        turns=[("user", "When?"), ("assistant", "In 1893.")],
    ),
    Shape(
        name="WMT",
        row={"translation": {"de": "Sieben.", "en": "Seven."}},
        refused=r'prompt_template: "\{translation\.de\}".*completion_template: "\{translation\.en\}"',
        why=READINGS,
    ),
    Shape(
        name="WMT, told",
        row={"translation": {"de": "Sieben.", "en": "Seven."}},
        pair=("Sieben.", "Seven."),
        data={"prompt_template": "{translation.de}", "completion_template": "{translation.en}"},
    ),
    Shape(
        name="unnatural instructions",
        row={"instruction": "Name a prime.", "instances": [{"input": "", "constraints": "None.", "output": "Seven."}]},
        refused=r'completion_template: "\{instances\.0\.output\}"',
        why=READINGS,
    ),
    Shape(
        name="UltraFeedback",
        row={
            "source": "x",
            "instruction": "Name a prime.",
            "models": ["a"],
            "completions": [{"model": "a", "response": "Seven.", "overall_score": 8.0}],
            "incorrect_answers": ["None"],
        },
        refused=r'completion_template: "\{completions\.0\.response\}"',
        why=TASK,
    ),
    Shape(
        name="HelpSteer2",
        row={"prompt": "a", "response": "b", "helpfulness": 4, "correctness": 4, "verbosity": 1},
        refused=r"ignore_columns: \[helpfulness, correctness, verbosity\]",
        why=TASK,
    ),
    Shape(
        name="PKU-SafeRLHF",
        row={"prompt": "a", "response_0": "b", "response_1": "c", "is_response_0_safe": True, "better_response_id": 0},
        refused=r'completion_template: "\{response_0\}"',
        why=TASK,
    ),
    Shape(
        name="BoolQ",
        row={"question": "Is it?", "answer": True, "passage": "It is."},
        refused="bool.*'answer'",
        why=TASK,
    ),
    Shape(
        name="MMLU",
        row={"question": "Q?", "subject": "s", "choices": ["a", "b"], "answer": 1},
        refused="'choices'",
        why=TASK,
    ),
    Shape(
        name="ARC",
        row={"id": "x", "question": "Q?", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "A"},
        refused=r'completion_template: "\{answerKey\}"',
        why=TASK,
    ),
    Shape(name="MNLI", row={"premise": "a", "hypothesis": "b", "label": 1, "idx": 0}, refused="no column", why=TASK),
    Shape(
        name="s1K",
        row={"question": "Name a prime.", "solution": "7", "attempt": "Seven.", "thinking_trajectories": ["hm"]},
        refused=r"ignore_columns: \[attempt, thinking_trajectories\]",
        why=READINGS,
    ),
    Shape(
        name="MedQuAD",
        row={"question": "Name a prime.", "answer": "Seven.", "source": "NIH", "focus_area": "Numbers"},
        turns=ASK,
    ),
    Shape(name="a FAQ from Excel", row={"Frage": "Name a prime.", "Antwort": "Seven."}, turns=ASK),
    Shape(
        name="titles in capitals",
        row={"Question": "Name a prime.", "Answer": "Seven.", "Created at": "2024-01-01"},
        turns=ASK,
    ),
    Shape(
        name="Zendesk",
        row={
            "Id": "1",
            "Requester": "Ann",
            "Subject": "Login",
            "Description": "I cannot log in.",
            "Status": "Closed",
            "Tags": "login",
            "Resolution": "Reset it.",
        },
        refused=r'prompt_template: "\{Description\}".*completion_template: "\{Resolution\}"',
        why=READINGS,
    ),
    Shape(
        name="Bitext",
        row={
            "flags": "B",
            "instruction": "cancel {{No}}",
            "category": "ORDER",
            "intent": "x",
            "response": "Sure {{No}}.",
        },
        turns=[("user", "cancel {{No}}"), ("assistant", "Sure {{No}}.")],
    ),
    Shape(
        name="two names of messages",
        row={"message_1": "a b", "message_2": "c d"},
        refused=r'template: "\{message_2\}"',
        why=READINGS,
    ),
    Shape(
        name="HC3",
        row={"question": "Why?", "human_answers": ["a"], "chatgpt_answers": ["b"]},
        refused=r"human_answers\.0",
        why=READINGS,
    ),
    Shape(
        name="empathetic dialogues",
        row={"conv_id": "x", "prompt": "a b", "utterance": "c d"},
        refused=r'"\{utterance\}"',
        why=READINGS,
    ),
    Shape(
        name="tools without a template",
        row={"query": "Weather?", "answers": '[{"name": "weather", "arguments": {}}]', "tools": TOOL},
        refused="'tools', which only a chat template can write",
        why=MODEL,
        template=False,
    ),
]

DOCUMENTS = [
    Shape(
        name="The Stack as it is",
        row={
            "hexsha": "ab12cd34ef",
            "size": 5,
            "ext": "py",
            "lang": "Python",
            "max_stars_repo_path": "a.py",
            "max_stars_repo_licenses": ["mit"],
            "max_stars_count": 3,
            "content": "x = 7",
            "avg_line_length": 5.0,
            "alphanum_fraction": 0.4,
        },
        text="x = 7",
    ),
    Shape(
        name="codeparrot",
        row={
            "repo_name": "a/b",
            "path": "a.py",
            "copies": "1",
            "content": "x = 7",
            "line_mean": 5.0,
            "autogenerated": False,
        },
        text="x = 7",
    ),
    Shape(
        name="FineWeb-Edu",
        row={"text": "Seven is a prime. " * 40, "url": "u", "score": 3.4, "int_score": 3},
        text="Seven is a prime. " * 40,
    ),
    Shape(
        name="essays with a grade",
        row={"text": "Seven is a prime. " * 40, "grade": 3},
        refused="'grade'",
        why=TASK,
    ),
    Shape(
        name="short texts with a score",
        row={"text": "Seven.", "url": "u", "score": 3.4, "int_score": 3},
        refused=r"\[score, int_score\]",
        why=TASK,
    ),
    Shape(
        name="banking77",
        row={"text": "card?", "category": "card_arrival"},
        refused="'category'.*may be the label",
        why=TASK,
    ),
    Shape(
        name="a long text with a category",
        row={"text": "Seven is a prime. " * 40, "category": "math"},
        text="Seven is a prime. " * 40,
    ),
    Shape(name="SST-2", row={"idx": 0, "sentence": "good", "label": 1}, refused=r'text_column: "sentence"', why=TASK),
    Shape(
        name="IMDB", row={"text": "Good.", "label": 1}, refused="'label'.*AutoModelForSequenceClassification", why=TASK
    ),
    Shape(name="sentiments", row={"text": "Good.", "sentiment": "positive"}, refused="'sentiment'", why=TASK),
    Shape(name="Enron", row={"file": "allen-p/1.", "message": "Hello Bob."}, text="Hello Bob."),
    Shape(
        name="oasst1",
        row={"message_id": "a", "parent_id": None, "text": "Name a prime.", "role": "prompter", "lang": "en"},
        refused="one message of a conversation",
        why=READINGS,
    ),
    Shape(
        name="guanaco",
        row={"text": "### Human: Name a prime.### Assistant: Seven."},
        text="### Human: Name a prime.### Assistant: Seven.",
    ),
    Shape(name="nothing but numbers", row={"a": 1, "b": 2}, refused="Write rows of one of these forms", why=NOTHING),
]

MORE = [*CHATS, *QUESTIONS, *DOCUMENTS]
