"""A preview in a process of its own, which does not load torch: tokenizers, templates and datasets do without it.

Loading torch, and what transformers and datasets load once it is there, takes longer than all the rest of a preview. Where it
is hidden from transformers, nothing can be trained any more; so it is hidden in a process that ends with the preview. What
cannot be shown without torch is shown by the process that asks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from typing import BinaryIO, cast

import attrs

from tunewright.errors import RequestError
from tunewright.events import Event
from tunewright.providers import Preview, TrainRun
from tunewright_hf.config.tasks import CAUSAL
from tunewright_hf.config.train_params import TrainParams
from tunewright_hf.startup import without_garbage_collection


def preview(params: TrainParams, run: TrainRun) -> Iterator[Preview]:
    """Yield samples as `tunewright_hf.preview.preview` does, without torch unless it is needed, or loaded already.

    Raises:
        RequestError: as there.
    """
    shown: int | None = 0
    # Remote code may import torch, and the longest input of other models is found from their layers.
    if "torch" not in sys.modules and params.task is CAUSAL and not params.trust_remote_code:
        shown = yield from _from_process(params, run)
    if shown is not None:
        with without_garbage_collection():
            from tunewright_hf import preview as here
        yield from itertools.islice(here.preview(params, run), shown, None)


def _from_process(params: TrainParams, run: TrainRun) -> Generator[Preview, None, int | None]:
    """Yield a process's samples; return None at the end, or the number of samples after which it could not go on.

    Raises:
        RequestError: what it raised.
    """
    environment = {**os.environ, "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}  # one is that PyTorch was not found
    with tempfile.TemporaryFile() as request:
        pickle.dump((params, attrs.evolve(run, emit=_drop)), request)
        request.seek(0)
        command = [sys.executable, "-m", __name__]
        process = subprocess.Popen(command, stdin=request, stdout=subprocess.PIPE, env=environment)
    with process:  # closes the pipe and waits
        answers = cast("BinaryIO", process.stdout)
        shown = 0
        try:
            while (found := pickle.load(answers)) is not None:  # noqa: S301 - our own process has written it
                if isinstance(found, RequestError):
                    raise found
                yield found
                shown += 1
        except EOFError:
            return shown
        finally:
            process.kill()
    return None


def _drop(event: Event) -> None:
    """Take the place of the client, which a preview has no events for."""


@contextlib.contextmanager
def _no_torch() -> Iterator[None]:
    """Import transformers and datasets as where torch is not installed; they look for it once."""
    sys.modules["torch"] = None  # type: ignore[assignment] # so it is neither found nor imported
    try:
        import datasets  # noqa: F401
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig  # noqa: F401 - which it loads when asked for

        yield
    finally:
        del sys.modules["torch"]


def main() -> None:
    """Read parameters and a run from standard input, and write samples, then None or a RequestError, to standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints
    params, run = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own process has written it
    with without_garbage_collection(), _no_torch():
        from tunewright_hf.preview import preview
    try:
        for sample in preview(params, run):
            pickle.dump(sample, answers)
            answers.flush()
        pickle.dump(None, answers)
    except ImportError:
        return  # torch is needed
    except RequestError as error:
        if not isinstance(error.__cause__, ImportError):
            pickle.dump(error, answers)
    answers.flush()


if __name__ == "__main__":
    main()
