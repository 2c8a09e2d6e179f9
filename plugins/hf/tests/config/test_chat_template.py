"""`DataParams.chat_template` on the client: a name, a text or a file, which is carried in the request."""

from pathlib import Path

import attrs
import pytest

from tunewright import RequestError
from tunewright.providers import wire
from tunewright_hf import DataParams, HuggingFaceTrainParams
from tunewright_hf.config.named_templates import NAMED, named_template
from tunewright_hf.config.template_syntax import check

TEXT = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"


@pytest.mark.parametrize("name", NAMED)
def test_a_name_stays_a_name(name: str) -> None:
    assert DataParams(chat_template=name).chat_template == name
    check(named_template(name))


def test_a_text_is_taken_as_it_is() -> None:
    assert DataParams(chat_template=TEXT).chat_template == TEXT


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read_on_the_client_and_travels_in_the_request(tmp_path: Path, kind: type) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(TEXT)
    params = HuggingFaceTrainParams(data={"chat_template": kind(file)})
    file.unlink()
    document = wire.unstructure(params, "trainer")
    assert document["data"]["chat_template"] == TEXT
    assert attrs.evolve(params.data).chat_template == TEXT


def test_a_path_starts_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chat.jinja").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    assert DataParams(chat_template="chat.jinja").chat_template == TEXT


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("chat.jinja", r"neither Jinja, nor a file.*No such file.*one of: chatml, llama3"),
        ("chat-ml", r"Did you mean 'chatml'"),
        ("", r"neither Jinja"),
        (".", r"neither Jinja, nor a file"),
        (3, "must be a text"),
        ("a\n{% for m in messages %}\n{{ m.content", r"is broken Jinja: .*in its line 3.*"),
        ("{% for m in messages %}{{ m.content }}", r"is broken Jinja: .*endfor"),
        ("{{ messages | nope }}", r"is broken Jinja: No filter named 'nope'"),
    ],
)
def test_what_is_no_template_is_refused(
    given: object, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=expected) as error:
        DataParams(chat_template=given)
    assert error.value.field == "DataParams.chat_template"


def test_a_file_without_jinja_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    file.write_text("User: Assistant:")
    with pytest.raises(RequestError, match=r"without \{\{ … \}\}.*alike"):
        DataParams(chat_template=str(file))


@pytest.mark.parametrize("given", [{"format": "text"}, {"format": "classification"}])
def test_a_template_for_rows_that_are_no_conversations_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=r"renders conversations.*Leave it out"):
        DataParams(chat_template="chatml", **given)


@pytest.mark.parametrize("name", ["AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification"])
def test_a_template_for_other_tasks_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="chat_template"):
        HuggingFaceTrainParams(transformer_type=name, data={"chat_template": "chatml"})
