"""Code jobs: turn a function or a script into files of the job's configuration, without a shell or a heredoc."""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType

from tunewright.errors import RequestError
from tunewright.events import Json
from tunewright.plan.plan import RUNNER_FILE
from tunewright.plan.secrets import refuse_literal_tokens

FUNCTION_FILE = "train_func.py"
PARAMETERS_FILE = "parameters.json"

_OF_JOB_FILES = "A job file is run by: tunewright train"
_OF_SHELLS = "Give the Python file that it starts, or an image with the program: base_image=…, command=[…]."
_NO_PYTHON = {".yaml": _OF_JOB_FILES, ".yml": _OF_JOB_FILES, ".sh": _OF_SHELLS}

CODE_FOLDER = "code"
"""The folder of a script that is shipped with its folder, so that its files cannot replace ours."""

_FOLDER_BYTES = 4 << 20

# The body of a class reads global names and its own with the same instruction.
_READS, _WRITES = ("LOAD_GLOBAL", "LOAD_NAME"), ("STORE_NAME",)

# The future import keeps annotations unevaluated: the names that they use need not exist in the container.
_HEAD = "from __future__ import annotations\n\n"

# Indented source stays indented: dedenting it would change multi-line strings in it.
_INDENTED = "if True:\n"

_MAIN = """

if __name__ == "__main__":
    import json as _json
    import pathlib as _pathlib

    _parameters = _json.loads(_pathlib.Path(__file__).with_name("{parameters}").read_text("utf-8"))
    {call}
"""


def function_files(train_func: Callable[..., object], parameters: Mapping[str, Json] | None) -> dict[str, str]:
    """Return the files for `create_job(train_func=…)`: the source of the function with a call, and its arguments as JSON.

    Args:
        train_func: a plain function that imports what it needs in its body.
        parameters: its keyword arguments; a function of one argument, as in kubeflow-training 1.9, receives the dict.

    Raises:
        RequestError: the function cannot be shipped as source, or does not accept the arguments.
    """
    shown = getattr(train_func, "__name__", repr(train_func))
    source = _source(train_func, shown)
    name = train_func.__code__.co_name
    call = _call(train_func, name, parameters)
    main = _MAIN.format(parameters=PARAMETERS_FILE, call=call)
    return {FUNCTION_FILE: f"{source}{main}", PARAMETERS_FILE: _as_json(parameters)}


def script_files(script: str | Path) -> dict[str, str]:
    """Return the file for `create_job(script=…)`.

    Raises:
        RequestError: it is not a readable Python file.
    """
    remedy = "Give the path of a Python file."
    if not isinstance(script, str | Path):
        raise RequestError("is not a path", field="script", value=script, remedy=remedy)
    path = Path(script)
    _refuse_other_kinds(path)
    # The runner's own file has that name, and is in the same folder.
    name = f"script_{path.name}" if path.name == RUNNER_FILE else path.name
    try:
        return {name: path.read_text("utf-8")}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RequestError(f"cannot be read: {error}", field="script", value=str(script), remedy=remedy) from error


def folder_files(script: str | Path, folder: str | Path) -> dict[str, str]:
    """Return the files for `create_job(script=…, script_folder=…)`: the script first, then everything else in the folder.

    Names that begin with a dot, and `__pycache__`, are left out.

    Args:
        script: path of the script, relative to the folder or to the working directory.
        folder: the folder whose files are shipped with the script.

    Raises:
        RequestError: the script is not in the folder, or a file in it is not text.
    """
    remedy = "Give the folder that holds the script and the modules that it imports."
    root = Path(folder) if isinstance(folder, str | Path) else Path()
    if not isinstance(folder, str | Path) or not root.is_dir():
        raise RequestError("is not a folder", field="script_folder", value=folder, remedy=remedy)
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    shipped = {name: path for name, path in found.items() if not any(map(_stays, Path(name).parts))}
    entry = next(
        (n for n, p in shipped.items() if p.resolve() in {(root / script).resolve(), Path(script).resolve()}), None
    )
    if entry is None:
        raise RequestError("is not in script_folder", field="script", value=str(script), remedy=remedy)
    _refuse_other_kinds(Path(script))
    if sum(path.stat().st_size for path in shipped.values()) > _FOLDER_BYTES:
        problem = f"has more than {_FOLDER_BYTES >> 20} MiB, but is meant for code"
        raise RequestError(problem, field="script_folder", value=str(folder), remedy="Put data into a dataset.")
    return {f"{CODE_FOLDER}/{name}": _text(shipped[name]) for name in (entry, *(n for n in shipped if n != entry))}


