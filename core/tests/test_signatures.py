"""Signatures and docstrings that are made from classes: every keyword with its type, its default and its meaning."""

import inspect
import pydoc
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from inspect import Parameter
from typing import TypedDict

import attrs
import pytest

from tunewright import TrainingClient
from tunewright._client.options import CodeOptions, JobOptions, TrainOptions
from tunewright._signatures import Argument, document_class, documented
from tunewright.request.update import UpdateOptions

METHODS = {"train": TrainOptions, "create_job": CodeOptions, "update_job": UpdateOptions}
each_method = pytest.mark.parametrize(("method", "options"), METHODS.items())


def parameters_of(method: str) -> dict[str, Parameter]:
    return dict(inspect.signature(getattr(TrainingClient, method)).parameters)


@each_method
def test_every_keyword_of_the_client_is_in_the_signature_and_explained(method: str, options: type) -> None:
    parameters, doc = parameters_of(method), pydoc.getdoc(getattr(TrainingClient, method))
    assert set(options.__annotations__) <= set(parameters)
    for name in set(parameters) - {"self"}:
        assert re.search(rf"^    {name}(?: \(.+\))?: \S", doc, re.MULTILINE), name
        assert parameters[name].annotation is not Parameter.empty, name
    assert set(
        re.findall(r"^    (\w+)(?: \(.+\))?: ", doc.partition("Args:")[2].partition("\n\n")[0], re.MULTILINE)
    ) == (set(parameters) - {"self"})


@each_method
def test_types_are_resolved(method: str, options: type) -> None:
    for parameter in parameters_of(method).values():
        assert not isinstance(parameter.annotation, str)
        assert "ForwardRef" not in str(parameter)


def test_types_and_defaults_are_those_of_the_request() -> None:
    train = parameters_of("train")
    assert (train["max_restarts"].annotation, train["max_restarts"].default) == (int, 3)
    assert (train["num_workers"].annotation, train["num_workers"].default) == (int, 1)
    assert (train["ttl"].annotation, train["ttl"].default) == (int | str | None, None)
    assert (train["suspend"].annotation, train["suspend"].default) == (bool, False)
    assert (train["dry_run"].annotation, train["dry_run"].default) == (bool, False)
    assert parameters_of("update_job")["max_restarts"].default is None
    required = [name for name in TrainOptions.__annotations__ if train[name].default is Parameter.empty]
    assert required == ["model", "dataset", "trainer"]
    assert all(parameters_of("create_job")[name].default is not Parameter.empty for name in CodeOptions.__annotations__)


def test_a_methods_own_keywords_come_before_those_that_all_jobs_have() -> None:
    names = list(parameters_of("train"))
    assert names[:6] == ["self", "arguments", "dry_run", "name", "model", "dataset"]
    assert names[-1] == "options"
    assert names.index("base_folder") < min(names.index(name) for name in JobOptions.__annotations__)


def test_a_signature_accepts_what_the_method_accepts(client) -> None:
    good = {"model": "acme://m", "dataset": "acme://d", "trainer": "acme"}
    inspect.signature(client.train).bind("sft", **good, num_workers=2, queue_name="team")
    inspect.signature(client.create_job).bind("job", job={}, dry_run=True)
    inspect.signature(client.update_job).bind("job", labels={"a": None})
    with pytest.raises(TypeError, match="lables"):
        inspect.signature(client.update_job).bind("job", lables={"a": None})
    with pytest.raises(TypeError, match="model"):
        inspect.signature(client.train).bind("sft")


def test_help_shows_types_defaults_and_meanings_together() -> None:
    text = pydoc.plain(pydoc.render_doc(TrainingClient.train))
    assert "max_restarts: int = 3" in text
    assert "    max_restarts (int, default 3): restarts of a lost or crashed worker" in text
    assert "    affinity (Mapping[str, Json], optional): a Kubernetes Affinity object." in text
    assert "    model (ProviderLike): where the model comes from: a URI" in text
    assert text.index("base_folder (") < text.index("options: the same arguments") < text.index("Raises:")
    assert "manifest (object, optional): a job object" in pydoc.render_doc(TrainingClient.create_job)
    whole = pydoc.plain(pydoc.render_doc(TrainingClient))
    assert "manifest (object, optional): a job object" in whole
    assert "max_restarts (int, default 3)" in whole


