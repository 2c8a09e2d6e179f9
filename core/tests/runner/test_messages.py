"""What a plain script raises is in the message that `run` ends with, and its log comes as it is written."""

import base64
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from tunewright import runner
from tunewright.runner.messages import forms_of, killed_ranks, redactor
from tunewright.runner.source import runner_source

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")

RAISES = "def load():\n    raise ValueError('no rows in train.csv')\nload()\n"
TORCHRUN = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "train.py", line 3, in <module>
[rank1]:     load()
[rank1]: ValueError: no rows
[default0]:Traceback (most recent call last):
[default0]:  File "train.py", line 9, in <module>
[default0]:    dist.all_reduce(x)
[default0]:RuntimeError: Connection closed by peer
E1124 12:00:00.000 42 torch/distributed/elastic/multiprocessing/api.py:882] failed (exitcode: 1) local_rank: 1
Traceback (most recent call last):
  File "/opt/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
"""


class Pod:
    """The folders and the environment of a container, and `run` in it; the first crash is final."""

    def __init__(self, folder: Path) -> None:
        (folder / "ws" / "output").mkdir(parents=True)
        (folder / "run").mkdir()
        self.folder, self.log, self.file = folder, folder / "termination-log", folder / "run.py"
        self.file.write_text(runner_source(), "utf-8")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("TUNEWRIGHT", "PET_"))} | {
            "TUNEWRIGHT_WORKSPACE": str(folder / "ws"), "TUNEWRIGHT_RUN": str(folder / "run"),
            "TUNEWRIGHT_TERMINATION_LOG": str(self.log), "TUNEWRIGHT_MAX_RESTARTS": "0", "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def start(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, str(self.file), "--", *command]
        return subprocess.Popen(arguments, env=self.env | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def message(self, code: str, **env: str) -> str:
        """What `run` ends with after a script; what the script printed is in `err`."""
        script = self.folder / "train.py"
        script.write_text(code)
        process = self.start(sys.executable, str(script), **env)
        self.err = process.communicate(timeout=60)[1].decode(errors="replace")
        assert process.returncode == 1
        return self.log.read_text()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_an_exception_is_the_cause_and_its_traceback_is_in_the_log(pod: Pod) -> None:
    assert "exit code 1; 1 of 1 attempts since the last checkpoint. Its error: ValueError: no rows in train.csv." in (
        pod.message(RAISES)
    )
    assert "line 2, in load" in pod.err


def test_the_end_of_a_chain_is_told_too(pod: Pod) -> None:
    code = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('bad\\nmore') from error\n"
    assert "Its error: ZeroDivisionError: division by zero; RuntimeError: bad." in pod.message(code)


def test_a_script_that_cannot_be_parsed_is_told(pod: Pod) -> None:
    assert "Its error: SyntaxError: " in pod.message("foo(\n")


def test_without_an_exception_nothing_is_made_up(pod: Pod) -> None:
    assert "Its error" not in pod.message("import sys; print('ValueError: not raised', file=sys.stderr); sys.exit(1)")


def test_an_exception_is_found_behind_much_output(pod: Pod) -> None:
    noise = "import sys\nfor i in range(20000): print('x' * 80, file=sys.stderr)\n"
    assert "Its error: ValueError: no rows in train.csv." in pod.message(noise + RAISES)
    assert pod.err.count("x" * 80) == 20000


def test_secrets_are_shown_nowhere(pod: Pod) -> None:
    code = "import os; raise ValueError('refused: ' + os.environ['TOKEN'])"
    message = pod.message(code, TOKEN="s3cret \\ value", TUNEWRIGHT_SECRETS="OTHER,TOKEN")
    assert "Its error: ValueError: refused: <redacted>." in message
    assert "s3cret" not in message + pod.err


def test_secrets_are_redacted_in_what_a_command_and_its_children_print(pod: Pod) -> None:
    code = "import os, subprocess; print(os.environ['TOKEN']); subprocess.run(['sh', '-c', 'echo child $TOKEN; echo $KEY >&2'])"
    key = "-----BEGIN KEY-----\nfirst line of it\n-----END KEY-----\n"
    process = pod.start(sys.executable, "-c", code, TOKEN="s3cret-value", KEY=key, TUNEWRIGHT_SECRETS="TOKEN,KEY")
    out, err = process.communicate(timeout=60)
    assert out.splitlines()[1:] == [b"<redacted>", b"child <redacted>"]
    assert b"first line" not in err
    assert b"<redacted>" in err


@pytest.mark.parametrize("user", ["", "u", "us", "use"])
def test_a_secret_is_redacted_in_base64_in_urls_and_in_json(user: str) -> None:
    secret = 'a "secret/value" \xe4+?~'
    redact = redactor({"TUNEWRIGHT_SECRETS": "KEY", "KEY": secret})
    assert redact is not None
    header = f"{user}:{secret}".encode()
    printed = [
        base64.b64encode(header), base64.urlsafe_b64encode(header), quote(secret).encode(), quote_plus(secret).encode(),
        json.dumps({"key": secret}).encode(), json.dumps({"key": secret}, ensure_ascii=False).encode(),
    ]  # fmt: skip
    for text in printed[:2]:
        assert len(redact(text)) < len("<redacted>") + len(user) * 2 + 6, redact(text)
    assert all(b"<redacted>" in redact(text) for text in printed)
    assert all(b"secret" not in redact(text) for text in printed)


def test_short_values_are_not_looked_for_in_base64() -> None:
    assert forms_of("abcd") == {"abcd"}


def test_of_many_ranks_the_first_error_is_told_first_and_torchruns_own_is_not() -> None:
    assert runner.errors_in(TORCHRUN) == ["ValueError: no rows", "RuntimeError: Connection closed by peer"]


@pytest.mark.slow
def test_under_the_real_torchrun(pod: Pod) -> None:
    script = pod.folder / "train.py"
    script.write_text("import os\nif os.environ['RANK'] == '1':\n    raise ValueError('no rows')\n")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--max-restarts=0", "--nproc-per-node=2", str(script))
    process = pod.start(*torchrun)
    process.communicate(timeout=120)
    assert "Its error: ValueError: no rows." in pod.log.read_text()


def test_lines_come_as_they_are_written_and_whole(pod: Pod) -> None:
    code = (
        "import os, sys, time\n"
        "for part in (b'fir', b'st\\n', b'bar 1%\\r', b'\\xff\\n'): os.write(2, part)\n"
        "os.write(2, b'y' * 200_000); os.write(2, b'end'); sys.stdin.read()"
    )
    process = pod.start(sys.executable, "-c", code)
    assert process.stderr
    assert process.stderr.readline() == b"first\n"
    assert process.stderr.readline() == b"bar 1%\r\xff\n"
    assert process.stderr.read(100_000) == b"y" * 100_000, "a line without an end is not kept for ever"
    process.terminate()
    assert process.stderr.read() == b"y" * 100_000 + b"end"
    process.communicate(timeout=60)


def test_a_progress_bar_moves_while_its_line_has_no_end(pod: Pod) -> None:
    process = pod.start(sys.executable, "-c", "import os, time; os.write(2, b'bar 1%\\r'); time.sleep(300)")
    assert process.stderr
    moved = select.select([process.stderr], [], [], 60)[0]
    process.terminate()
    process.communicate(timeout=60)
    assert moved


def test_a_command_lives_on_when_nobody_reads_its_log(pod: Pod) -> None:
    done = pod.folder / "done"
    code = f"import sys, time, pathlib; time.sleep(0.3); print('x' * 9, file=sys.stderr); pathlib.Path({str(done)!r}).touch()"
    process = pod.start(sys.executable, "-c", code)
    assert process.stderr
    process.stderr.close()
    process.wait(60)
    assert done.exists()


SUMMARY = """
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Failures:
[1]:
  time      : 2026-11-26_06:56:29
  host      : localhost
  rank      : 3 (local_rank: 1)
  exitcode  : -9 (pid: 987)  (SIGKILL)
  traceback : Signal 9 (SIGKILL) received by PID 987
[2]:
  rank      : 2 (local_rank: 0)
  exitcode  : -15 (pid: 988)  (SIGTERM)
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 986)
"""


def test_ranks_that_were_killed_are_named_and_those_that_torchrun_ended_are_not() -> None:
    assert killed_ranks(SUMMARY) == ["rank 3 ended with signal SIGKILL"]
