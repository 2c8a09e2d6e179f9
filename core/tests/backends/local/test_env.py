"""What local steps find in their environment, and what the backend refuses because only a cluster has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError, SecretRef, TrainingClient
from tunewright._client.job import Job
from tunewright.backends.local import logs, record
from tunewright.backends.local.env import client_environment, expand, share_of_machine, who_checks, write_programs
from tunewright.backends.local.folder import JobFolder, Status
from tunewright.backends.local.spec import Program, Spec
from tunewright.events import Attempt, Phase, Progress, Step, format_event
from tunewright.plan.plan import ContainerSpec, EmptyDir, ExistingClaim, Mount, Volume
from tunewright.plan.resources import Resources
from tunewright.plan.secrets import SecretValue
from tunewright.status.state import JobState

SHOW = """
(out / f"env-{me}.json").write_text(json.dumps(dict(os.environ)))
"""
NAME = st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$(A$$", "$(A$"),
        ("$()", "$()"),
        ("$(C)", "$(A)"),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text, expanded):
    assert expand(text, {"A": "1", "C": "$(A)"}) == expanded


@given(st.text(st.sampled_from("$()AB x")), st.dictionaries(NAME, st.text(max_size=5)))
def test_a_text_whose_dollars_are_doubled_is_left_as_it_is(text, env):
    assert expand(text.replace("$", "$$"), env) == text


@pytest.mark.slow
def test_a_step_sees_of_the_users_credentials_those_alone_that_it_was_given(machine, monkeypatch):
    for name in ("ACME_TOKEN", "ACME_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "the-users-own")
    refuse = "assert {'ACME_TOKEN', 'ACME_KEY'}.isdisjoint(os.environ); "
    env = {"ACME_TOKEN": SecretValue("given")}
    plan = machine.plan(SHOW, steps=[("fetch-model", refuse)], env=env, secret_variables=("ACME_TOKEN", "ACME_KEY"))
    assert machine.run(plan).state is JobState.SUCCEEDED
    found = _environment(machine)
    assert (found["ACME_TOKEN"], found["WANDB_API_KEY"]) == ("given", "the-users-own")
    assert "ACME_KEY" not in found


def _environment(machine, worker=0):
    return json.loads((machine.output() / f"env-{worker}.json").read_text("utf-8"))


@pytest.mark.slow
def test_workers_get_what_the_operator_sets_for_elastic_workers(machine, monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("PET_NNODES", "9")
    monkeypatch.setenv("TUNEWRIGHT_OUTPUT", "s3://left/over")
    monkeypatch.setenv("OF_THE_USER", "kept")
    env = {"A": "1", "B": "$(A)$(TUNEWRIGHT_WORKER)", "PET_NNODES": "5", "PYTHONPATH": "/own"}
    machine.run(machine.plan(SHOW, num_workers=2, num_procs_per_worker=2, env=env))
    first, second = _environment(machine, 0), _environment(machine, 1)
    assert first["PET_NNODES"] == "2:2"
    assert first["PET_NPROC_PER_NODE"] == "2"
    assert first["PET_RDZV_BACKEND"] == "c10d"
    assert first["PET_RDZV_ID"] == "job"
    host, port = first["PET_RDZV_ENDPOINT"].split(":")
    assert (host, first["PET_RDZV_ENDPOINT"]) == ("127.0.0.1", second["PET_RDZV_ENDPOINT"])
    assert 0 < int(port) < 65536
    assert first["PET_LOCAL_ADDR"] == "127.0.0.1"  # this machine's name need not resolve
    assert first["PYTHONUNBUFFERED"] == "1"
    assert [e["TUNEWRIGHT_WORKER"] for e in (first, second)] == ["job-worker-0", "job-worker-1"]
    assert first["TUNEWRIGHT_RUN"] != second["TUNEWRIGHT_RUN"]
    assert first["TUNEWRIGHT_WORKSPACE"] == second["TUNEWRIGHT_WORKSPACE"]
    assert first["TMPDIR"] != second["TMPDIR"]
    assert first["HF_HOME"] != second["HF_HOME"]
    assert len(first["TMPDIR"]) < 60  # a socket's path has 108 bytes at most
    assert first["HOME"] == os.environ["HOME"]
    assert first["OF_THE_USER"] == "kept"
    assert (first["A"], first["B"]) == ("1", "1$(TUNEWRIGHT_WORKER)")  # as Kubernetes: what comes later is unknown
    assert first["PYTHONPATH"].split(os.pathsep)[:2] == [first["TUNEWRIGHT_PACKAGES"], "/own"]
    assert not {"RANK", "TUNEWRIGHT_OUTPUT", "MASTER_ADDR"} & set(first)
    assert not Path(first["TMPDIR"]).exists()


@pytest.mark.slow
def test_an_elastic_job_says_least_and_most(machine):
    machine.run(machine.plan(SHOW, elastic=(1, 3)))
    assert _environment(machine)["PET_NNODES"] == "1:3"


@pytest.mark.slow
def test_an_image_that_starts_itself_gets_what_the_operator_gives_master_and_workers(machine):
    machine.run(machine.plan(SHOW, num_workers=2, num_procs_per_worker=3, self_starting=True))
    first, second = _environment(machine, 0), _environment(machine, 1)
    assert [e["RANK"] for e in (first, second)] == ["0", "1"]
    assert first["WORLD_SIZE"] == "6"
    assert (first["MASTER_ADDR"], first["MASTER_PORT"]) == ("127.0.0.1", second["MASTER_PORT"])
    assert "PET_RDZV_ENDPOINT" not in first


@pytest.mark.slow
def test_a_command_in_place_of_an_image_runs_on_this_machine(machine):
    client = TrainingClient("local")
    code = "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'])"
    job = client.create_job("image", base_image="acme/image:1", command=["python", "-c", code])
    assert job.wait(timeout=60).state is JobState.SUCCEEDED
    assert list(job.logs()) == ["0 1"]


@pytest.mark.parametrize("program", ["python", "python3", "torchrun"])
def test_programs_are_those_of_the_clients_environment_though_it_is_not_activated(tmp_path, program):
    write_programs(tmp_path)
    env = client_environment({"PATH": "/usr/bin:/bin", "HOME": "/", "PYTHONPATH": str(tmp_path / "lib")}, tmp_path)
    target = tmp_path / "show.py"
    target.write_text("import sys; print(sys.prefix, sys.argv[1:])")
    if program == "torchrun":  # torch itself takes seconds to import
        stand_in = tmp_path / "lib" / "torch" / "distributed" / "run.py"
        stand_in.parent.mkdir(parents=True)
        stand_in.write_text("import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')")
        for package in (stand_in.parent, stand_in.parent.parent):
            (package / "__init__.py").touch()
    said = subprocess.run([program, str(target), "a b", "$c"], env=env, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"{sys.prefix} ['a b', '$c']"


def test_workers_share_the_cores_and_are_dealt_the_gpus_that_they_asked_for():
    spec = Spec(
        steps=(), worker=Program(name="train", command=(), env={}), num_workers=2, num_procs_per_worker=1000, gpus=2
    )
    assert share_of_machine(spec, 1, {}) == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert share_of_machine(spec, 1, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"})["CUDA_VISIBLE_DEVICES"] == "6,7"
    assert share_of_machine(spec, 0, {"OMP_NUM_THREADS": "8"})["OMP_NUM_THREADS"] == "8"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process that has loaded libraries is not forked")
def test_the_first_rank_checks_a_job_of_one_worker_unless_the_trainer_has_an_entry_point_of_its_own():
    def spec(*command, workers=1, **more):
        worker = Program(name="train", command=command, env={})
        return Spec(steps=(), worker=worker, num_workers=workers, num_procs_per_worker=1, **more)

    launcher = ("python", "-m", "tunewright_launcher", "run", "--", "torchrun", "-m", "tunewright_launcher", "train")
    assert who_checks(spec(*launcher)) == {"TUNEWRIGHT_CHECK_BY_RANK": "1"}
    assert who_checks(spec("torchrun", "train.py")) == {}
    assert who_checks(spec(*launcher, workers=2)) == {}
    assert who_checks(spec(*launcher, elastic=(1, 2))) == {}


def _container(**fields):
    return ContainerSpec(**{"name": "train", "image": "none", "command": ("x",), **fields})


@pytest.mark.parametrize(
    ("fields", "named", "remedy"),
    [
        ({"main": _container(command=())}, "'train' runs its image's entry point", "Pass command="),
        (
            {"main": _container(env={"T": SecretRef(name="s", key="k")})},
            "train.T: is a key of Kubernetes Secret 's'",
            "{env: NAME}",
        ),
        ({"volumes": [Volume(name="v", source=ExistingClaim(claim="c"))]}, "claim='c'", "file:///folder"),
        (
            {"main": _container(mounts=[Mount(volume="v", path="/cache")])},
            "mount='/cache'",
            "Mount it inside the workspace",
        ),
    ],
)
def test_what_only_a_cluster_has_is_refused_before_anything_is_created(machine, fields, named, remedy):
    plan = machine.plan(**fields)
    for call in (machine.backend.render, machine.backend.submit):
        with pytest.raises(RequestError) as caught:
            call(plan)
        assert named in str(caught.value)
        assert remedy in str(caught.value)
    assert not machine.home.exists()


def test_what_means_nothing_here_is_ignored(machine):
    volumes = [Volume(name="v", source=EmptyDir())]
    main = _container(
        command=("python", "-c", ""),
        resources=Resources(memory="1Ki"),
        mounts=[Mount(volume="v", path="/workspace/output")],
    )
    plan = machine.plan(main=main, volumes=volumes, pod_overrides={"spec": {"hostNetwork": True}})
    assert machine.run(plan).state is JobState.SUCCEEDED


def test_a_dry_run_shows_what_would_run_without_secrets_and_creates_nothing(machine):
    plan = machine.plan(steps=[("check", "")], env={"TOKEN": SecretValue("s3cr3t"), "A": "1"}, labels={"team": "a"})
    manifests = machine.backend.render(plan)
    text, (job, files) = manifests.to_yaml(), list(manifests)
    assert "s3cr3t" not in text
    assert job["metadata"]["folder"] == str(machine.folder())
    assert job["spec"]["worker"]["command"] == list(plan.main.command)
    assert job["spec"]["worker"]["env"] == {"TOKEN": "<redacted>", "A": "1"}
    assert job["spec"]["environment"]["PET_NNODES"] == "1:1"
    assert [step["name"] for step in job["spec"]["steps"]] == ["check"]
    assert set(files["data"]) == {"check.py", "train.py", "run.py"}
    assert manifests.to_yaml() == machine.backend.render(plan).to_yaml()
    assert not machine.home.exists()


@pytest.mark.parametrize("module", ["psutil", "filelock", "tunewright_launcher", "torch"])
def test_a_missing_library_is_named_with_what_to_install(machine, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    main = _container(command=("python", "-m", "tunewright_launcher", "run", "--", "torchrun", "x"))
    with pytest.raises(RequestError, match=rf"requires the module {module}.*pip install"):
        machine.backend.submit(machine.plan(main=main))
    assert not machine.home.exists()


def _log(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return [logs.LogFile("any", 0, path)]


def test_the_detail_of_a_running_job_comes_from_its_newest_event(tmp_path):
    step = Step(step=12, total_steps=100)
    fetch = Progress(slot="model", done=43, total=100)
    files = _log(
        tmp_path / "log", format_event(attrs.evolve(step, step=11)), f"[default0]:{format_event(step)}", "noise"
    )
    assert logs.detail(JobState.RUNNING, files) == "step 12/100"
    files = _log(tmp_path / "log", "x" * 200_000, format_event(fetch))
    assert logs.detail(JobState.DOWNLOADING, files) == "model, 43%"
    assert logs.detail(JobState.RUNNING, files) == ""
    files = _log(tmp_path / "log", format_event(attrs.evolve(fetch, total=None)))
    assert logs.detail(JobState.DOWNLOADING, files) == "model, 43 bytes"


def test_the_detail_is_of_the_container_that_began_last(tmp_path, monkeypatch):
    said = {
        ("fetch-model", 0): Phase(name="list", text="model: asking"),
        ("check", 0): Phase(name="check", text="reading rows"),
        ("train", 0): Step(step=3, total_steps=9),
        ("train", 1): Step(step=2, total_steps=9),
    }
    files = []
    for (container, worker), event in said.items():
        (tmp_path / f"{container}-{worker}").write_text(f"{format_event(event)}\n")
        files.append(logs.LogFile(container, worker, tmp_path / f"{container}-{worker}"))
    monkeypatch.setattr(record, "log_files", lambda _: files)
    running = Status(state=JobState.RUNNING.value)
    assert record._detail(JobFolder(tmp_path), running) == "step 3/9"
    files.pop()
    files.pop()
    assert record._detail(JobFolder(tmp_path), running) == "reading rows"


def test_a_log_is_read_line_by_line_and_a_line_without_its_break_only_at_the_end(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\r\n\xff\ntwo")
    file = logs.LogFile("train", 1, path)
    assert [line.text for line in file.lines(to_the_end=False)] == ["one", "\ufffd"]
    with path.open("ab") as out:
        out.write(b" and more")
    assert [line.text for line in file.lines(to_the_end=True)] == ["two and more"]
    assert list(file.lines(to_the_end=True)) == []


def test_a_line_that_never_ends_comes_in_pieces(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 3_000_000)
    pieces = [line.text for line in logs.LogFile("train", 0, path).lines(to_the_end=False)]
    assert len(pieces) > 1
    assert all(len(piece) <= 1 << 20 for piece in pieces)


@pytest.mark.slow
def test_a_function_runs_under_torchrun_on_every_rank_and_the_ranks_talk(machine):
    def train(scale):
        import json
        import os

        import torch
        from torch import distributed

        distributed.init_process_group("gloo")
        total = torch.ones(1) * (distributed.get_rank() + 1) * scale
        distributed.all_reduce(total)
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        distributed.destroy_process_group()
        print(json.dumps({**{n: int(os.environ[n]) for n in names}, "total": total.item()}), flush=True)

    job = TrainingClient("local").create_job(
        "ranks",
        train_func=train,
        parameters={"scale": 0.5},
        num_workers=2,
        num_procs_per_worker=2,
        storage={"access_modes": ["ReadWriteMany"]},
        env={"OMP_NUM_THREADS": "1"},
    )
    assert job.wait(timeout=240).state is JobState.SUCCEEDED
    said = [json.loads(line.partition("]:")[2]) for line in job.logs() if line.startswith("[default")]
    assert sorted(rank["RANK"] for rank in said) == [0, 1, 2, 3]
    assert sorted(rank["LOCAL_RANK"] for rank in said) == [0, 0, 1, 1]
    assert {(rank["WORLD_SIZE"], rank["LOCAL_WORLD_SIZE"], rank["total"]) for rank in said} == {(4, 2, 5.0)}
    kept = list((machine.folder("ranks") / "logs" / "ranks").rglob("stdout.log"))
    assert len(kept) == 4
    assert Job("ranks", machine.backend).result is None


@pytest.mark.slow
def test_a_killed_rank_has_all_workers_of_torchrun_started_again(machine):
    def train():
        import os
        import pathlib
        import signal

        import torch
        from torch import distributed

        distributed.init_process_group("gloo")
        begun = pathlib.Path(os.environ["TUNEWRIGHT_WORKSPACE"], "output", "begun")
        if os.environ["RANK"] == "1" and not begun.exists():
            begun.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.all_reduce(torch.ones(1))
        distributed.destroy_process_group()
        print("through", flush=True)

    job = TrainingClient("local").create_job(
        "ranks", train_func=train, num_workers=2, storage={"access_modes": ["ReadWriteMany"]}
    )
    assert job.wait(timeout=240).state is JobState.SUCCEEDED
    assert list(job.logs()).count("[default0]:through") == 2
    assert max(event.attempt for event in job.events() if isinstance(event, Attempt)) == 2
