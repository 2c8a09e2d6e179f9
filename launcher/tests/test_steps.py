"""`check` and `train` as processes, with a trainer that does what its parameters say."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import pytest

from tunewright.errors import ExitCode
from tunewright.events import Failed, Phase, parse_event
from tunewright.providers.mixture import MixturePart, dump_mixture
from tunewright.runner import Failure, write_verdict
from tunewright.runner.checkpoints import mark_checkpoint
from tunewright.status.report import REPORT_FILE

TRAINER = """
import json
import os
import signal
import sys

import attrs
from tunewright import FetchError, RequestError, SecretRef, TrainerProvider, hookimpl, secret
from tunewright.errors import ExitCode, Failure
from tunewright.events import CustomEvent


class Panic(BaseException): ...


class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")


class Bent(FetchError):
    def to_failure(self): raise RuntimeError("no failure")


class Fine(FetchError):
    def to_failure(self): return Failure(0, "all is well", "")


def die(how):
    _, code = how.split()
    os._exit(int(code)) if code.isdecimal() else os.kill(os.getpid(), getattr(signal, code))


@attrs.frozen(kw_only=True)
class Toy(TrainerProvider):
    token: str | SecretRef | None = secret(env="TOY_TOKEN")
    does: str = "train"

    def import_libraries(self):
        if self.does == "import":
            import a_library_that_is_not_there

    def check(self, run):
        if self.does == "look":
            raise RequestError(f"sees {run.world_size} of {os.environ.get('WORLD_SIZE')}", field="does", remedy="Look.")
        if self.does.startswith("die"):
            die(self.does)
        if self.does == "refuse":
            raise RequestError("is refused", field="does", value=self.does, remedy="Write 'train'.")
        if self.does == "import":
            import a_library_that_is_not_there
        if self.does == "exit":
            raise SystemExit(3)
        if self.does == "panic":
            raise Panic("a library in Rust")
        if self.does == "burst":
            raise ValueError(f"a library's error with {self.token} in it")
        if self.does == "interrupt":
            raise KeyboardInterrupt("of its own")
        if self.does == "wait":
            import time
            print("waiting", flush=True)
            time.sleep(300)
        if self.does == "mute":
            raise Mute
        if self.does == "bent":
            raise Bent("bent", remedy="None.", code=ExitCode.USAGE)
        if self.does == "fine":
            raise Fine("fine", remedy="None.", code=ExitCode.USAGE)
        if self.does == "code":
            raise FetchError("no such code", remedy="None.", code=7)
        if self.does == "group":
            raise BaseExceptionGroup("several", [Panic("one"), ValueError("two")])
        if self.does == "print":
            import subprocess, threading
            print(self.token, "printed", flush=True)
            os.write(2, f"{self.token} written\\n".encode())
            subprocess.run(["sh", "-c", "echo $TOY_TOKEN echoed"])
            thread = threading.Thread(target=lambda: 1 / len(self.token[:0]) or self.token)
            thread.start(), thread.join()
            for piece in (self.token[:4], self.token[4:], " in pieces"):
                sys.stdout.write(piece), sys.stdout.flush()

    def check_mixture(self, parts): ...

    def train(self, run):
        if self.does.startswith("end"):
            die(self.does)
        if self.does == "refuse":
            raise RequestError("is refused by a rank", field="does", value=self.does, remedy="Write 'train'.")
        if self.does == "burst":
            raise ValueError(f"a library's error with {self.token} in it")
        if self.does == "panic":
            raise Panic("a library in Rust")
        if self.does == "leave":
            sys.exit(0)
        if self.does == "nothing":
            return
        about = {"rank": run.rank, "world": run.world_size, "resume": str(run.resume_from)}
        if run.mixture:
            about["mixture"] = [[p.name, p.weight, p.folder.name, (p.folder / "data.txt").read_text()] for p in run.mixture]
        run.emit(CustomEvent(event="toy", extra=about))
        run.result.mkdir(parents=True)
        (run.result / "model.bin").write_text("trained")


@hookimpl
def tunewright_trainer_provider():
    return Toy
