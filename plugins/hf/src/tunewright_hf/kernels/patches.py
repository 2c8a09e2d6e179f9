"""The one door through which code of transformers and PEFT is replaced.

A patch states what it was written against: digests of the source of the library's functions, from versions that it was tested
with. A layer is replaced only if it has that source, and only if its results, outputs and gradients, prove to be the library's
own on a trial input. Otherwise the layer stays as it is, and one line of the log says why. So a release that computes something
in another way makes a training slower, and never makes other numbers of it.

No other module assigns a forward, a class or a loss to a layer (a test holds that).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import linecache
import logging
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
import torch
import transformers

logger = logging.getLogger(__name__)

Site = TypeVar("Site")
Undo = Callable[[], None]
Context = Callable[[], AbstractContextManager[object]]

# Largest difference of a row, relative to its length. Half precision rounds to three digits, TF32 to little more.
_MOST_APART, _MOST_APART_IN_HALF = 1e-4, 2e-2

_SKIPPED = ("ctx", "kind", "type_comment", "type_params")  # differ between versions of Python, or mean nothing
_OWN_DECORATORS = Path(transformers.__file__).parent / "utils"


@attrs.frozen(kw_only=True)
class Patch(Generic[Site]):
    """A replacement of a library's code.

    Attributes:
        name: what is replaced, for the log: "norms".
        tested: digests of the source that may be replaced, by the function's name; see `digest_of`.
        versions: the library and the versions that they are from.
        code: returns a site's functions by the names in `tested`.
        apply: replaces a site's code, and returns how to undo it.
        trial: computes with a site, and returns tensors to compare; each row of the last axis counts by itself. It is called
            before and after `apply`, and must draw the same inputs both times.
        alike: sites for which this is the same need one trial.
    """

    name: str
    tested: Mapping[str, frozenset[str]]
    versions: str
    code: Callable[[Site], Mapping[str, object]]
    apply: Callable[[Site], Undo]
    trial: Callable[[Site], Sequence[torch.Tensor | None]]
    alike: Callable[[Site], Hashable]


def replace(patch: Patch[Site], sites: Iterable[Site], context: Context = nullcontext) -> list[Site]:
    """Replace the code of every site that has the tested source and passes its trial; log why others have not.

    Args:
        patch: the patch.
        sites: what it may replace.
        context: returns the context that the training computes in, such as autocast.

    Returns:
        The sites that were replaced.
    """
    replaced: list[Site] = []
    left: Counter[str] = Counter()
    verdicts: dict[Hashable, str | None] = {}
    for site in sites:
        reason = _other_source(patch, site)
        if reason is None:
            key = (type(site), patch.alike(site))
            if verdicts.setdefault(key, "") is None:
                patch.apply(site)
            elif not verdicts[key]:
                verdicts[key] = _try(patch, site, context)
            reason = verdicts[key]
        if reason is None:
            replaced.append(site)
        else:
            left[reason] += 1
    for reason, count in left.items():
        say_left(patch.name if count == 1 else f"{count} {patch.name}", reason)
    return replaced


def say_left(what: str, reason: str) -> None:
    """Log that something stays as the library has it."""
    logger.info("fused_layers: %s not fused: %s", what, reason)


def _other_source(patch: Patch[Site], site: Site) -> str | None:
    return other_source(patch.code(site), patch.tested, patch.versions)


def other_source(code: Mapping[str, object], tested: Mapping[str, frozenset[str]], versions: str) -> str | None:
    """Return the reason if functions have another source than was tested; see `Patch`."""
    for name, function in code.items():
        if digest_of(function) not in tested[name]:
            return f"the source of {_name_of(function)} is not the {name} that was tested ({versions})"
    return None


def _name_of(function: object) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"


def _try(patch: Patch[Site], site: Site, context: Context) -> str | None:
    """Replace a site's code; returns the reason if it fails its trial and stays as it is."""
    try:
        expected = _results(patch, site, context)
    except Exception as error:  # a model's own code may raise anything, and the training goes on without the patch
        return f"the library's own code failed on a trial input ({_short(error)})"
    undo = patch.apply(site)
    try:
        found = _results(patch, site, context)
        reason = different(found, expected, _MOST_APART_IN_HALF if _is_rounded(expected, context) else _MOST_APART)
    except Exception as error:  # as above
        reason = f"the replacement failed on a trial input ({_short(error)})"
    if reason is not None:
        undo()
    return reason


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _results(patch: Patch[Site], site: Site, context: Context) -> Sequence[torch.Tensor | None]:
    with torch.random.fork_rng(), torch.enable_grad(), context():
        return [None if x is None else x.detach() for x in patch.trial(site)]


