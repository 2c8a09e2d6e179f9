"""Code jobs: a function or a script becomes files for the job's configuration. No shell and no heredoc is involved."""

from __future__ import annotations

import dis
import inspect
import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType

from tunewright.errors import RequestError
from tunewright.events import Json

FUNCTION_FILE = "train_func.py"
PARAMETERS_FILE = "parameters.json"

# The body of a class reads the module's names and its own with the same instruction.
_READS, _WRITES = ("LOAD_GLOBAL", "LOAD_NAME"), ("STORE_NAME",)

_MAIN = """

if __name__ == "__main__":
    import json as _json
    import pathlib as _pathlib

    _parameters = _json.loads(_pathlib.Path(__file__).with_name("{parameters}").read_text("utf-8"))
    {call}
"""


def function_files(train_func: Callable[..., object], parameters: Mapping[str, Json] | None) -> dict[str, str]:
    """The files for `create_job(train_func=…)`: the function's source with a call of it, and its arguments as JSON.

    Args:
        train_func: a plain function that imports what it needs in its body.
        parameters: its keyword arguments; a function of one argument, as kubeflow-training 1.9 wants it, gets the dict.

    Raises:
        RequestError: the function cannot be shipped as source, or cannot be called so.
    """
    name = getattr(train_func, "__name__", repr(train_func))
    source = _source(train_func, name)
    call = _call(train_func, name, dict(parameters or {}))
    try:
        text = json.dumps(dict(parameters or {}), allow_nan=False)
    except (TypeError, ValueError) as error:
        remedy = "Use numbers, strings, lists and dicts."
        raise RequestError(f"cannot travel as JSON: {error}", field="parameters", remedy=remedy) from error
    main = _MAIN.format(parameters=PARAMETERS_FILE, call=call)
    # The future import keeps annotations from being evaluated: the names they use need not exist in the container.
    return {FUNCTION_FILE: f"from __future__ import annotations\n\n{source}{main}", PARAMETERS_FILE: text}


def script_files(script: str | Path) -> dict[str, str]:
    """The file for `create_job(script=…)`.

    Raises:
        RequestError: it is not a readable Python file.
    """
    path = Path(script)
    try:
        return {path.name: path.read_text("utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"cannot be read: {error}", field="script", value=str(script), remedy="Give a Python file."
        ) from error


def _source(train_func: Callable[..., object], name: str) -> str:
    remedy = "Define it with `def` in a file or a notebook cell, or use script=."
    if not inspect.isfunction(train_func) or name == "<lambda>":
        raise RequestError("is not a plain function", field="train_func", value=name, remedy=remedy)
    try:
        source = textwrap.dedent(inspect.getsource(train_func))
    except (OSError, TypeError) as error:
        raise RequestError(
            "has no source that could be shipped", field="train_func", value=name, remedy=remedy
        ) from error
    if not source.startswith(("def ", "async def ")):
        raise RequestError("is decorated or not a top-level def", field="train_func", value=name, remedy=remedy)
    code = train_func.__code__
    outer = _globals_read(code) & set(train_func.__globals__) | set(code.co_freevars)
    # Every module has a __name__, and the body of a class reads it.
    if used := sorted(n for n in outer if n != name and not n.startswith("__")):
        problem = f"uses {', '.join(used)} from outside, and only its own source is shipped"
        remedy = "Import and define what it needs in its body, pass values as parameters=, or use script=."
        raise RequestError(problem, field="train_func", value=name, remedy=remedy)
    return source


def _globals_read(code: CodeType) -> set[str]:
    """Names that are read from the module. `inspect.getclosurevars` also gives attributes and what is imported inside."""
    names = {kind: {i.argval for i in dis.get_instructions(code) if i.opname in kind} for kind in (_READS, _WRITES)}
    inner = (_globals_read(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return (names[_READS] - names[_WRITES]).union(*inner)


def _call(train_func: Callable[..., object], name: str, parameters: dict[str, Json]) -> str:
    signature = inspect.signature(train_func)
    for call, args, kwargs in ((f"{name}(**_parameters)", (), parameters), (f"{name}(_parameters)", (parameters,), {})):
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            continue
        return call
    remedy = f"Its signature is {name}{signature}; parameters= are its keyword arguments."
    raise RequestError(f"cannot be called with {sorted(parameters)}", field="train_func", value=name, remedy=remedy)
