"""Results that answer: an adapter and a whole model, with the template and the stop tokens that were trained."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tunewright.errors import RequestError  # noqa: E402
from tunewright.providers import Sampling  # noqa: E402
from tunewright_hf import HuggingFaceTrainParams  # noqa: E402

ASK = {"role": "user", "content": "What is 1 and 1?"}
ANSWER = "The sum is 2."


def load(folder: Path, model: Path | None = None):
    return HuggingFaceTrainParams().load_result(folder, model)


@pytest.fixture(scope="module")
def adapter(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has learnt one answer by heart."""
    folder = tmp_path_factory.mktemp("trained")
    rows = [{"messages": [ASK, {"role": "assistant", "content": ANSWER}]}] * 8
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    lora = {"r": 16, "lora_alpha": 64, "modules_to_save": ["lm_head"]}
    given = {"max_steps": 60, "learning_rate": 1e-2, "lora_config": lora, "save_strategy": "no", "eval_strategy": "no"}
    return train(folder / "out", folder / "data", **given).result


def test_an_adapter_answers_as_it_has_learnt_and_stops_there(adapter: Path) -> None:
    pieces = list(load(adapter).answer([ASK], Sampling(max_tokens=60)))
    assert "".join(pieces).strip() == ANSWER
    assert len(pieces) > 1


def test_a_merged_model_needs_no_base_and_answers_alike(adapter: Path, tmp_path: Path) -> None:
    load(adapter).merge(tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    merged = load(tmp_path / "merged")
    assert "".join(merged.answer([ASK], Sampling(max_tokens=60))).strip() == ANSWER
    with pytest.raises(RequestError, match="without an adapter"):
        merged.merge(tmp_path / "again")
    with pytest.raises(RequestError, match="exists already"):
        load(adapter).merge(tmp_path / "merged")


def test_random_answers_are_repeated_by_their_seed(adapter: Path) -> None:
    model = load(adapter)

    def answers(seed: int) -> str:
        ask = [{"role": "user", "content": "And 7?"}]
        return "".join(model.answer(ask, Sampling(max_tokens=12, temperature=3.0, seed=seed)))

    assert answers(1) == answers(1) != answers(2)


def test_a_text_is_continued_without_the_template(adapter: Path) -> None:
    rendered = f"<|user|>{ASK['content']}</s><|assistant|>"
    as_text = load(adapter).answer([{"role": "user", "content": rendered}], Sampling(max_tokens=60, as_text=True))
    assert "".join(as_text).strip() == ANSWER


def test_what_cannot_be_loaded_or_answered_is_refused(adapter: Path, tmp_path: Path, base_of) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in adapter.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    config = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "org/gone"}))
    with pytest.raises(RequestError, match=r"'org/gone', which is not on this machine.*--model"):
        load(moved)
    base = Path(config["base_model_name_or_path"])
    assert "".join(load(moved, base).answer([ASK], Sampling(max_tokens=60))).strip() == ANSWER
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
    with pytest.raises(RequestError, match=r"result=.*own': brings Python code.*no terminal.*Run this command in a"):
        load(moved, own)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="result: was rejected"):
        load(tmp_path / "empty")
    long = [{"role": "user", "content": "What is " * 200}]
    with pytest.raises(RequestError, match="fill the model's context"):
        list(load(adapter).answer(long, Sampling()))


def test_a_classifier_answers_nothing(train, classified: Path, tmp_path: Path) -> None:
    given = {"transformer_type": "AutoModelForSequenceClassification", "max_steps": 1}
    result = train(tmp_path / "out", classified, **given).result
    with pytest.raises(RequestError, match="is a classifier"):
        load(result)
