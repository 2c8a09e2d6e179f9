"""Pieces of a text are tokenised once, to the ids that tokenising every beginning of the text would give."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

transformers = pytest.importorskip("transformers")

from tunewright_hf.data import tokenize  # noqa: E402
from tunewright_hf.data.tokenize import Sample, encode, token_ids  # noqa: E402

CORPUS = [
    "the sum of one and two is three.",
    "  what's that?\n\n1234 tuples, lists\tand sets",
    "Ähnliche Wörter, 你好",
] * 20
KINDS = ("byte level", "metaspace first", "metaspace always", "prepended", "word pieces", "unigram")
CONTROLS = ("<|a|>", "<|left|>", "<|right|>", "<|word|>", "<|a|>x", "<tag>", "<|said|>")


def raw_tokenizer(kind: str) -> object:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if kind == "word pieces":
        raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        raw.normalizer, raw.pre_tokenizer = (
            normalizers.BertNormalizer(lowercase=True),
            pre_tokenizers.BertPreTokenizer(),
        )
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    elif kind == "unigram":
        raw = Tokenizer(models.Unigram())
        raw.normalizer, raw.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    else:
        raw = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], show_progress=False)
        if kind == "byte level":
            raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
            )
        elif kind == "prepended":  # as Llama 2
            raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind.partition(" ")[2])
    raw.train_from_iterator(CORPUS, trainer)
    return raw


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest):
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    raw = raw_tokenizer(request.param)
    found = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    same = {"special": True, "normalized": False}
    found.add_tokens(
        [
            AddedToken("<|a|>", **same),
            AddedToken("<|left|>", lstrip=True, **same),
            AddedToken("<|right|>", rstrip=True, **same),
            AddedToken("<|word|>", single_word=True, **same),
            AddedToken("<|a|>x", **same),
            AddedToken("<tag>", special=False, normalized=True),
            AddedToken("<|said|>", special=False, normalized=False),
        ]
    )
    ends = [(token, found.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    found.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return found


def by_prefixes(tokenizer, spans: Sequence[tuple[str, bool]], *, special: bool) -> Sample:
    """Each beginning of the text by itself: what `encode` promises, in time that grows with the square of its length."""
    whole = token_ids(tokenizer, "".join(text for text, _ in spans), special=special)
    labels: list[int] = []
    for number, (_, supervised) in enumerate(spans, start=1):
        head = token_ids(tokenizer, "".join(text for text, _ in spans[:number]), special=special)
        if whole[: len(head)] != head:
            return tokenize._encode_apart(tokenizer, spans, special=special)
        new = head[len(labels) :]
        labels += new if supervised else [-100] * len(new)
    return Sample(whole, labels)


words = st.sampled_from(
    [
        *CONTROLS,
        "<s>",
        "</s>",
        " ",
        "  ",
        "\n",
        "the",
        " sum",
        "'s",
        "12",
        "3",
        "x",
        "<|",
        "a|>",
        "Ä",
        "好",
        "e\u0301",
        ".",
    ]
)
pieces = st.lists(st.tuples(st.lists(words, max_size=5).map("".join), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=60)
@given(spans=pieces, special=st.booleans())
def test_one_pass_gives_what_every_beginning_by_itself_would(tokenizer, spans, special: bool) -> None:
    assert encode(tokenizer, spans, special=special) == by_prefixes(tokenizer, spans, special=special)


def test_a_text_with_control_tokens_is_tokenised_once(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def spans(turns: int) -> list[tuple[str, bool]]:
        return [(f"<|a|>{n} the sum\n", bool(n % 2)) for n in range(turns)]

    lengths: list[int] = []
    ids = tokenize.token_ids
    encode(tokenizer, spans(2), special=False)  # which learns about the tokenizer
    monkeypatch.setattr(
        tokenize, "token_ids", lambda t, text, *, special: lengths.append(len(text)) or ids(t, text, special=special)
    )
    encode(tokenizer, spans(40), special=False)
    assert sum(lengths) <= sum(len(text) for text, _ in spans(40)), "never a beginning of the whole"
