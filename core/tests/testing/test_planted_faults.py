"""The kit against plugins with a planted fault each: a test of the kit fails, and says what is wrong."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

HERE = Path(__file__).parent
GOOD, TESTS = ((HERE / name).read_text("utf-8") for name in ("good_plugin.py", "authors_tests.py"))
RECORDS = {
    "METADATA": "Metadata-Version: 2.1\nName: tunewright-acme\nVersion: 1.0\n",
    "entry_points.txt": "[tunewright.v1]\nacme = acme_plugin\n",
}


@attrs.frozen(kw_only=True)
class Fault:
    """A fault.

    Attributes:
        test: the test of the kit that finds it.
        says: part of what that test says.
        changes: text of the good plugin → text in its place.
        tests: the same for the author's tests.
    """

    test: str
    says: str
    changes: Mapping[str, str]
    tests: Mapping[str, str] = attrs.field(factory=dict)


def method(body: str, test: str, says: str, **tests: str) -> Fault:
    """A fault of download_dataset: statements at its beginning."""
    start = "    def download_dataset(self, target):\n"
    return Fault(test=f"TestData::{test}", says=says, changes={start: f"{start}        {body}\n"}, tests=tests)


def fault(test: str, says: str, **changes: str) -> Fault:
    """A fault in another place: `old` → `new`."""
    return Fault(test=test, says=says, changes={changes["old"]: changes["new"]})


def field(test: str, says: str, line: str) -> Fault:
    """A fault in a field of the dataset, beside its others."""
    version = "    version: int = 1\n"
    return fault(f"TestData::{test}", says, old=version, new=f"{version}    {line}\n")


REQUEST = "        def request(self, entry):"
ARRIVE, ENTRIES = "test_the_files_arrive", 'yield Entry(path=file["path"], size=file["size"], digests=(digest,))'
FAULTS = {
    # Sources that download by themselves.
    "the method is not written": method("raise NotImplementedError", ARRIVE, "NotImplementedError"),
    "the method does nothing": method("return", ARRIVE, "downloaded no files"),
    "the secret is not sent": fault(
        "TestData::test_the_files_arrive", "401", old='{"Authorization": f"Bearer {token}"}', new="{}"
    ),
    "any secret will do": fault(
        "TestData::test_wrong_secrets_are_refused",
        "succeeds: does the provider send them?",
        old='{"Authorization": f"Bearer {token}"}',
        new='{"Authorization": "Bearer the-right-token"}',
    ),
    "the secret is a plain field": fault(
        "TestData::test_secrets_are_declared_as_such",
        "Declare ['token'] with secret",
        old='    token: str | SecretRef | None = secret(env="ACME_TOKEN")',
        new='    token: str = "public"',
    ),
    "a secret has no name that says so": Fault(
        test="TestData::test_wrong_secrets_are_refused",
        says="no literal in a secret field",
        changes={'    token: str | SecretRef | None = secret(env="ACME_TOKEN")': '    pin: str = "the-right-token"\n    token = property(lambda self: self.pin)'},
        tests={'acme_plugin.Data(uri="acme://train", server=service[0], token=TOKEN)': 'acme_plugin.Data(uri="acme://train", server=service[0])'},
    ),
    "the secret is printed in hexadecimal digits": method("print(self.token.encode().hex())", ARRIVE, "prints a secret"),
    "the plugin imports the launcher": fault(
        "TestData::test_import_is_light", "tunewright_launcher", old="import attrs\n", new="import attrs\nimport tunewright_launcher.http\n"
    ),
    "patterns are ignored": fault(
        "TestModel::test_patterns_select_files", "other files", old='if self.selects(file["path"])', new="if file"
    ),
    "the secret is printed": method("print('with', self.token)", ARRIVE, "prints a secret"),
    "the secret is printed in Base64": method(
        "print(__import__('base64').b64encode(f'me:{self.token}'.encode()))", ARRIVE, "prints a secret"
    ),
    "the secret is in the message": fault(
        "TestData::test_wrong_secrets_are_refused",
        "prints a secret",
        old='f"{url} was answered with {error.code}."',
        new='f"{token} is refused with {error.code}."',
    ),
    "a file is left in the working folder": method("Path('log').write_text('x')", ARRIVE, "['cwd/log']"),
    "a file is left in /tmp": method("__import__('tempfile').mkstemp()", ARRIVE, "outside of `target`: ['tmp/"),
    "a file is written somewhere else": method(
        "Path('/var/tmp/acme-kit').write_text('x')", ARRIVE, "/var/tmp/acme-kit"
    ),
    "a path leads out of the folder": method("(target / '../../escape').write_text('x')", ARRIVE, ".staging/escape"),
    "a link leads out of the folder": method("(target / 'a').symlink_to('/etc/hostname')", ARRIVE, "'a' is a link"),
    "files are cut off": fault(
        "TestData::test_the_files_arrive", "19000 bytes", old="self.token))\n\n\n@attrs.frozen(kw_only=True)\nclass Model", new="self.token)[:19000])\n\n\n@attrs.frozen(kw_only=True)\nclass Model"
    ),
    "files have other contents": fault(
        "TestData::test_the_files_arrive", "has other contents", old="self.token))\n\n\n@attrs.frozen(kw_only=True)\nclass Model", new="self.token)[::-1])\n\n\n@attrs.frozen(kw_only=True)\nclass Model"
    ),
    "the method ends the process": method("raise SystemExit(0)", ARRIVE, "SystemExit"),
    "the method ends the process at once": method("__import__('os')._exit(0)", ARRIVE, "the code of the dataset plugin 'acme'|before it had committed"),
    "a process is left running": method("__import__('subprocess').Popen(['sleep', '60'])", ARRIVE, "leaves processes running"),
    "the trainer cannot read the files": method("__import__('os').umask(0o777)", ARRIVE, "has the mode 0"),
    "the method panics": method("raise type('Panic', (BaseException,), {})('of Rust')", ARRIVE, "Panic: of Rust"),
    "the method never ends": method(
        "time.sleep(3600)", ARRIVE, "has not ended within 3 s", **{"class TestData(DatasetProviderTests):\n    name = \"acme\"\n    time_limit = 20": "class TestData(DatasetProviderTests):\n    name = \"acme\"\n    time_limit = 3"}
    ),
    "what is missing is retried": fault(
        "TestData::test_what_is_missing_is_refused", "exit code 69", old=", 404: ExitCode.NOT_FOUND", new=""
    ),
    "errors of the library pass through": fault(
        "TestData::test_what_is_missing_is_refused", "exit code 70", old="except urllib.error.HTTPError as error:", new="except ZeroDivisionError as error:"
    ),
    "a field depends on the day": field("test_fields_are_the_same_on_another_machine_and_day", "the machine or the day: {'day'", "day: str = attrs.field(factory=lambda: str(__import__('datetime').date.today()))"),
    "a field depends on the process": field("test_fields_are_the_same_on_another_machine_and_day", "the machine or the day: {'seed'", "seed: int = attrs.field(factory=lambda: hash('seed'))"),
    "a field depends on the machine": field("test_fields_are_the_same_on_another_machine_and_day", "the machine or the day: {'host'", "host: str = attrs.field(factory=lambda: __import__('socket').gethostname())"),
    "a field depends on the working folder": field("test_fields_are_the_same_on_another_machine_and_day", "the machine or the day: {'here'", "here: str = attrs.field(factory=lambda: str(Path.cwd()))"),
    "a default is shared": field("test_fields_are_the_providers_own", "All providers share the default of ['tags']", "tags: list = []"),
    "a field has the name of another": field("test_fields_are_the_providers_own", "Rename the fields ['policy']", "policy: bool = True"),
    "a field has the name of a key": field("test_fields_are_the_providers_own", "Rename the fields ['weight']", "weight: int = 1"),
    "a secret stays in a file": method("Path.home().joinpath('.acme').write_text(self.token)", ARRIVE, "leaves a secret in ['home/.acme']"),
    "a container has no image": fault(
        "TestData::test_init_container_shapes_a_container", "has no image", old='env={**defaults.env, "ACME": "1"}', new='image=""'
    ),
    "the container loses its variables": fault(
        "TestData::test_init_container_shapes_a_container",
        "drops",
        old='env={**defaults.env, "ACME": "1"}',
        new='env={"ACME": "1"}',
    ),
    # Sources that the engine reads.
    "a size is wrong": fault(
        "TestModel::test_the_files_arrive", "has failed", old=ENTRIES, new=ENTRIES.replace('file["size"]', 'file["size"] + 1')
    ),
    "a digest is wrong": fault(
        "TestModel::test_the_files_arrive", "sha256 digest", old='value=file["sha256"])\n                yield', new='value="0" * 64)\n                yield'
    ),
    "an entry leads out of the folder": fault(
        "TestModel::test_the_files_arrive", "escape", old=ENTRIES, new=ENTRIES.replace('path=file["path"]', 'path="../escape"')
    ),
    "ranges are read from the start": fault(
        "TestModel::test_a_snapshot_keeps_its_word",
        "gives other bytes",
        old="        def request(self, entry):",
        new="        def open(self, entry, start, stop):\n"
        "            return super().open(entry, 0, stop - start)\n\n        def request(self, entry):",
    ),
    "the revision differs each time": fault(
        "TestModel::test_a_snapshot_keeps_its_word", "differ in", old="            super().__init__()", new="            super().__init__()\n            self.revision = str(time.time_ns())"
    ),
    "a file may change unnoticed": Fault(
        test="TestModel::test_a_snapshot_keeps_its_word",
        says="would be a mixture",
        changes={ENTRIES: ENTRIES.replace("digests=(digest,)", "digests=()"), '        revision = "7"\n\n': ""},
    ),
    "the listing never goes on": fault(
        "TestModel::test_the_files_arrive", "has not", old=ENTRIES, new=f"{ENTRIES}\n                time.sleep(3600)"
    ),
    "a digest is in Base64": fault(
        "TestModel::test_the_files_arrive", "which is not 64 hexadecimal digits", old='value=file["sha256"])\n                yield', new='value=__import__("base64").b64encode(bytes.fromhex(file["sha256"])).decode())\n                yield'
    ),
    "a digest is in upper case": fault(
        "TestModel::test_a_snapshot_keeps_its_word", "in lowercase hexadecimal digits it is", old='value=file["sha256"])\n                yield', new='value=file["sha256"].upper())\n                yield'
    ),
    "files that are made have wrong digests": fault(
        "TestModel::test_the_files_arrive", "which is that of other contents", old=REQUEST, new=f"        def finish(self, folder):\n            return {{'a.txt': '0' * 64}}\n\n{REQUEST}"
    ),
    "describe() returns nothing": fault(
        "TestModel::test_a_snapshot_keeps_its_word", "describe() must return the entry", old=REQUEST, new=f"        def describe(self, entry): pass\n\n{REQUEST}"
    ),
    "snapshot() never returns": Fault(
        test="TestModel::test_a_snapshot_keeps_its_word",
        says="has not answered within 3 s",
        changes={"        return snapshot_class()(self.address, self.token, self.selects)": "        time.sleep(3600)"},
        tests={'class TestModel(ModelProviderTests):\n    name = "acme"\n    time_limit = 20': 'class TestModel(ModelProviderTests):\n    name = "acme"\n    time_limit = 3'},
    ),
    # Outputs.
    "an upload names another version than the listing": Fault(
        test="TestOutput::test_the_store_keeps_its_word",
        says="calls the version",
        changes={
            'value=file["sha256"]),)\n': 'value=file["sha256"]),), validator="1"\n',
            '"PUT", file.read_bytes())': '"PUT", file.read_bytes())\n        return dict.fromkeys(files, "2")',
        },
    ),
    "an upload does nothing": fault(
        "TestOutput::test_the_store_keeps_its_word", "which were uploaded", old="        for path, file in files.items():\n            call", new="        for path, file in ():\n            call"
    ),
    "a folder is taken for a prefix": fault(
        "TestOutput::test_the_store_keeps_its_word", "not below that folder", old='prefix = f"{folder}/" if folder else ""', new="prefix = folder"
    ),
    "paths are relative to the folder": fault(
        "TestOutput::test_the_store_keeps_its_word",
        "relative to the URI",
        old='            if file["path"].startswith(prefix):\n',
        new='            if file["path"].startswith(prefix):\n                file["path"] = file["path"].removeprefix(prefix)\n',
    ),
    "shards of an earlier result stay": fault(
        "TestOutput::test_the_store_keeps_its_word",
        "has no remove_files()",
        old="    def remove_files(self, paths):",
        new="    def _remove(self, paths):",
    ),
    "an upload never replaces": fault(
        "TestOutput::test_the_store_keeps_its_word",
        "not the new 7",
        old="        for path, file in files.items():\n            call",
        new="        there = {e.path for e in self.entries('')}\n        for path, file in files.items():\n            path in there or call",
    ),
    "an upload that is refused passes over it": fault(
        "TestOutput::test_wrong_secrets_are_refused",
        "raises no FetchError when the service refuses",
        old='            call(f"{self.address}/{urllib.request.quote(path)}", self.token, "PUT", file.read_bytes())\n',
        new="            try:\n"
        '                call(f"{self.address}/{urllib.request.quote(path)}", self.token, "PUT", file.read_bytes())\n'
        "            except FetchError:\n                pass\n",
    ),
    "files beside the output are removed": fault(
        "TestOutput::test_the_store_keeps_its_word",
        "acme://results/sft-2 has [] and not ['somebody-elses']",
        old="        for path in paths:\n",
        new="        call(f'{self.address}-2/somebody-elses', self.token, 'DELETE')\n        for path in paths:\n",
    ),
    "an upload that fails halfway leaves a file, though it is atomic": fault(
        "TestOutput::test_the_store_keeps_its_word", "it says `atomic`", old="class Files(Store):\n", new="class Files(Store):\n    atomic = True\n\n"
    ),
    "an upload leaves a temporary file": fault(
        "TestOutput::test_a_result_is_uploaded", "The store leaves files: ['tmp/", old="        for path, file in files.items():\n            call", new="        __import__('tempfile').mkstemp()\n        for path, file in files.items():\n            call"
    ),
    "the check leaves a file": fault(
        "TestOutput::test_the_store_keeps_its_word", "check_writable() leaves", old="    def remove(self, folder):\n        self", new="    def remove(self, folder):\n        '.tunewright' in folder or self"
    ),
    "contents are changed on the way": fault(
        "TestOutput::test_a_result_is_uploaded", "", old="file.read_bytes())", new="file.read_bytes()[::-1])"
    ),
    # Trainers.
    "there are no checkpoints": fault(
        "TestTrainer::test_a_killed_training_continues", "marks no checkpoint", old="                mark_checkpoint(folder)\n", new=""
    ),
    "the training begins again": fault(
        "TestTrainer::test_a_killed_training_continues", "begins again at step 1", old="if run.resume_from is not None:", new="if False:"
    ),
    "a checkpoint is marked before it is written": fault(
        "TestTrainer::test_a_killed_training_continues",
        "has failed|exit code",
        old="                save(folder, total)\n                mark_checkpoint(folder)\n",
        new="                folder.mkdir(parents=True)\n                mark_checkpoint(folder)\n                save(folder, total)\n",
    ),
    "a training that continues forgets": fault(
        "TestTrainer::test_a_killed_training_continues", "leaves other files", old='total = json.loads((run.resume_from / "total.json").read_text())', new="total = 0"
    ),
    "there is no result": fault(
        "TestTrainer::test_two_ranks_train", "without a model", old="        if run.rank == 0:\n            save(run.result, total)\n", new=""
    ),
    "one rank fails alone": fault(
        "TestTrainer::test_two_ranks_train", "Rank 1", old="        first, total = 1, 0\n", new="        first, total = 1, 0\n        assert run.rank == 0, 'no rank for me'\n"
    ),
    "a rank ends without an error": fault(
        "TestTrainer::test_two_ranks_train", "The process of rank 1 ends with exit code 0", old="        first, total = 1, 0\n", new="        first, total = 1, 0\n        run.rank and __import__('os')._exit(0)\n"
    ),
    "the inputs are changed": fault(
        "TestTrainer::test_two_ranks_train", "changes its inputs", old="        first, total = 1, 0\n", new="        first, total = 1, 0\n        (run.dataset / 'cache').write_text('x')\n"
    ),
    "no step is reported": fault(
        "TestTrainer::test_two_ranks_train", "reports no step", old="            run.emit(Step(step=epoch, total_steps=self.epochs, loss=1 / total))\n", new=""
    ),
    "SIGTERM is ignored": Fault(
        test="TestTrainer::test_sigterm_ends_the_ranks",
        says="have not ended",
        changes={"        first, total = 1, 0\n": "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        first, total = 1, 0\n"},
        tests={"epochs=3)": "epochs=3, pause=40)", "    time_limit = 30": "    time_limit = 60"},
    ),
    "SIGTERM ends the training as if it were finished": Fault(
        test="TestTrainer::test_sigterm_ends_the_ranks",
        says="would be taken for the finished model",
        changes={
            "        first, total = 1, 0\n": "        stop = []\n        signal.signal(signal.SIGTERM, lambda *_: stop.append(1))\n        first, total = 1, 0\n",
            "                run.emit(Checkpoint(step=epoch, path=str(folder)))\n": "                run.emit(Checkpoint(step=epoch, path=str(folder)))\n            if stop:\n                break\n",
        },
        tests={"epochs=3)": "epochs=30)"},
    ),
    "the check refuses everything": fault(
        "TestTrainer::test_two_ranks_train", "The check has failed", old="        pass\n", new="        assert dataset is None\n"
    ),
    # Backends.
    "a manifest is another each time": fault(
        "TestBackend::test_rendering_is_pure",
        "other manifests for the same plan",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def render(self, plan):\n"
        "        return super().render(attrs.evolve(plan, labels={'at': str(time.time_ns())}))\n",
    ),
    "a secret is rendered": fault(
        "TestBackend::test_rendering_is_pure",
        "render() shows a secret",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def render(self, plan):\n"
        "        env = {k: getattr(v, '_value', v) for k, v in plan.main.env.items()}\n"
        "        return super().render(attrs.evolve(plan, main=attrs.evolve(plan.main, env=env)))\n",
    ),
    "rendering writes a file": fault(
        "TestBackend::test_rendering_is_pure",
        "must not write files",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def render(self, plan):\n"
        "        Path('/var/tmp/acme-kit').write_text('x')\n        return super().render(plan)\n",
    ),
    "unknown jobs have empty logs": fault(
        "TestBackend::test_unknown_jobs_are_refused",
        "for a job that does not exist: logs",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def logs(self, name, **more): return iter(())\n",
    ),
    "labels are not looked at": fault(
        "TestBackend::test_a_job_lives",
        "list() finds jobs without the label",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def list(self, labels=None): return super().list()\n",
    ),
    "a failure is not reported": fault(
        "TestBackend::test_a_failure_is_reported",
        "has no failure",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def get(self, name): return attrs.evolve(super().get(name), failure=None)\n",
    ),
    "init containers are passed over": fault(
        "TestBackend::test_init_containers_run_first",
        "which found ['none'] of them",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def submit(self, plan): super().submit(attrs.evolve(plan, init_containers=()))\n",
    ),
    "init containers run in another order": fault(
        "TestBackend::test_init_containers_run_first",
        "which found ['second first'] of them",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n"
        "    def submit(self, plan): super().submit(attrs.evolve(plan, init_containers=plan.init_containers[::-1]))\n",
    ),
    "a second worker is not started": fault(
        "TestBackend::test_workers_get_what_they_need",
        "Two workers were asked for",
        old="class Local(LocalBackend):\n    pass\n",
        new="class Local(LocalBackend):\n    def submit(self, plan): super().submit(attrs.evolve(plan, num_workers=1))\n",
    ),
    # Changes to plans.
    "the plan is not returned": fault(
        "TestPlan::test_the_plan_is_valid", "it has to return the plan", old="    return attrs.evolve(plan, labels", new="    attrs.evolve(plan, labels"
    ),
    "a label is invalid": fault(
        "TestPlan::test_the_plan_is_valid", "no cluster accepts", old='"team": "research"', new='"bad label!": "x"'
    ),
    "labels are dropped": fault(
        "TestPlan::test_nothing_is_lost", "drops labels ['kit'", old='{**plan.labels, "team": "research"}', new='{"team": "research"}'
    ),
    "the plan depends on the day": fault(
        "TestPlan::test_the_hook_is_pure", "the machine or the day", old='"team": "research"', new='"day": time.strftime("%Y-%m-%d")'
    ),
    "the plan depends on a file": fault(
        "TestPlan::test_the_hook_is_pure",
        "must not write files",
        old="    return attrs.evolve(plan, labels",
        new="    Path('/var/tmp/acme-kit').write_text('x')\n    return attrs.evolve(plan, labels",
    ),
    "a secret becomes plain text": fault(
        "TestPlan::test_the_plan_is_valid",
        "shows the secret of the variable KIT_SECRET",
        old="    return attrs.evolve(plan, labels",
        new="    env = {k: v if isinstance(v, str) else v.reveal() for k, v in plan.main.env.items()}\n"
        "    plan = attrs.evolve(plan, main=attrs.evolve(plan.main, env=env))\n    return attrs.evolve(plan, labels",
    ),
    "the user's overrides are dropped": fault(
        "TestPlan::test_nothing_is_lost", "pod_overrides.spec.dnsPolicy", old="    return attrs.evolve(plan, labels", new="    return attrs.evolve(plan, pod_overrides={'spec': {'hostPID': False}}, labels"
    ),
    "tolerations are dropped": fault(
        "TestPlan::test_nothing_is_lost", "scheduling.tolerations", old="    return attrs.evolve(plan, labels", new="    plan = attrs.evolve(plan, scheduling=attrs.evolve(plan.scheduling, tolerations=()))\n    return attrs.evolve(plan, labels"
    ),
    "the command is replaced": fault(
        "TestPlan::test_nothing_is_lost", "the command of container 'train'", old="    return attrs.evolve(plan, labels", new="    plan = attrs.evolve(plan, main=attrs.evolve(plan.main, command=('true',)))\n    return attrs.evolve(plan, labels"
    ),
    "no worker is left": fault(
        "TestPlan::test_the_plan_is_valid", "its num_workers is 0", old="    return attrs.evolve(plan, labels", new="    plan = attrs.evolve(plan, num_workers=0)\n    return attrs.evolve(plan, labels"
    ),
    "the hook starts a process": fault(
        "TestPlan::test_the_hook_is_pure", "start processes", old="    return attrs.evolve(plan, labels", new="    __import__('subprocess').run(['true'])\n    return attrs.evolve(plan, labels"
    ),
    "the hook ends the process": fault(
        "TestPlan::test_the_plan_is_valid", "ends the process that calls it", old="    return attrs.evolve(plan, labels", new="    __import__('os')._exit(0)\n    return attrs.evolve(plan, labels"
    ),
    "the hook is never called": fault(
        "TestPlan::test_the_plan_is_valid", "does not call the hook", old="always = True", new="sometimes = True"
    ),
}  # fmt: skip


def run_tests(folder: Path, plugin: str, tests: str, *wanted: str) -> subprocess.CompletedProcess[str]:
    """Install a plugin as pip leaves it, and run its author's tests as the author does."""
    info = folder / "tunewright_acme-1.0.dist-info"
    info.mkdir()
    for name, text in RECORDS.items():
        (info / name).write_text(text)
    (folder / "acme_plugin.py").write_text(plugin)
    (folder / "test_acme.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    chosen = [f"test_acme.py::{name}" for name in wanted] or ["test_acme.py"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "TUNEWRIGHT_HOME": str(folder / "home"),
        "COLUMNS": "2000",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--tb=short", "-p", "no:cacheprovider", *chosen]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def with_fault(found: Fault) -> tuple[str, str]:
    """Return the plugin and its author's tests with a fault."""
    plugin, tests = GOOD, TESTS
    for old, new in found.changes.items():
        assert plugin.count(old) == 1, old
        plugin = plugin.replace(old, new)
    for old, new in found.tests.items():
        assert tests.count(old) == 1, old
        tests = tests.replace(old, new)
    return plugin, tests


@pytest.mark.slow
def test_a_plugin_without_faults_passes(tmp_path: Path) -> None:
    done = run_tests(tmp_path, GOOD, TESTS)
    assert done.returncode == 0, done.stdout
    assert "2 skipped" in done.stdout
    assert "the fetch engine does not read it" in done.stdout
    assert "it has no patterns" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_kit_finds_the_fault(name: str, tmp_path: Path) -> None:
    found = FAULTS[name]
    done = run_tests(tmp_path, *with_fault(found), found.test)
    assert done.returncode == 1, done.stdout
    assert any(part in done.stdout for part in found.says.split("|")), done.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fixture", "class_name", "says"),
    [("served", "TestData", "no fixture `served`"), ("written", "TestOutput", "no fixture `written`"),
     ("inputs", "TestTrainer", "no fixture `inputs`")],
)  # fmt: skip
def test_a_container_half_that_cannot_be_run_is_no_pass(
    fixture: str, class_name: str, says: str, tmp_path: Path
) -> None:
    tests = TESTS.replace(f"def {fixture}(", f"def no_{fixture}(")
    done = run_tests(tmp_path, GOOD, tests, class_name)
    assert done.returncode == 1
    assert says in done.stdout