"""
SECRET = "a-token-that-must-not-show"


def MORTAL(test):  # noqa: N802 - two marks
    return pytest.mark.slow(pytest.mark.skipif(sys.platform != "linux", reason="steps fork on Linux")(test))


@attrs.frozen
class Pod:
    """Folders and environment of a pod."""

    folder: Path
    site: Path

    def prepare(self, **params: str) -> None:
        for name in ("config", "run", "workspace"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.write("trainer", provider="toy", distribution="tunewright-toy", **params)

    def write(self, slot: str, *, provider: str, distribution: str, kind: str = "", **params: str) -> None:
        document = {
            "api": 1,
            "kind": kind or slot,
            "provider": provider,
            "distribution": distribution,
            "params": params,
        }
        (self.folder / "config" / f"{slot}.json").write_text(json.dumps({**document, "version": VERSIONS[provider]}))

    def run(
        self, command: str, env: Mapping[str, str] | None = None, *, slot: str = "", words: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(command, env, slot=slot, words=words)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(
        self, command: str, env: Mapping[str, str] | None = None, *, slot: str = "", words: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        given = {
            **os.environ,
            "PYTHONPATH": str(self.site),
            "TUNEWRIGHT_WORKSPACE": str(self.folder / "workspace"),
            "TUNEWRIGHT_CONFIG": str(self.folder / "config"),
            "TUNEWRIGHT_RUN": str(self.folder / "run"),
            "TUNEWRIGHT_TERMINATION_LOG": str(self.folder / "termination-log"),
            "TOY_TOKEN": SECRET,
            **(env or {}),
        }
        arguments = [*([slot] if slot else []), *words]
        command_line = [sys.executable, "-m", "tunewright_launcher", command, *arguments]
        return subprocess.Popen(command_line, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def verdict(self) -> dict[str, object] | None:
        file = self.folder / "run" / "verdict.json"
        return json.loads(file.read_text()) if file.exists() else None


VERSIONS = {"toy": "1.0", "file": "0.1.0"}


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy-site")
    (folder / "tunewright_toy.py").write_text(TRAINER)
    info = folder / "tunewright_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tunewright-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tunewright.v1]\ntoy = tunewright_toy\n")
    return folder


@pytest.fixture
def pod(tmp_path: Path, toy_site: Path) -> Pod:
    made = Pod(tmp_path, toy_site)
    made.prepare()
    return made


def test_a_check_that_finds_nothing_says_nothing_and_makes_the_output_folder(pod: Pod) -> None:
    done = pod.run("check")
    assert (done.returncode, pod.verdict()) == (0, None), done.stderr
    assert (pod.folder / "workspace" / "output").is_dir()


BY_RANK = {"TUNEWRIGHT_CHECK_BY_RANK": "1"}


@pytest.mark.slow
def test_a_rank_that_checks_the_job_says_what_the_check_says(pod: Pod) -> None:
    assert pod.run("check", BY_RANK).stdout == ""
    assert (pod.folder / "workspace" / "output").is_dir(), "what needs no library is checked before"
    events = [parse_event(line) for line in pod.run("train", BY_RANK).stdout.splitlines()]
    assert events[:2] == [
        Phase(name="import", text="importing the trainer and its libraries"),
        Phase(name="check", text="the check has passed"),
    ]
    assert [event.event for event in events[2:]] == ["toy"]


@pytest.mark.slow
def test_what_a_rank_refuses_in_its_check_is_the_verdict_of_a_check(pod: Pod) -> None:
    pod.prepare(does="refuse")
    done = pod.run("train", BY_RANK)
    failure = Failure(64, "does='refuse': is refused.", "Write 'train'.", "check")
    assert (done.returncode, pod.verdict()) == (64, failure.to_dict()), done.stderr
    assert parse_event(done.stdout.splitlines()[-1]) == Failed(failure=failure)


@pytest.mark.slow
def test_a_check_by_a_rank_is_one_of_a_process_by_itself(pod: Pod) -> None:
    pod.prepare(does="look")
    pod.run("train", {**BY_RANK, "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "nowhere"})
    assert pod.verdict()["cause"] == "does: sees 1 of None."
    (pod.folder / "run" / "verdict.json").unlink()
    pod.prepare(does="die 9")
    done = pod.run("train", BY_RANK)
    assert done.returncode == ExitCode.SOFTWARE
    assert pod.verdict()["cause"].startswith("The process of check ended with exit code 9")


@pytest.mark.slow
def test_a_rank_that_lacks_a_library_names_the_command_that_installs_it(pod: Pod) -> None:
    pod.prepare(does="import")
    assert pod.run("train", BY_RANK).returncode == 64
    assert "needs the module a_library_that_is_not_there" in pod.verdict()["cause"]


@pytest.mark.slow
@pytest.mark.parametrize("result", ["model", "checkpoints"])
def test_a_check_refuses_the_output_folder_of_another_job(pod: Pod, result: str) -> None:
    (pod.folder / "workspace" / "output" / result / "files").mkdir(parents=True)
    for params in ({"does": "train"}, {"does": "train"}, {"does": "something else"}):
        pod.prepare(**params)
        done = pod.run("check")
        assert done.returncode == 0, done.stderr
    verdict = pod.verdict()
    assert verdict is not None
    assert f"output/{result} belongs to a job that trains something else" in str(verdict["cause"])


@pytest.mark.slow
def test_an_output_folder_without_results_is_anybodys(pod: Pod) -> None:
    for does in ("train", "something else"):
        pod.prepare(does=does)
        assert (pod.run("check").returncode, pod.verdict()) == (0, None)


def test_a_check_and_a_rank_say_what_they_do_before_the_trainer_does(pod: Pod) -> None:
    pod.prepare(does="train")
    checked, trained = (pod.run(command).stdout.splitlines() for command in ("check", "train"))
    assert [parse_event(line) for line in checked] == [
        Phase(name="import", text="importing the trainer and its libraries, to check the job"),
        Phase(name="check", text="the check has passed"),
    ]
    assert parse_event(trained[0]) == Phase(name="import", text="importing the trainer and its libraries")


def test_only_rank_0_says_what_it_does(pod: Pod) -> None:
    pod.prepare(does="train")
    assert pod.run("train", {"RANK": "7", "WORLD_SIZE": "8"}).stdout == ""


def test_what_a_check_refuses_is_a_verdict_and_exit_code_0(pod: Pod) -> None:
    pod.prepare(does="refuse")
    done = pod.run("check")
    assert done.returncode == 0
    failure = Failure(64, "does='refuse': is refused.", "Write 'train'.", "check")
    assert pod.verdict() == failure.to_dict()
    assert parse_event(done.stdout.splitlines()[-1]) == Failed(failure=failure)
    assert Failure.from_message((pod.folder / "termination-log").read_text(), 1) == failure


def test_a_library_that_the_trainer_lacks_is_named_with_the_command_that_installs_it(pod: Pod) -> None:
    pod.prepare(does="import")
    pod.run("check")
    verdict = pod.verdict()
    assert "needs the module a_library_that_is_not_there, which is not installed where it runs." in verdict["cause"]
    assert re.search(
        r"Install what it needs: pip install '[\w-]+', here or in the trainer's image\.", verdict["remedy"]
    )


def test_without_a_place_for_verdicts_the_exit_code_tells(pod: Pod) -> None:
    pod.prepare(does="refuse")
    assert pod.run("check", {"TUNEWRIGHT_RUN": ""}).returncode == 64


@pytest.mark.parametrize("does", ["burst", "exit"])
def test_an_unexpected_end_is_a_verdict_with_the_traceback_in_the_log_and_no_secret(pod: Pod, does: str) -> None:
    pod.prepare(does=does)
    done = pod.run("check")
    verdict = pod.verdict()
    assert done.returncode == 0
    assert verdict
    assert verdict["code"] == 70
    assert "Traceback" in done.stderr
    assert SECRET not in f"{done.stdout}{done.stderr}{verdict}{(pod.folder / 'termination-log').read_text()}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("interrupt", "KeyboardInterrupt: of its own"),
        ("mute", "Mute: (its message cannot be shown: RuntimeError)"),
        ("bent", "Bent: bent None., whose fields fail: RuntimeError: no failure"),
        ("fine", "all is well (It was raised with the exit code 0, which is none of ours.)"),
        ("code", "ValueError: 7 is not a valid ExitCode"),
        ("group", "BaseExceptionGroup: several (2 sub-exceptions)"),
    ],
)
def test_whatever_a_plugin_raises_is_a_verdict(pod: Pod, does: str, says: str) -> None:
    pod.prepare(does=does)
    done = pod.run("check")
    assert done.returncode == 0, done.stderr
    verdict = pod.verdict()
    assert verdict is not None
    ours = does in ("bent", "fine")  # a class of ours, which says what it wants to say
    whose = "" if ours else ", in the code of the trainer plugin 'toy' (tunewright-toy)."
    assert (verdict["cause"], verdict["code"]) == (f"{says}{whose}", 70)


def test_ctrl_c_ends_a_step_as_shells_expect_it_and_leaves_no_verdict(pod: Pod) -> None:
    pod.prepare(does="wait")
    process = pod.start("check")
    assert process.stdout
    assert any("waiting" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert pod.verdict() is None


@pytest.mark.parametrize("named", ["", "TOY_TOKEN"])
def test_what_a_plugin_prints_by_any_means_shows_no_secret(pod: Pod, named: str) -> None:
    pod.prepare(does="print")
    done = pod.run("check", {"TUNEWRIGHT_SECRETS": named})
    assert (done.returncode, pod.verdict()) == (0, None), done.stderr
    assert SECRET not in done.stdout + done.stderr
    for text in ("<redacted> printed", "<redacted> echoed", "<redacted> in pieces"):
        assert text in done.stdout
    assert "<redacted> written" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert parse_event(done.stdout.splitlines()[-1]) == Phase(name="check", text="the check has passed") or (
        "in pieces{" in done.stdout  # the plugin ended no line
    )


def test_after_a_verdict_later_steps_do_nothing(pod: Pod) -> None:
    write_verdict(pod.folder / "run", Failure(77, "No.", "Ask."))
    done = pod.run("check")
    assert done.returncode == 0
    assert "does nothing" in done.stderr
    assert not (pod.folder / "workspace" / "output").exists()


def test_a_slot_without_its_marker_is_not_trained_on(pod: Pod) -> None:
    (pod.folder / "workspace" / "model").mkdir()
    (pod.folder / "workspace" / "model" / "config.json").write_text("{}")
    pod.write("model", provider="file", distribution="tunewright", uri="file:///models/x")
    pod.run("check")
    verdict = pod.verdict()
    assert verdict
    assert verdict["code"] == 66
    assert "fetch model" in str(verdict["remedy"])


def test_another_version_of_the_plugin_than_the_clients_is_refused(pod: Pod) -> None:
    file = pod.folder / "config" / "trainer.json"
    file.write_text(file.read_text().replace('"1.0"', '"0.9"'))
    pod.run("check")
    verdict = pod.verdict()
    assert verdict
    assert verdict["code"] == 64
    assert "tunewright-toy 0.9" in str(verdict["cause"])


def test_another_api_than_the_containers_is_refused(pod: Pod) -> None:
    file = pod.folder / "config" / "trainer.json"
    file.write_text(file.read_text().replace('"api": 1', '"api": 2'))
    pod.run("check")
    assert "API version 2" in str(pod.verdict())


def test_an_output_that_cannot_be_written_to_is_found_out_before_the_training(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("a file")
    uri = (tmp_path / "in-the-way" / "out").as_uri()
    pod.write("output", kind="model", provider="file", distribution="tunewright", uri=uri)
    pod.run("check")
    verdict = pod.verdict()
    assert verdict
    assert verdict["code"] != 0


def test_a_rank_trains_and_rank_0_speaks_for_all(pod: Pod) -> None:
    done = pod.run("train", {"RANK": "0", "WORLD_SIZE": "1"})
    assert done.returncode == 0, done.stderr
    assert '{"event": "toy", "rank": 0, "world": 1' in done.stdout
    model = pod.folder / "workspace/output/model"
    assert sorted(file.name for file in model.iterdir()) == ["model.bin", REPORT_FILE]
    shutil.rmtree(model)
    assert "toy" not in pod.run("train", {"RANK": "1", "WORLD_SIZE": "2"}).stdout
    assert [file.name for file in model.iterdir()] == ["model.bin"], "rank 0 alone leaves the report"


@pytest.mark.slow
def test_a_trainer_that_leaves_no_model_fails_for_good_and_is_named(pod: Pod) -> None:
    pod.prepare(does="nothing")
    done = pod.run("train", {"RANK": "0", "WORLD_SIZE": "1"})
    verdict = pod.verdict()
    assert verdict is not None
    assert done.returncode == verdict["code"] == 64
    assert "'toy'" in str(verdict["cause"])
    assert "without a model" in str(verdict["cause"])
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("does", "says"), [("panic", "Panic: a library in Rust"), ("leave", "SystemExit: 0")])
def test_whatever_a_trainer_raises_is_a_failure_with_its_words(pod: Pod, does: str, says: str) -> None:
    pod.prepare(does=does)
    done = pod.run("train", {"RANK": "0", "WORLD_SIZE": "1"})
    assert done.returncode == 1
    assert says in done.stderr
    if does == "panic":
        assert pod.run("check").returncode == 0
        verdict = pod.verdict()
        assert verdict is not None
        assert says in str(verdict["cause"])


def test_a_rank_resumes_from_the_newest_complete_checkpoint(pod: Pod) -> None:
    checkpoints = pod.folder / "workspace/output/checkpoints"
    for step in (5, 10, 20):
        (checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    mark_checkpoint(checkpoints / "checkpoint-5")
    mark_checkpoint(checkpoints / "checkpoint-10")
    assert "checkpoint-10" in pod.run("train").stdout


@pytest.mark.slow
def test_a_mixture_reaches_the_trainer_with_a_folder_for_each_part(pod: Pod, tmp_path: Path) -> None:
    for number, text in enumerate(("one", "two"), start=1):
        source = tmp_path / f"source-{number}" / "data.txt"
        source.parent.mkdir()
        source.write_text(text)
        name = f"dataset_{number}"
        uri = source.parent.as_uri()
        pod.write(name, kind="dataset", provider="file", distribution="tunewright", uri=uri)
    parts = [MixturePart(slot=f"dataset_{n}", name=name, weight=n) for n, name in ((1, "a"), (2, "b"), (1, "c"))]
    config = pod.folder / "config" / "mixture.json"
    config.write_text(dump_mixture(parts))
    pod.run("check")
    assert "fetch dataset_1" in str(pod.verdict()), "what was not fetched is not trained on"
    (pod.folder / "run" / "verdict.json").unlink()
    for slot in ("dataset_1", "dataset_2"):
        done = pod.run("fetch", slot=slot)
        assert (done.returncode, pod.verdict()) == (0, None), done.stderr
    assert pod.run("fetch", slot="dataset_0").returncode == 2
    done = pod.run("check")
    assert (done.returncode, pod.verdict()) == (0, None), done.stderr
    expected = '"mixture": [["a", 1, "dataset_1", "one"], ["b", 2, "dataset_2", "two"], ["c", 1, "dataset_1", "one"]]'
    assert expected in pod.run("train").stdout
    config.write_text(dump_mixture(parts[:2]))
    pod.run("check")
    assert "belongs to a job that trains something else" in str(pod.verdict()), "other shares are another job"


def test_a_launcher_that_ignores_the_operators_variables_is_found_out(pod: Pod) -> None:
    done = pod.run("train", {"TUNEWRIGHT_WORLD_SIZE": "4", "WORLD_SIZE": "1"})
    assert done.returncode == 64
    assert "4 ranks" in str(pod.verdict())


def test_a_ranks_final_error_is_a_verdict_and_any_other_one_is_tried_again(pod: Pod) -> None:
    pod.prepare(does="burst")
    done = pod.run("train")
    assert (done.returncode, pod.verdict()) == (1, None)
    assert SECRET not in done.stderr
    assert "ValueError" in (pod.folder / "run" / "error.txt").read_text()
    pod.prepare(does="refuse")
    assert pod.run("train").returncode == 64
    assert "refused by a rank" in str(pod.verdict())


def test_the_finished_model_is_uploaded(pod: Pod, tmp_path: Path) -> None:
    uri = (tmp_path / "remote").as_uri()
    pod.write("output", kind="model", provider="file", distribution="tunewright", uri=uri)
    done = pod.run("train")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "remote" / "model.bin").read_text() == "trained"
    assert '"event": "uploaded"' in done.stdout