def test_what_type_checkers_read_stays() -> None:
    assert len(typing.get_overloads(vars(TrainingClient)["train"])) in (0, 3)  # 0: until it is looked up
    assert len(typing.get_overloads(TrainingClient.train)) == 3
    assert TrainingClient.train.__name__ == "train"
    assert TrainingClient.train.__qualname__ == "TrainingClient.train"


def test_importing_the_client_makes_none_of_it() -> None:
    code = (
        "import inspect, tunewright._signatures as s\n"
        "s.arguments_of = lambda *a, **k: 1 / 0\n"
        "from tunewright import TrainingClient\n"
        "assert not hasattr(vars(TrainingClient)['train'], '__signature__')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_docstrings_everything_works() -> None:
    code = "import inspect; from tunewright import TrainingClient; print(inspect.signature(TrainingClient.train))"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert "max_restarts: int = 3" in done.stdout


@attrs.frozen(kw_only=True)
class Basic:
    """Something.

    Attributes:
        size: how large,
            in metres.
        colour: one of
            many.

    Not an entry: this.
    """

    size: int = 3
    colour: tuple[str, ...] = attrs.field(factory=tuple)


class Keywords(TypedDict, total=False):
    """Keywords.

    Attributes:
        own: only here.
    """

    own: str
    size: int
    colour: list[str]


class Thing:
    @documented(Keywords, Basic)
    def paint(self, where: str, **keywords: object) -> None:
        """Paint it.

        Raises:
            ValueError: it is wet.
        """

    @documented(Keywords, Basic, required=["own"], more=True)
    def wash(self, **keywords: object) -> None:
        """Wash it.

        Args:
            keywords: more.
        """


class Heir(Thing):
    pass


def test_docstrings_are_joined_and_sections_kept() -> None:
    assert inspect.getdoc(Heir.paint) == (
        "Paint it.\n\nArgs:\n    own (str, optional): only here.\n    size (int, default 3): how large, in metres.\n"
        "    colour (list[str], optional): one of many.\n\nRaises:\n    ValueError: it is wet."
    )
    assert str(inspect.signature(Thing().paint)) == (
        "(where: str, *, own: str | None = None, size: int = 3, colour: list[str] | None = None) -> None"
    )
    assert inspect.getdoc(Heir().wash).splitlines()[-4:] == [
        "    own (str): only here.", "    size (int, default 3): how large, in metres.",
        "    colour (list[str], optional): one of many.", "    keywords: more.",
    ]  # fmt: skip
    assert "paint" in vars(Thing)
    assert "paint" not in vars(Heir)


def test_a_class_gets_its_signature_when_somebody_looks() -> None:
    made: list[str] = []

    def arguments() -> Iterator[Argument]:
        made.append("once")
        yield Argument(name="rate", type="float", default=0.1, meaning="how fast.")
        yield Argument(name="unknown", type="dict | None")

    class Recorded:
        """Records."""

        def __init__(self, **fields: object) -> None:
            self.fields = fields

    document_class(Recorded, arguments)
    assert not made
    assert str(inspect.signature(Recorded)) == "(*, rate: 'float' = 0.1, unknown: 'dict | None' = None)"
    assert inspect.getdoc(Recorded) == (
        "Records.\n\nArgs:\n    rate (float, default 0.1): how fast.\n    unknown (dict | None, optional):"
    )
    assert Recorded(rate=1).fields == {"rate": 1}
    assert "rate (float, default 0.1): how fast." in pydoc.plain(pydoc.render_doc(Recorded))