# A trainer that names a program of its own: this module, started by torchrun.
OWN_PROGRAM = """

if __name__ == "__main__":
    import sys
    from types import SimpleNamespace

    from tunewright.events import emit
    from tunewright.providers import Paths, newest_checkpoint

    output, rank = Paths.read().workspace / "output", int(__import__("os").environ["RANK"])
    run = SimpleNamespace(
        dataset=Paths.read().workspace / "dataset", rank=rank, emit=emit if rank == 0 else lambda event: None,
        checkpoints=output / "checkpoints", result=output / "model", resume_from=newest_checkpoint(output / "checkpoints"),
    )
    Trainer.train_here(Trainer(epochs=int(sys.argv[1])), run)
"""
SHAPED = 'env={**defaults.env, "ACME_EPOCHS": str(self.epochs)}'
OWN_TARGET = {
    SHAPED: 'command=(*defaults.command[:-3], "-m", "acme_plugin", str(self.epochs))',
    "    def train(self, run):\n": "    def train(self, run):\n        raise NotImplementedError\n\n    def train_here(self, run):\n",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"if run.resume_from is not None:": "if False:"}, "begins again at step 1"),
        ({"            save(run.result, total)\n": "            pass\n"}, "leaves no result"),
        ({'command=(*defaults.command[:-3], "-m",': 'command=("accelerate", "launch",'}, "which the kit cannot run"),
        ({'command=(*defaults.command[:-3], "-m", "acme_plugin", ': 'command=(*defaults.command, '}, "exit code 2"),
    ],
    ids=["good", "forgets", "no result", "another launcher", "an argument for the launcher"],
)  # fmt: skip
def test_the_kit_runs_a_trainers_own_program(changes: Mapping[str, str], says: str, tmp_path: Path) -> None:
    plugin = GOOD + OWN_PROGRAM
    for old, new in {**OWN_TARGET, **changes}.items():
        assert plugin.count(old) == 1, old
        plugin = plugin.replace(old, new)
    done = run_tests(tmp_path, plugin, TESTS, "TestTrainer")
    assert done.returncode == bool(says), done.stdout[-4000:]
    assert says in done.stdout, done.stdout[-4000:]
