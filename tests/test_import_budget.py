"""What `import tunewright` and `tunewright --help` may load: no times are taken here, `python -m benchmarks.imports` does."""

import json
import subprocess
import sys

import pytest

# The trainer's and the providers' libraries, and those of the backends.
HEAVY = {
    "accelerate",
    "azure",
    "boto3",
    "botocore",
    "datasets",
    "git",
    "google",
    "huggingface_hub",
    "jinja2",
    "kaggle",
    "kubernetes",
    "numpy",
    "pandas",
    "peft",
    "psutil",
    "pyarrow",
    "requests",
    "tokenizers",
    "torch",
    "transformers",
    "urllib3",
}
# Ours, or light, but of no use before there is a job to assemble or to show.
LATER = {"asyncio", "cattrs", "pluggy", "rich", "yaml", "tunewright_launcher", "tunewright_hf", "tunewright_s3"}

IMPORT = "import tunewright"
HELP = """
import sys
from tunewright.cli import main
sys.argv = ["tunewright", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
PROVIDERS = """
import tunewright
tunewright.hookimpl, tunewright.secret, tunewright.DatasetProvider, tunewright.TrainerProvider, tunewright.FetchError
"""


def loaded_by(code: str) -> set[str]:
    report = "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("code", [IMPORT, HELP], ids=["import", "help"])
def test_nothing_is_loaded_before_it_is_needed(code: str) -> None:
    loaded = loaded_by(code)
    assert "tunewright" in loaded
    assert not loaded & (HEAVY | LATER)


def test_what_a_plugin_imports_of_tunewright_is_light() -> None:
    assert not loaded_by(PROVIDERS) & HEAVY


def test_import_needs_nothing_beyond_the_standard_library() -> None:
    # What the environment itself loads into every Python, such as `_distutils_hack`, is not ours to judge.
    others = loaded_by(IMPORT) - loaded_by("") - set(sys.stdlib_module_names)
    assert others == {"tunewright"}
