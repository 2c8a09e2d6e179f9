"""Code jobs: what is shipped runs as it ran here, to the letter, and what could not is refused with a reason."""

import functools
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError
from tunewright.plan.plan import RUNNER_FILE
from tunewright.request.code import FUNCTION_FILE, PARAMETERS_FILE, folder_files, function_files, script_files

OUTER = 3


def run(
    train_func: Callable[..., object], parameters: object, folder: Path, capsys: pytest.CaptureFixture[str]
) -> object:
    """Ship the function, run the shipped file as torchrun's python does, and give back what it printed as JSON."""
    for name, text in function_files(train_func, parameters).items():  # type: ignore[arg-type]
        (folder / name).write_text(text, "utf-8")
    runpy.run_path(str(folder / FUNCTION_FILE), run_name="__main__")
    return json.loads(capsys.readouterr().out)


def hostile_texts():
    import json

    texts = [
        "$HOME $(TUNEWRIGHT_CONFIG) ${PATH} $$",
        "`id` 'single' \"double\"",
        "<< EOM\nEOM\nread -r -d '' SCRIPT << EOM\n",
        "back\\slash \n newline \t tab \\n \\$",
        r"raw \d+ \ ",
        f"{1 + 1} {{braces}} %s %(x)s {'{}'}",
        "ümläut ✓ 🎉 \u2028",
        """three
    lines
        indented
   
	tab""",  # noqa: W293
    ]
    print(json.dumps(texts))


def with_keywords(a, b: "NeverImported" = 2, *, c: list[int] = (), **rest):  # type: ignore[name-defined] # noqa: F821
    import json

    print(json.dumps([a, b, c, rest]))


def with_one_dict(parameters):
    import json

    print(json.dumps({"got": parameters}))


def without_arguments():
    print("[]")


def recursive(n=3):
    if n == 0:
        print('"done"')
        return
    recursive(n - 1)


def with_a_global_of_its_own():
    global counted  # noqa: PLW0603
    counted = 1

    def add():
        return counted + 1

    print(add())


class Holder:
    def indented():
        text = """a
        b
  c"""
        print(__import__("json").dumps(text))


def test_every_character_of_the_source_survives(tmp_path, capsys) -> None:
    hostile_texts()
    here = json.loads(capsys.readouterr().out)
    assert run(hostile_texts, None, tmp_path, capsys) == here
    assert here[0] == "$HOME $(TUNEWRIGHT_CONFIG) ${PATH} $$"


def test_a_nested_functions_texts_keep_their_indentation(tmp_path, capsys) -> None:
    def nested():
        text = """
            indented
      less
 
        """  # noqa: W293
        print(__import__("json").dumps(text))

    nested()
    here = json.loads(capsys.readouterr().out)
    assert run(nested, None, tmp_path, capsys) == here == "\n            indented\n      less\n \n        "
    assert run(Holder.indented, {}, tmp_path, capsys) == "a\n        b\n  c"


@pytest.mark.parametrize(
    ("parameters", "printed"),
    [
        ({"a": 1}, [1, 2, [], {}]),
        ({"a": 1, "b": [None, True], "c": [1], "d": {"x": "$HOME `id` \\ 'q' \" \n ü"}}, [1, [None, True], [1], {"d": {"x": "$HOME `id` \\ 'q' \" \n ü"}}]),
    ],
)  # fmt: skip
def test_parameters_arrive_as_keywords(parameters, printed, tmp_path, capsys) -> None:
    before = json.dumps(parameters)
    assert run(with_keywords, parameters, tmp_path, capsys) == printed
    assert json.dumps(parameters) == before


@pytest.mark.parametrize("parameters", [{"lr": 0.1, "steps": 3}, {}])
def test_a_function_of_one_argument_gets_the_dict(parameters, tmp_path, capsys) -> None:
    assert run(with_one_dict, parameters, tmp_path, capsys) == {"got": parameters}


def test_an_argument_that_is_named_parameters_is_one(tmp_path, capsys) -> None:
    assert run(with_one_dict, {"parameters": 3}, tmp_path, capsys) == {"got": 3}


