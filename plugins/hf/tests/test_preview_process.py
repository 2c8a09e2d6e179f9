"""A preview without torch: the same samples and refusals, from a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams

pytest.importorskip("transformers")

ROWS = [
    {"messages": [{"role": "user", "content": "What is 1?"}, {"role": "assistant", "content": "One."}]},
    {"messages": [{"role": "user", "content": "What is 2?"}, {"role": "assistant", "content": "Two."}]},
]
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {% generation %}{{ m['content'] }}{{ eos_token }}{% endgeneration %}{% endfor %}"

# Prints the samples, whether torch was loaded, and what was refused.
SHOW = """
import json, pathlib, sys
import attrs
from tunewright import RequestError, TrainRun
from tunewright_hf import DataParams, HuggingFaceTrainParams
model, dataset, output, template = sys.argv[1:]
run = TrainRun(model=pathlib.Path(model), dataset=pathlib.Path(dataset), output=pathlib.Path(output), emit=print)
params = HuggingFaceTrainParams(data=DataParams(chat_template=template))
refused, samples = None, []
try:
    samples = [attrs.asdict(sample) for sample in params.preview(run)]
except RequestError as error:
    refused = [error.field, str(error)]
print(json.dumps({"samples": samples, "torch": "torch" in sys.modules, "refused": refused}))
"""


@pytest.fixture
def dataset(dataset_of: Callable[..., Path]) -> Path:
    return dataset_of(ROWS)


def show(model: Path, dataset: Path, output: Path) -> dict[str, object]:
    command = [sys.executable, "-c", SHOW, str(model), str(dataset), str(output), TEMPLATE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PyTorch" not in done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def here(model: Path, dataset: Path, output: Path) -> list[object]:
    import attrs

    from tunewright_hf.preview import preview

    run = TrainRun(model=model, dataset=dataset, output=output, emit=print)
    params = HuggingFaceTrainParams(data=DataParams(chat_template=TEMPLATE))
    return json.loads(json.dumps([attrs.asdict(sample) for sample in preview(params, run)]))  # type: ignore[no-any-return]


@pytest.mark.slow
def test_torch_is_not_loaded(model_folder: Path, dataset: Path, tmp_path: Path) -> None:
    found = show(model_folder, dataset, tmp_path)
    assert found == {"samples": here(model_folder, dataset, tmp_path), "torch": False, "refused": None}
    assert len(found["samples"]) == len(ROWS)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_needs_torch_is_shown_with_it(model_folder: Path, dataset: Path, tmp_path: Path) -> None:
    model_copy = Path(shutil.copytree(model_folder, tmp_path / "model"))
    file = model_copy / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    del config["architectures"]  # then the configuration's class says whether it is a causal language model
    file.write_text(json.dumps(config), encoding="utf-8")
    assert show(model_copy, dataset, tmp_path) == {
        "samples": here(model_copy, dataset, tmp_path),
        "torch": True,
        "refused": None,
    }


@pytest.mark.slow
def test_a_refusal_is_the_same(model_folder: Path, dataset_of: Callable[..., Path], tmp_path: Path) -> None:
    bad = dataset_of([{"messages": [{"role": "user", "content": "What is 1?"}, {"role": "assistant"}]}])
    with pytest.raises(RequestError) as expected:
        here(model_folder, bad, tmp_path)
    assert show(model_folder, bad, tmp_path) == {
        "samples": [],
        "torch": False,
        "refused": [expected.value.field, str(expected.value)],
    }
