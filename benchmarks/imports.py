"""How long `import tunewright` and `tunewright --help` take: `python -m benchmarks.imports [--sdk] [--json]`.

What is promised: less than 0.15 s and 0.4 s, the start of Python included. `--sdk` installs kubeflow-training 1.9 into a
temporary environment and times `import kubeflow.training` in the same run; the ratio says how many times longer it takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import as_json, interleaved, show

SDK = "kubeflow-training==1.9.*"
NOTHING, IMPORT, HELP, SDK_IMPORT = (
    "python -c pass",
    "import tunewright",
    "tunewright --help",
    "import kubeflow.training",
)
LIMITS = {IMPORT: 0.15, HELP: 0.4}


def main() -> None:
    """Print the table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=15, help="measurements of each (default: %(default)s)")
    parser.add_argument("--sdk", action="store_true", help="compare with kubeflow-training 1.9; needs an index")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            NOTHING: _python(sys.executable, "pass"),
            IMPORT: _python(sys.executable, "import tunewright"),
            HELP: _run(str(Path(sys.executable).with_name("tunewright")), "--help"),
        }
        if arguments.sdk:
            commands[SDK_IMPORT] = _python(_environment_with_sdk(Path(folder)), "import kubeflow.training")
        timings = interleaved(commands, arguments.repeats)
    ratios = {}
    if arguments.sdk:
        ratios["sdk_1_9"] = timings[SDK_IMPORT].median / timings[IMPORT].median
    show(timings, ratios, limits=LIMITS)
    if arguments.json:
        print(as_json({"repeats": arguments.repeats, "limits_seconds": LIMITS, "sdk": SDK}, timings, ratios))


def _python(executable: str, code: str) -> Callable[[], object]:
    return _run(executable, "-c", code)


def _run(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _environment_with_sdk(folder: Path) -> str:
    """The Python of a fresh environment that holds the SDK."""
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(scripts / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK], check=True)
    return python


if __name__ == "__main__":
    main()