@pytest.mark.parametrize("parameters", [None, {}])
def test_a_function_without_arguments_is_called_without(parameters, tmp_path, capsys) -> None:
    assert run(without_arguments, parameters, tmp_path, capsys) == []


def test_a_function_may_call_itself_and_make_globals_of_its_own(tmp_path, capsys) -> None:
    assert run(recursive, None, tmp_path, capsys) == "done"
    assert run(with_a_global_of_its_own, None, tmp_path, capsys) == 2


def test_the_shipped_file_does_nothing_when_it_is_imported(tmp_path, capsys) -> None:
    (tmp_path / FUNCTION_FILE).write_text(function_files(without_arguments, None)[FUNCTION_FILE])
    runpy.run_path(str(tmp_path / FUNCTION_FILE), run_name="imported")
    assert capsys.readouterr().out == ""


def test_equal_functions_give_equal_files() -> None:
    assert function_files(with_keywords, {"a": 1}) == function_files(with_keywords, {"a": 1})
    assert list(function_files(with_keywords, {"a": 1})) == [FUNCTION_FILE, PARAMETERS_FILE]


def a_decorator(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@a_decorator
def decorated():
    print("[]")


@functools.lru_cache
def cached():
    print("[]")


async def coroutine():
    print("[]")


def generator():
    yield 1


def default_from_outside(n=OUTER):
    print(n)


def decorator_inside():
    @a_decorator
    def inner(): ...

    inner()


def annotated_class_base():
    class Model(Path): ...

    print(Model)


def undefined():
    print(this_name_is_nowhere)  # type: ignore[name-defined] # noqa: F821


def not_a_constant_default(*, n=len(sys.argv)):  # noqa: B008
    print(n)


def closure():
    local = 1

    def inner():
        return local

    def default(n=local):
        return n

    return inner, default


twice_wrapped = a_decorator(without_arguments)
renamed = type(without_arguments)(without_arguments.__code__, globals(), "renamed")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda: None, "is not a plain function"),
        (print, "is not a plain function"),
        (int, "is not a plain function"),
        (functools.partial(with_keywords, 1), "is not a plain function"),
        (Holder().indented, "is not a plain function"),
        ("train.py", "is not a plain function"),
        (None, "is not a plain function"),
        (decorated, "is decorated"),
        (cached, "is not a plain function"),
        (twice_wrapped, "is decorated"),
        (coroutine, "which does not run when called"),
        (generator, "which does not run when called"),
        (default_from_outside, "refers to OUTER, which is defined outside it"),
        (not_a_constant_default, "refers to sys, which is defined outside it"),
        (decorator_inside, "refers to a_decorator, which is defined outside it"),
        (annotated_class_base, "refers to Path, which is defined outside it"),
        (undefined, "refers to this_name_is_nowhere, which is defined outside it"),
        (closure()[0], "refers to local, which is defined outside it"),
        (closure()[1], "refers to local, which is defined outside it"),
    ],
)
def test_what_cannot_be_shipped_is_refused(function, says: str) -> None:
    with pytest.raises(RequestError, match=f"^train_func=.*{says}") as caught:
        function_files(function, None)
    assert caught.value.remedy.endswith(".")


def test_a_function_without_source_is_refused() -> None:
    scope: dict[str, object] = {}
    exec("def made(): pass", scope)
    with pytest.raises(RequestError, match=r"train_func='made': has no source code that could be shipped.*script="):
        function_files(scope["made"], None)  # type: ignore[arg-type]


def test_a_builtin_that_the_module_replaces_is_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "print", lambda *_: None)
    with pytest.raises(RequestError, match="refers to print, which is defined outside it"):
        function_files(without_arguments, None)


@pytest.mark.parametrize(
    ("function", "parameters", "shown"),
    [
        (without_arguments, {"lr": 1}, r"does not accept the parameters \['lr'\]"),
        (with_keywords, None, r"does not accept the parameters \[\]"),
        (with_one_dict, None, r"does not accept the parameters \[\]"),
    ],
)
def test_a_call_that_would_fail_there_is_refused_here(function, parameters, shown: str) -> None:
    with pytest.raises(RequestError, match=rf"{shown}.*Its signature is {function.__name__}\("):
        function_files(function, parameters)


