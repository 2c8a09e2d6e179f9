"""`run`: process 1 of the main container. It starts the training command, passes signals on and counts attempts.

The operator's restart policy `ExitCode` treats 1 to 127 as final and restarts on everything else, without a limit. So the
exit code of this process decides what happens to the job:

| exit code           | when                                                                         | then          |
|---------------------|------------------------------------------------------------------------------|---------------|
| 0                   | the command succeeded                                                        | succeeded     |
| the verdict's       | `fetch`, `check` or a rank left a verdict                                    | failed        |
| 1                   | no attempts are left, or the deadline has passed                             | failed        |
| 64                  | the command cannot be started                                                | failed        |
| 129                 | the command crashed, and attempts are left                                   | started again |
| 143 (Ctrl-C: 130)   | `run` itself was terminated; the attempt is not counted                      | started again |

`--install NAME -- python3 -m pip install … -- REQUIREMENT …` is the init container that installs packages. A failed init
container would be restarted forever, so it leaves a verdict and exits 0, and `run` ends with the verdict.

`source.runner_source()` joins these modules into one file, which is shipped as text and run by the Python (3.9 or later) of
images without Tunewright. So they use only the standard library, import only each other, and share one namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright._lazy import lazy_names

if TYPE_CHECKING:
    from tunewright.runner.checkpoints import MARKER, is_complete, mark_checkpoint, newest_checkpoint
    from tunewright.runner.command import main
    from tunewright.runner.cpus import usable_cpus
    from tunewright.runner.failure import Failure
    from tunewright.runner.files import sync, write_atomically
    from tunewright.runner.messages import ending, errors_in
    from tunewright.runner.processes import die_with_parent
    from tunewright.runner.settings import Settings
    from tunewright.runner.verdicts import (
        ERROR_FILE,
        FAILURE,
        TERMINATED,
        VERDICT_FILE,
        begin_work,
        end_work,
        read_verdict,
        report,
        write_error,
        write_verdict,
    )

__all__ = [
    "ERROR_FILE",
    "FAILURE",
    "MARKER",
    "TERMINATED",
    "VERDICT_FILE",
    "Failure",
    "Settings",
    "begin_work",
    "die_with_parent",
    "end_work",
    "ending",
    "errors_in",
    "is_complete",
    "main",
    "mark_checkpoint",
    "newest_checkpoint",
    "read_verdict",
    "report",
    "sync",
    "usable_cpus",
    "write_atomically",
    "write_error",
    "write_verdict",
]

# On first use: `tunewright.errors` needs only `failure`, and the rest imports half of the standard library.
__getattr__ = lazy_names(
    __name__,
    {
        "tunewright.runner.checkpoints": ["MARKER", "is_complete", "mark_checkpoint", "newest_checkpoint"],
        "tunewright.runner.command": ["main"],
        "tunewright.runner.cpus": ["usable_cpus"],
        "tunewright.runner.failure": ["Failure"],
        "tunewright.runner.files": ["sync", "write_atomically"],
        "tunewright.runner.messages": ["ending", "errors_in"],
        "tunewright.runner.processes": ["die_with_parent"],
        "tunewright.runner.settings": ["Settings"],
        "tunewright.runner.verdicts": [
            "ERROR_FILE",
            "FAILURE",
            "TERMINATED",
            "VERDICT_FILE",
            "begin_work",
            "end_work",
            "read_verdict",
            "report",
            "write_error",
            "write_verdict",
        ],
    },
)