def different(found: Sequence[torch.Tensor | None], expected: Sequence[torch.Tensor | None], most: float) -> str | None:
    """Return how the results of a trial differ by more than rounding; None if they do not.

    Args:
        found: of the replacement.
        expected: of the library.
        most: largest difference of a row, relative to its length.
    """
    for one, other in zip(found, expected, strict=True):
        if one is None or other is None:
            if one is not other:
                return "on a trial input it gives other tensors a gradient than the library"
        elif one.shape != other.shape:
            return f"a result on a trial input has the shape {tuple(one.shape)}, not {tuple(other.shape)}"
        else:
            apart = _difference(one, other)
            if not apart <= most:  # NaN is a difference, too
                return f"its results on a trial input differ from the library's by {apart:.1g} of their size"
    return None


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference of a row, relative to its length."""
    if not one.numel():
        return 0.0
    one, other = (x.double() if x.dim() else x.double()[None] for x in (one.cpu(), other.cpu()))
    size = torch.linalg.vector_norm(other, dim=-1)
    return float(
        (torch.linalg.vector_norm(one - other, dim=-1) / size.clamp_min(torch.finfo(torch.float32).tiny)).max()
    )


def _is_rounded(results: Sequence[torch.Tensor | None], context: Context) -> bool:
    """Return whether results may be those of half precision or TF32."""
    half = any(x is not None and x.dtype in (torch.bfloat16, torch.float16) for x in results)
    with context():
        autocast = any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))
    return half or autocast or torch.get_float32_matmul_precision() != "highest"


def trial_rows(*shape: int, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Return a random input of a trial, of the shape, and the dtype and device of `like`; it requires a gradient.

    Its rows, along all axes but the last one, have sizes from 1e-3 to 30, so that small terms of a formula show, too.
    """
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(*shape, generator=generator)
    sizes = torch.tensor([1.0, 1e-3, 30.0]).repeat(-(-found[..., 0].numel() // 3))[: found[..., 0].numel()]
    return (found * sizes.view(*shape[:-1], 1)).to(like.device, like.dtype).requires_grad_()


def trial_gradients(
    outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], seed: int = 1
) -> list[torch.Tensor | None]:
    """Return the gradients of the inputs, for random gradients of the outputs."""
    generator = torch.Generator().manual_seed(seed)
    given = [torch.randn(*y.shape, generator=generator).to(y.device, y.dtype) for y in outputs]
    return list(torch.autograd.grad(list(outputs), list(inputs), given, allow_unused=True))


class as_in_training(AbstractContextManager[None]):  # noqa: N801 - used as a function
    """Let modules, without those inside them, believe to be trained."""

    def __init__(self, *modules: torch.nn.Module, training: bool = True) -> None:
        self._before = [(m, m.training) for m in modules]
        self._training = training

    def __enter__(self) -> None:
        for module, _ in self._before:
            module.training = self._training

    def __exit__(self, *_: object) -> None:
        for module, training in self._before:
            module.training = training


def digest_of(function: object) -> str | None:
    """Return the digest of a function's source: 16 hexadecimal digits.

    Docstrings, comments, annotations and the decorators of transformers do not count, since they do not compute. It is None
    without source, and with a decorator from elsewhere.
    """
    inner = undecorated(function)
    return None if inner is None else _digest_of_code(inner.__code__)


def undecorated(function: object) -> types.FunctionType | None:
    """Return the function inside the decorators of transformers; None if another decorator wraps it."""
    while isinstance(function, types.FunctionType):
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            return function
        function = inner if Path(function.__code__.co_filename).is_relative_to(_OWN_DECORATORS) else None
    return None


@functools.cache
def _digest_of_code(code: types.CodeType) -> str | None:
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]  # inspect.getsource looks at every module
    try:
        tree = ast.parse(textwrap.dedent("".join(inspect.getblock(lines))))
    except (SyntaxError, ValueError):
        return None
    if not tree.body:  # made at run time, or from a file that is gone
        return None
    return hashlib.sha256(repr(_plain(tree.body[0])).encode()).hexdigest()[:16]