def _refuse_other_kinds(script: Path) -> None:
    if remedy := _NO_PYTHON.get(script.suffix):
        raise RequestError("is not a Python file", field="script", value=str(script), remedy=remedy)


def _stays(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "Only text can be shipped: remove the file from the folder, or put it into the image or a dataset."
        raise RequestError(f"cannot be read: {error}", field="script_folder", value=str(path), remedy=remedy) from error


def _as_json(parameters: Mapping[str, Json] | None) -> str:
    try:
        return json.dumps(dict(parameters or {}), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "Use numbers, strings, lists and dicts."
        raise RequestError(f"is not JSON-serializable: {error}", field="parameters", remedy=remedy) from error


def _source(train_func: Callable[..., object], shown: str) -> str:
    """Return the definition of the function, verbatim, as a module."""

    def refused(
        problem: str, remedy: str = "Define it with `def` in a file or a notebook cell, or use script=."
    ) -> RequestError:
        return RequestError(problem, field="train_func", value=shown, remedy=remedy)

    if not inspect.isfunction(train_func) or train_func.__code__.co_name == "<lambda>":
        raise refused("is not a plain function")
    if (
        inspect.iscoroutinefunction(train_func)
        or inspect.isgeneratorfunction(train_func)
        or inspect.isasyncgenfunction(train_func)
    ):
        raise refused(
            "is a coroutine function or a generator, which does not run when called",
            "Use a plain function, with asyncio.run() inside.",
        )
    if hasattr(train_func, "__wrapped__"):
        raise refused("is decorated, but only the source of the inner function could be shipped")
    try:
        source = inspect.getsource(train_func)
        text = f"{_HEAD}{_INDENTED if source[:1].isspace() else ''}{source}"
        code = compile(text, FUNCTION_FILE, "exec", dont_inherit=True)
    except (OSError, TypeError, SyntaxError) as error:
        raise refused("has no source code that could be shipped") from error
    if not _is_plain_def(text, train_func.__code__.co_name):
        raise refused("is decorated, or is not a plain def")
    if used := _names_from_outside(code, train_func):
        which = "which is" if len(used) == 1 else "which are"
        problem = f"refers to {', '.join(used)}, {which} defined outside it; only the function's own source is shipped"
        remedy = "Import and define what it needs in its body, pass values as parameters=, or use script=."
        raise refused(problem, remedy)
    return text


def _is_plain_def(text: str, name: str) -> bool:
    node = ast.parse(text).body[-1]
    if isinstance(node, ast.If):
        node = node.body[-1]
    return isinstance(node, ast.FunctionDef) and not node.decorator_list and node.name == name


def _names_from_outside(code: CodeType, train_func: Callable[..., object]) -> list[str]:
    """Return the names that the shipped module would not find, or would find with another meaning."""
    here = inspect.unwrap(train_func).__globals__
    own = {train_func.__code__.co_name, *_global_writes(code)}
    # The body of a class reads __name__, which every module has.
    outer = {n for n in _globals_read(code) if n not in own and not n.startswith("__")}
    return sorted(n for n in outer if n in here or not hasattr(builtins, n))


def _globals_read(code: CodeType) -> set[str]:
    """Return the global names that code reads. `inspect.getclosurevars` would add attributes and local imports."""
    names = {kind: {i.argval for i in dis.get_instructions(code) if i.opname in kind} for kind in (_READS, _WRITES)}
    return (names[_READS] - names[_WRITES]).union(*(_globals_read(inner) for inner in _inner(code)))


def _global_writes(code: CodeType) -> set[str]:
    """Return the global names that code assigns, after a `global` statement."""
    own = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}
    return own.union(*(_global_writes(inner) for inner in _inner(code)))


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _call(train_func: Callable[..., object], name: str, parameters: Mapping[str, Json] | None) -> str:
    if parameters is not None and not isinstance(parameters, Mapping):
        remedy = "Give a dict of the function's arguments."
        raise RequestError("must be a dict", field="parameters", value=parameters, remedy=remedy)
    refuse_literal_tokens(parameters, "parameters", "Give it as an environment variable: env={…: SecretRef(…)}.")
    given = dict(parameters or {})
    calls: list[tuple[str, tuple[object, ...], dict[str, Json]]] = [(f"{name}(**_parameters)", (), given)]
    if parameters is not None:
        calls.append((f"{name}(_parameters)", (given,), {}))
    signature = inspect.signature(train_func)
    for call, args, kwargs in calls:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            continue
        return call
    remedy = f"Its signature is {name}{signature}; parameters= are its keyword arguments."
    problem = f"does not accept the parameters {list(given)}"
    raise RequestError(problem, field="train_func", value=name, remedy=remedy)