@pytest.mark.parametrize("parameters", [[1], "lr=1", 3, {1, 2}])
def test_parameters_are_a_dict(parameters) -> None:
    with pytest.raises(RequestError, match=r"parameters=.*must be a dict"):
        function_files(with_one_dict, parameters)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, Path("x")])
def test_parameters_travel_as_json_or_not_at_all(value: object) -> None:
    with pytest.raises(RequestError, match=r"parameters: is not JSON-serializable"):
        function_files(with_one_dict, {"value": value})  # type: ignore[dict-item]


def test_a_token_among_the_parameters_is_refused() -> None:
    with pytest.raises(
        RequestError, match=r"parameters\['hub'\]\['token'\]: looks like a literal token.*SecretRef"
    ) as caught:
        function_files(with_one_dict, {"hub": {"token": "hf_" + "aB3" * 12}})
    assert "aB3aB3" not in str(caught.value)


def test_a_script_is_shipped_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('$HOME `x` \\\\ ü')\n", "utf-8")
    assert script_files(tmp_path / "train.py") == {"train.py": "print('$HOME `x` \\\\ ü')\n"}
    assert script_files(str(tmp_path / "train.py")) == script_files(tmp_path / "train.py")


def test_a_script_cannot_take_the_runners_place(tmp_path: Path) -> None:
    (tmp_path / RUNNER_FILE).write_text("print(1)")
    assert script_files(tmp_path / RUNNER_FILE) == {f"script_{RUNNER_FILE}": "print(1)"}


def test_what_is_no_script_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    for bad in (tmp_path / "missing.py", tmp_path, tmp_path / "binary.py", "nul\0"):
        with pytest.raises(RequestError, match=r"script=.*cannot be read: .*Give the path of a Python file"):
            script_files(bad)
    with pytest.raises(RequestError, match=r"script=3: is not a path"):
        script_files(3)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train.py", "pkg/run.py", "pkg/ü und.txt", ".git/config", "pkg/__pycache__/run.pyc", "a/.hidden/x"):
        file = tmp_path / "code" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, "utf-8")
    return tmp_path / "code"


def test_a_script_is_shipped_with_what_lies_in_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {f"code/{name}": name for name in ("train.py", "pkg/run.py", "pkg/ü und.txt")}
    monkeypatch.chdir(folder.parent)
    for script in ("train.py", "code/train.py", folder / "train.py"):
        assert folder_files(script, folder) == folder_files(script, "code") == expected
        assert next(iter(folder_files(script, folder))) == "code/train.py"
    assert next(iter(folder_files("pkg/run.py", folder))) == "code/pkg/run.py"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("other.py", "script='other.py': is not in script_folder"),
        ("../outside.py", "is not in script_folder"),
        (".git/config", "is not in script_folder"),
    ],
)
def test_a_script_that_does_not_lie_in_its_folder_is_refused(folder: Path, script: str, says: str) -> None:
    (folder.parent / "outside.py").touch()
    with pytest.raises(RequestError, match=says):
        folder_files(script, folder)


def test_a_folder_that_cannot_travel_is_refused(folder: Path) -> None:
    for bad in (folder / "train.py", folder / "missing", 3):
        with pytest.raises(RequestError, match=r"script_folder=.*: is not a folder"):
            folder_files("train.py", bad)  # type: ignore[arg-type]
    (folder / "data.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match=r"script_folder='.*data.bin': cannot be read.*Only text can be shipped"):
        folder_files("train.py", folder)
    with (folder / "data.bin").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(RequestError, match=r"script_folder=.*: has more than 4 MiB"):
        folder_files("train.py", folder)


@pytest.mark.parametrize(("name", "says"), [("job.yaml", "tunewright train"), ("start.sh", "base_image=")])
def test_a_file_of_another_kind_is_not_run_as_python(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_text("model: hf://org/name\n")
    with pytest.raises(RequestError, match="is not a Python file") as caught:
        script_files(tmp_path / name)
    assert says in str(caught.value)
    with pytest.raises(RequestError, match="is not a Python file"):
        folder_files(name, tmp_path)