def _plain(node: object) -> object:
    """Return a syntax tree as tuples that are the same in all versions of Python."""
    if not isinstance(node, ast.AST):
        return tuple(_plain(item) for item in node) if isinstance(node, list) else repr(node)
    if isinstance(node, ast.FunctionDef):
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        return ("FunctionDef", node.name, _plain(node.args), _plain(body))
    if isinstance(node, ast.arg):
        return ("arg", node.arg)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return ("Assign", _plain(targets), _plain(node.value))
    fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _SKIPPED)
    return (type(node).__name__, *((name, _plain(value)) for name, value in fields if value not in (None, [])))


_LOG = "Trainer._maybe_log_save_evaluate"
_LOG_TESTED = {_LOG: frozenset({"1acdc6efb7ff46d5"})}


def keeps_unlogged_loss(trainer: transformers.Trainer) -> bool:
    """Return whether a Trainer adds up losses between two logs in the way that was tested; log if it does not.

    There is no public way to that sum, without which a resumed training would log another mean.
    """
    reason = other_source({_LOG: type(trainer)._maybe_log_save_evaluate}, _LOG_TESTED, "transformers 5.24")
    if reason is not None:
        logger.warning("after a resume the first loss that is logged may be the mean of fewer steps: %s", reason)
    return reason is None


def unlogged_loss(trainer: transformers.Trainer) -> tuple[float, int]:
    """Return the sum of this rank's losses since the last log, and the step of that log; see `keeps_unlogged_loss`."""
    return trainer._tr_loss.item(), trainer._globalstep_last_logged


def restore_unlogged_loss(trainer: transformers.Trainer, loss: float, step: int) -> None:
    """Let a Trainer that has just begun continue with a sum of losses; see `unlogged_loss`."""
    trainer._tr_loss += loss
    trainer._globalstep_last_logged = step


def register_attention(name: str, attend: Callable[..., object], mask: Callable[..., object]) -> None:
    """Register an attention with transformers, for models that are told to use it."""
    transformers.AttentionInterface.register(name, attend)
    transformers.AttentionMaskInterface.register(name, mask)


def set_forward(module: torch.nn.Module, forward: Callable[..., object]) -> Undo:
    """Give one layer another forward, which is bound to it; returns how to undo it."""
    module.forward = types.MethodType(forward, module)
    return lambda: delattr(module, "forward")


def has_own_forward(module: torch.nn.Module) -> bool:
    """Return whether somebody has given the layer a forward of its own, as kernels and accelerate do."""
    return "forward" in vars(module)


def with_globals(function: types.FunctionType, **changed: object) -> types.FunctionType:
    """Return a copy of a function that finds other objects under some global names."""
    copied = types.FunctionType(
        function.__code__,
        {**function.__globals__, **changed},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(copied, function)
    return copied


def set_class(modules: Sequence[torch.nn.Module], cls: type, **attributes: object) -> Undo:
    """Turn layers into those of a subclass, with further attributes; returns how to undo it."""
    before = [type(m) for m in modules]
    for module in modules:
        module.__class__ = cls
        for name, value in attributes.items():
            setattr(module, name, value)

    def undo() -> None:
        for module, old in zip(modules, before, strict=True):
            module.__class__ = old
            for name in attributes:
                delattr(module, name)

    return undo


def set_loss(model: Any, loss: Callable[..., torch.Tensor]) -> Undo:
    """Give one model another loss function; returns how to undo it."""
    before = model.loss_function
    model.loss_function = loss

    def undo() -> None:
        model.loss_function = before

    return undo
