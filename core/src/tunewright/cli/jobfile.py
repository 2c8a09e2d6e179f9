"""Job files: YAML with the keywords of `train()` or `create_job()`, and `backend`, `namespace` and `context`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tunewright.environment import INPUT_SLOTS, OUTPUT_SLOT, user_variable
from tunewright.errors import RequestError
from tunewright.plan.secrets import SecretRef, SecretValue

Keywords = dict[str, object]


def load(path: Path, assignments: Iterable[str] = ()) -> Keywords:
    """Read a job file.

    Args:
        path: path of the job file.
        assignments: values of `--set`, each of the form `a.b=c`. The part after `=` is parsed as YAML.

    Returns:
        The keywords, with references to secrets resolved.

    Raises:
        RequestError: the file cannot be read or is not a mapping, or an assignment cannot be applied.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RequestError(
            f"cannot be read: {error}", field="job file", value=str(path), remedy="Pass a YAML file."
        ) from error
    if not isinstance(document, dict):
        remedy = "Write one `keyword: value` per line, with the keywords of train(): model, dataset, trainer, …"
        raise RequestError("is not a mapping", field="job file", value=str(path), remedy=remedy)
    for assignment in assignments:
        _assign(document, assignment)
    return {key: _resolve(value, as_env=key in ("env", "init_env")) for key, value in document.items()}


def _assign(document: Keywords, assignment: str) -> None:
    import yaml

    path, equals, text = assignment.partition("=")
    *parents, last = path.split(".")
    if not equals or not all((*parents, last)):
        remedy = "Write --set num_workers=2 or --set trainer.training_parameters.max_steps=100."
        raise RequestError("is not an assignment", field="--set", value=assignment, remedy=remedy)
    target = document
    for key in parents:
        inner = target.get(key)
        if isinstance(inner, str) and key in (*INPUT_SLOTS, OUTPUT_SLOT):
            inner = {"uri": inner}
        elif isinstance(inner, str) and key == "trainer":
            inner = {"provider": inner}
        elif inner is None:
            inner = {}
        if not isinstance(inner, dict):
            remedy = f"{key} is {inner!r}, which has no keys. Set {key} to a mapping first."
            raise RequestError("cannot be applied", field="--set", value=assignment, remedy=remedy)
        target[key] = inner
        target = inner
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        remedy = f"Quote the value for YAML: --set '{path}=\"…\"'."
        raise RequestError(
            f"has a value that is not YAML: {error}", field="--set", value=assignment, remedy=remedy
        ) from error


def _resolve(value: object, *, as_env: bool) -> object:
    """Resolve references to secrets.

    `{env: NAME}` takes a secret from the user's environment; `{secret: NAME, key: KEY}` refers to a Kubernetes Secret.
    """
    if isinstance(value, list):
        return [_resolve(item, as_env=as_env) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _secret(item, f"{key}", as_env=as_env) for key, item in value.items()}


def _secret(value: object, field: str, *, as_env: bool) -> object:
    match value:
        case {"env": str(name), **rest} if not rest:
            literal = user_variable(name)
            if not literal:
                raise RequestError(
                    f"refers to the environment variable {name}, which is not set",
                    field=field,
                    remedy=f"Run: export {name}=…",
                )
            return SecretValue(literal) if as_env else literal
        case {"secret": str(name), "key": str(key), **rest} if not rest:
            return SecretRef(name=name, key=key)
    return _resolve(value, as_env=as_env)


def is_code(keywords: Mapping[str, object]) -> bool:
    """Return whether the keywords are for `create_job()` rather than `train()`."""
    return any(key in keywords for key in ("script", "base_image", "manifest", "job"))


def split(document: Mapping[str, object]) -> tuple[dict[str, str | None], Keywords]:
    """Split a job file's keywords into the client's and the job's.

    Raises:
        RequestError: a keyword of the client is not a string.
    """
    client = {key: document.get(key) for key in ("backend", "namespace", "context")}
    for key, value in client.items():
        if value is not None and not isinstance(value, str):
            raise RequestError("must be a string", field=key, value=value, remedy="Write its name as a string.")
    return client, {key: value for key, value in document.items() if key not in client}  # type: ignore[return-value]
