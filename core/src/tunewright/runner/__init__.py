"""`run`: process 1 of the main container. It starts the training command, passes signals on and counts attempts.

The operator's restart policy `ExitCode` takes 1 to 127 as final and starts everything else again without end, so the
exit code of this process decides what happens to the job:

| exit code           | when                                                                         | then          |
|---------------------|------------------------------------------------------------------------------|---------------|
| 0                   | the command succeeded                                                        | succeeded     |
| the verdict's       | `fetch`, `check` or a rank left a verdict                                    | failed        |
| 1                   | no attempts are left, or the deadline has passed                             | failed        |
| 64                  | the command cannot be started                                                | failed        |
| 129                 | the command crashed, and attempts are left                                   | started again |
| 143 (Ctrl-C: 130)   | `run` itself was terminated; the attempt is not counted                      | started again |

`--install NAME -- python3 -m pip install … -- REQUIREMENT …` is the init container that brings packages. One that fails
would be started again for ever, so it leaves a verdict and exits 0, and `run` ends with the verdict.

`source.runner_source()` makes one file of these modules, which is shipped as text and run by the Python (3.9 or later) of
images that hold nothing of Tunewright. So they need the standard library alone, import nothing else of their own package,
and share one set of names.
"""

from __future__ import annotations

from tunewright.runner.checkpoints import MARKER, is_complete, mark_checkpoint, newest_checkpoint
from tunewright.runner.command import main
from tunewright.runner.cpus import usable_cpus
from tunewright.runner.files import sync, write_atomically
from tunewright.runner.messages import errors_in
from tunewright.runner.processes import die_with_parent
from tunewright.runner.settings import Settings
from tunewright.runner.verdicts import (
    ERROR_FILE,
    FAILURE,
    TERMINATED,
    VERDICT_FILE,
    Verdict,
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
    "Settings",
    "Verdict",
    "die_with_parent",
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
