"""Assembly: a pure function from a request to a plan, in which each container gets its own and no more."""

import builtins
import json
import socket
import subprocess
from pathlib import Path

import attrs
import pytest

from tunewright import PluginError, RequestError, SecretRef, SecretValue, environment
from tunewright._planning.assemble import assemble
from tunewright.errors import PluginLoadError
from tunewright.plan import images
from tunewright.plan.plan import ContainerSpec, ExistingClaim, JobPlan, Mount
from tunewright.plan.resources import Resources
from tunewright.plugins.wheels import Wheel
from tunewright.providers.wire import WireDocument
from tunewright.runner.source import runner_source

HOOK = """
CALLS = []

@hookimpl
def tunewright_modify_plan(plan, request):
    import attrs, shared_log
    shared_log.calls.append("{name}")
    return attrs.evolve(plan, labels={{**plan.labels, "order": plan.labels.get("order", "x") + ".{name}"}})
"""
PYTHON = ("python", "-m", "tunewright_launcher")
INSTALL = ("python3", "$(TUNEWRIGHT_CONFIG)/run.py", "--install")
PIP = ("python3", "-m", "pip", "install", "--no-cache-dir", "--target", "$(TUNEWRIGHT_PACKAGES)")
SECRETS = {"model": "m-literal", "dataset": "d-literal", "trainer": "t-literal"}


def train_options(**more: object) -> dict[str, object]:
    return {
        "name": "sft",
        "model": {"provider": "acme", "uri": "acme://m", "token": SECRETS["model"]},
        "dataset": {"provider": "acme", "uri": "acme://d", "token": SECRETS["dataset"]},
        "trainer": {"provider": "acme", "key": SECRETS["trainer"]},
        **more,
    }


@pytest.fixture
def plan_of(client):
    return lambda **more: assemble(client.train_request(**train_options(**more)))


@pytest.fixture
def code_plan_of(client):
    return lambda **options: assemble(client.code_request(**{"name": "code", "base_image": "image:1", **options}))


def by_name(plan: JobPlan) -> dict[str, ContainerSpec]:
    return {c.name: c for c in plan.containers}


def test_equal_requests_give_equal_plans(client) -> None:
    first, second = (client.train_request(**train_options(num_workers=1)) for _ in range(2))
    assert assemble(first) == assemble(second)
    assert assemble(first).files == assemble(second).files


def test_an_adapter_is_fetched_as_a_model_with_its_own_credentials(client, plan_of) -> None:
    adapter = {"provider": "acme", "uri": "acme://a", "token": "a-literal"}
    with pytest.raises(RequestError, match="adapter: is given, but this trainer does not continue adapters"):
        plan_of(adapter=adapter)
    request = client.train_request(**train_options())
    source = client.train_request(**train_options(model=adapter)).model
    plan = assemble(attrs.evolve(request, adapter=source))
    found = by_name(plan)
    assert [*found][:4] == ["install-plugins", "fetch-model", "fetch-adapter", "fetch-dataset"]
    tokens = [found[f"fetch-{slot}"].env["ACME_TOKEN"].reveal() for slot in ("model", "adapter")]
    assert tokens == ["m-literal", "a-literal"]
    assert (
        Mount(volume="workspace", path="/workspace/adapter", sub_path="adapter", read_only=True)
        in found["train"].mounts
    )
    assert WireDocument.loads(plan.files["adapter.json"]).kind == "model"
    assert "adapter" in json.loads(plan.files["job.json"])
    assert not set(plan.files) - set(assemble(request).files) - {"adapter.json"}


def test_nothing_is_touched(client, monkeypatch: pytest.MonkeyPatch) -> None:
    request = client.train_request(**train_options())
    assemble(request)  # what is imported and cached on first use is so now

    def touched(*arguments: object, **_: object) -> None:
        pytest.fail(f"assemble() touches {arguments}")

    for home, name in [
        (builtins, "open"),
        (Path, "open"),
        (Path, "exists"),
        (Path, "stat"),
        (socket, "socket"),
        (subprocess, "Popen"),
    ]:
        monkeypatch.setattr(home, name, touched)
    plan = assemble(request)
    monkeypatch.undo()
    assert plan.name == "sft"


def test_the_containers_come_in_their_order_with_the_launchers_commands(plan_of) -> None:
    plan = plan_of(eval_dataset="acme://e")
    assert [c.name for c in plan.containers] == [
        "install-plugins", "fetch-model", "fetch-dataset", "fetch-eval-dataset", "check", "train"
    ]  # fmt: skip
    found = by_name(plan)
    assert found["fetch-model"].command == (*PYTHON, "fetch", "model")
    assert found["fetch-eval-dataset"].command == (*PYTHON, "fetch", "eval_dataset")
    assert found["check"].command == (*PYTHON, "check")
    assert found["train"].command == (
        *PYTHON,
        "run",
        "--",
        "torchrun",
        "--max-restarts=0",
        "-m",
        "tunewright_launcher",
        "train",
    )


def test_each_container_gets_its_own_secrets_and_no_others(plan_of) -> None:
    found = by_name(plan_of(env={"WANDB": SecretValue("w-literal")}, init_env={"PROXY": SecretValue("p-literal")}))
    assert {name: {k: v.reveal() for k, v in c.secrets.items()} for name, c in found.items()} == {
        "install-plugins": {"PROXY": "p-literal"},
        "fetch-model": {"ACME_TOKEN": "m-literal", "PROXY": "p-literal"},
        "fetch-dataset": {"ACME_TOKEN": "d-literal", "PROXY": "p-literal"},
        "check": {"ACME_KEY": "t-literal", "WANDB": "w-literal", "PROXY": "p-literal"},
        "train": {"ACME_KEY": "t-literal", "WANDB": "w-literal"},
    }


def test_the_variables_of_the_providers_secrets_are_named_whether_given_or_not(plan_of) -> None:
    assert plan_of().secret_variables == ("ACME_KEY", "ACME_TOKEN")
    assert plan_of(trainer="hf", model="file:///m", dataset="file:///d").secret_variables == ("HF_TOKEN",)


def test_no_secret_is_in_a_file_a_command_or_a_repr(plan_of) -> None:
    plan = plan_of(eval_dataset="acme://e")
    shown = repr(plan) + json.dumps(dict(plan.files)) + repr([c.command for c in plan.containers])
    assert not [value for value in SECRETS.values() if value in shown]


def test_a_reference_stays_one(plan_of) -> None:
    reference = SecretRef(name="acme", key="token")
    found = by_name(plan_of(model={"provider": "acme", "uri": "acme://m", "token": reference}))
    assert found["fetch-model"].env["ACME_TOKEN"] == reference


def test_the_files_are_the_wire_documents(plan_of) -> None:
    files = plan_of(eval_dataset="acme://e", trainer={"provider": "acme", "rate": 0.5}).files
    assert files["run.py"] == runner_source()
    documents = {name: WireDocument.loads(text) for name, text in files.items() if name not in ("run.py", "job.json")}
    assert {name: (d.kind, d.provider, d.distribution, d.version, d.params) for name, d in documents.items()} == {
        "model.json": ("model", "acme", "tunewright-acme", "1.0", {"uri": "acme://m"}),
        "dataset.json": ("dataset", "acme", "tunewright-acme", "1.0", {"uri": "acme://d"}),
        "eval_dataset.json": ("dataset", "acme", "tunewright-acme", "1.0", {"uri": "acme://e"}),
        "trainer.json": ("trainer", "acme", "tunewright-acme", "1.0", {"rate": 0.5}),
    }


def test_the_job_file_is_among_the_files_and_names_secrets_without_their_values(plan_of) -> None:
    trainer = {"provider": "acme", "rate": 0.5, "key": "s3cret"}
    plan = plan_of(
        trainer=trainer, env={"A": SecretValue("s3cret"), "B": SecretRef(name="n", key="k"), "C": "c"}, ttl=60
    )
    document = json.loads(plan.files["job.json"])
    assert list(document)[:4] == ["name", "model", "dataset", "trainer"]
    assert document["trainer"] == {"provider": "acme", "rate": 0.5, "key": {"env": "ACME_KEY"}}
    assert document["env"] == {"A": {"env": "A"}, "B": {"secret": "n", "key": "k"}, "C": "c"}
    assert (document["model"]["uri"], document["ttl"], "num_workers" in document) == ("acme://m", 60, False)
    assert "s3cret" not in str(plan.files)


def test_fetchers_write_the_volume_and_the_trainer_reads_each_slot_and_writes_its_output(plan_of) -> None:
    found = by_name(plan_of())
    assert (
        found["fetch-model"].mounts == found["fetch-dataset"].mounts == (Mount(volume="workspace", path="/workspace"),)
    )
    expected = (
        Mount(volume="workspace", path="/workspace/model", sub_path="model", read_only=True),
        Mount(volume="workspace", path="/workspace/dataset", sub_path="dataset", read_only=True),
        Mount(volume="workspace", path="/workspace/output", sub_path="output"),
    )
    assert found["check"].mounts == found["train"].mounts == expected


def test_a_key_puts_the_inputs_into_a_folder_named_by_what_is_fetched(plan_of) -> None:
    storage = {"claim": "shared", "key": "auto"}
    plan, other = plan_of(storage=storage), plan_of(storage=storage, model="acme://other")
    folder = by_name(plan)["fetch-model"].mounts[0].sub_path
    assert len(folder) == 16
    assert by_name(plan)["train"].mounts[0].sub_path == f"{folder}/model"
    assert by_name(plan)["train"].mounts[-1].sub_path == "jobs/sft/output"
    assert by_name(other)["fetch-model"].mounts[0].sub_path != folder
    same = plan_of(
        name="another", storage=storage, num_workers=1, trainer={"provider": "acme", "rate": 0.5}, env={"A": "1"}
    )
    assert by_name(same)["fetch-model"].mounts[0].sub_path == folder


def test_jobs_with_the_same_model_and_other_data_share_the_model(plan_of) -> None:
    storage = {"claim": "shared", "key": "auto"}
    plan, other = plan_of(storage=storage), plan_of(storage=storage, dataset="acme://other")
    folders = [{m.path: m.sub_path for m in by_name(p)["train"].mounts} for p in (plan, other)]
    assert folders[0]["/workspace/model"] == folders[1]["/workspace/model"]
    assert folders[0]["/workspace/dataset"] != folders[1]["/workspace/dataset"]


@pytest.mark.parametrize(
    ("workers", "own_store"), [({"num_workers": 1}, None), ({"num_workers": 2}, "1"), ({"elastic": (1, 3)}, "1")]
)
def test_workers_that_may_meet_again_do_not_share_torchruns_store(plan_of, workers, own_store: str | None) -> None:
    plan = plan_of(**{"num_workers": 1, "storage": {"access_modes": ["ReadWriteMany"]}, **workers})
    assert plan.main.env.get("TORCH_DISABLE_SHARE_RDZV_TCP_STORE") == own_store


def test_a_secret_does_not_change_the_folder(plan_of) -> None:
    storage = {"claim": "shared", "key": "auto"}
    plans = plan_of(storage=storage), plan_of(storage=storage, model="acme://m")
    assert len({by_name(p)["train"].mounts[0].sub_path for p in plans}) == 1


def test_what_lies_on_a_claim_is_mounted_and_not_fetched(plan_of) -> None:
    plan = plan_of(model="pvc://models/llama", dataset="acme://d", eval_dataset="pvc://data")
    assert [c.name for c in plan.init_containers] == ["fetch-dataset", "check"]
    assert {v.name: v.source for v in plan.volumes}["source-model"] == ExistingClaim(claim="models", read_only=True)
    assert Mount(volume="source-model", path="/workspace/model", sub_path="llama", read_only=True) in plan.main.mounts
    assert Mount(volume="source-eval-dataset", path="/workspace/eval_dataset", read_only=True) in plan.main.mounts
    assert {m.volume for c in plan.containers for m in c.mounts} == {v.name for v in plan.volumes}


def test_inputs_on_a_claim_that_can_only_be_read_are_mounted_so(plan_of) -> None:
    plan = plan_of(storage={"claim": "data", "access_modes": "ReadOnlyMany"})
    assert all(m.read_only for c in plan.init_containers[:-1] for m in c.mounts)
    assert [v.name for v in plan.volumes] == ["inputs", "output"]
    assert by_name(plan)["train"].mounts[-1] == Mount(volume="output", path="/workspace/output", sub_path="output")


@pytest.mark.parametrize("key", [None, "team/llama", "auto"])
def test_a_claim_that_can_only_be_read_is_mounted_whole_and_each_step_told_where_the_slots_are(plan_of, key) -> None:
    # For a folder that is missing there, a kubelet would wait for ever.
    plan = plan_of(storage={"claim": "data", "access_modes": "ReadOnlyMany", "key": key})
    whole = Mount(volume="inputs", path="/workspace/prepared", read_only=True)
    steps = by_name(plan)
    names = ("fetch-model", "fetch-dataset", "check", "train")
    assert {name: [m for m in steps[name].mounts if m.volume == "inputs"] for name in names} == {
        n: [whole] for n in names
    }
    folders = {steps[name].env[environment.slot_variable("model")] for name in names}
    assert len(folders) == 1
    folder = folders.pop()
    assert folder.startswith("/workspace/prepared/")
    assert folder.endswith("/model")
    if key != "auto":
        assert folder == "/workspace/prepared/" + "/".join(filter(None, (key, "model")))
    paths = {f"TUNEWRIGHT_{name}": "/x" for name in ("WORKSPACE", "CONFIG", "RUN", "PACKAGES", "TERMINATION_LOG")}
    read = environment.Paths.read({**paths, **plan.main.env})
    assert (read.slot("model"), read.slot("output")) == (Path(folder), Path("/x/output"))


def test_the_trainer_gets_the_resources_and_nobody_else_the_gpu(plan_of) -> None:
    plan = plan_of(resources_per_worker={"gpu": 4, "memory": "16Gi"}, num_procs_per_worker="auto")
    assert plan.main.resources == Resources(gpu=4, memory="16Gi")
    assert plan.num_procs_per_worker == 4
    assert [c.resources for c in plan.init_containers] == [None] * 3


def test_the_trainers_image_follows_gpu_plugin_and_user_in_this_order(plan_of, site, client) -> None:
    site.providers("imaged", extra="\nTrainer.image = 'acme/trainer:1'\nModel.image = 'acme/model:1'\n")
    client.registry._index = None
    assert plan_of().main.image == images.trainer(gpus=0)
    assert plan_of(resources_per_worker={"gpu": 1}).main.image == images.trainer(gpus=1)
    imaged = plan_of(model="imaged://m", trainer="imaged", resources_per_worker={"gpu": 1})
    assert {c.name: c.image for c in imaged.containers} == {
        "install-plugins": images.storage(), "fetch-model": "acme/model:1", "fetch-dataset": images.storage(),
        "check": "acme/trainer:1", "train": "acme/trainer:1",
    }  # fmt: skip
    mine = plan_of(trainer="imaged", image="mine:1")
    assert mine.main.image == by_name(mine)["check"].image == "mine:1"


def test_all_images_of_core_are_pinned() -> None:
    for image in (images.storage(), images.trainer(gpus=0), images.trainer(gpus=1)):
        assert image.endswith(f":{images.VERSION}")


def test_images_are_looked_for_in_the_users_own_registry(plan_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_IMAGES", "registry.example:5000/ml/")
    found = {container.image for container in plan_of().containers}
    assert found == {f"registry.example:5000/ml/{name}:{images.VERSION}" for name in ("storage", "trainer-cpu")}


def test_foreign_plugins_are_installed_in_their_version_with_their_extra(plan_of) -> None:
    boot = plan_of().bootstrap
    assert boot.command == (
        *INSTALL, "install-plugins", "--", *PIP, "--", "tunewright-acme[fetch,train]==1.0",
    )  # fmt: skip
    assert boot.image == images.storage()
    assert boot.env == {}


def test_a_wheel_of_what_is_installed_travels_with_the_job(client) -> None:
    wheel = Wheel(name="tunewright_acme-1.0+local-py3-none-any.whl", data=b"a wheel")
    plan = assemble(client.train_request(**train_options()), {"tunewright-acme": wheel})
    url = f"file:///tmp/tunewright-wheels/tunewright_acme-1.0%2Blocal-py3-none-any.whl#sha256={wheel.sha256}"
    assert plan.bootstrap.command[-1] == f"tunewright-acme[fetch,train] @ {url}"
    assert json.loads(plan.files["wheels.json"]) == {wheel.name: wheel.text}


def test_what_the_images_hold_is_not_installed(plan_of, site, client) -> None:
    site.providers("imaged", extra="\nTrainer.image = Model.image = Data.image = 'acme:1'\n")
    client.registry._index = None
    assert plan_of(model="file:///m", dataset="file:///d", trainer="hf").bootstrap is None
    assert plan_of(model="imaged://m", dataset="imaged://d", trainer="imaged").bootstrap is None
    mine = plan_of(model="file:///m", dataset="file:///d", trainer="acme", image="mine:1")
    assert mine.bootstrap is None
    assert "run.py" not in mine.files


def test_the_runs_settings_are_in_the_trainers_environment(plan_of) -> None:
    plan = plan_of(
        num_workers=2,
        num_procs_per_worker=3,
        max_restarts=7,
        deadline=60,
        wait_for="2m",
        output="file:///out",
        env={"A": "$(B) `x`"},
    )
    expected = {
        "TUNEWRIGHT_MAX_RESTARTS": "7", "TUNEWRIGHT_DEADLINE": "60", "TUNEWRIGHT_OUTPUT": "file:///out",
        "TUNEWRIGHT_WORLD_SIZE": "6", "A": "$(B) `x`",
    }  # fmt: skip
    assert expected.items() <= dict(plan.main.env).items()
    elastic = plan_of(elastic=(1, 3), output="file:///out")
    assert "TUNEWRIGHT_WORLD_SIZE" not in elastic.main.env
    assert "TUNEWRIGHT_DEADLINE" not in elastic.main.env


def test_everything_that_the_user_says_of_the_job_reaches_the_plan(plan_of) -> None:
    said = {
        "num_workers": 2, "elastic": (1, 3), "labels": {"a": "b"}, "annotations": {"c": "d"},
        "output": "file:///out", "pod_overrides": {"spec": {"hostNetwork": True}},
    }  # fmt: skip
    run_policy = {"max_restarts": 5, "deadline": 60, "wait_for": 120, "ttl": 30, "suspend": True}
    scheduling = {
        "queue": "team", "priority_class": "high", "node_selector": {"zone": "a"}, "tolerations": ({"key": "gpu"},),
        "affinity": {"nodeAffinity": {}}, "runtime_class": "nvidia", "service_account": "runner", "image_pull_secrets": ("login",),
        "scheduling_policy": {"minAvailable": 2}, "topology_spread_constraints": ({"maxSkew": 1},),
        "host_network": True, "shm_size": "8Gi", "tmp_size": "20Gi",
    }  # fmt: skip
    plan = plan_of(**said, **run_policy, **scheduling)
    assert {name: getattr(plan, name) for name in said} == said
    assert attrs.asdict(plan.run_policy) == run_policy
    assert scheduling.items() <= attrs.asdict(plan.scheduling, recurse=False).items()


def test_a_thousand_workers_are_a_number(plan_of) -> None:
    few, many = (
        plan_of(num_workers=4, output="file:///out"),
        plan_of(num_workers=1000, output="file:///out"),
    )
    same = {"main": few.main, "init_containers": few.init_containers, "files": few.files}
    assert attrs.evolve(many, num_workers=4, **same) == few
    assert many.files["job.json"].replace('"num_workers":1000', '"num_workers":4') == few.files["job.json"]
    assert len(many.containers) == len(few.containers)


def test_the_hook_is_called_for_the_selected_plugins_once_each_in_their_order(plan_of, site, client) -> None:
    site.install("shared-log", {}, shared_log="calls = []")
    for name in ("mod", "dat", "eva", "tra", "other"):
        site.providers(name, extra=HOOK.format(name=name))
    client.registry._index = None
    plan = plan_of(model="mod://m", dataset="dat://d", eval_dataset="eva://e", trainer="tra")
    import shared_log

    assert shared_log.calls == ["mod", "dat", "eva", "tra"]
    assert plan.labels["order"] == "x.mod.dat.eva.tra"
    shared_log.calls.clear()
    assert plan_of(model="dat://m", dataset="dat://d", trainer="tra").labels["order"] == "x.dat.tra"
    assert shared_log.calls == ["dat", "tra"]


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        (
            "return 'a plan'",
            PluginLoadError,
            "'odd' of distribution tunewright-odd violates the plugin contract: its hook .* returned str",
        ),
        ("attrs.evolve(plan)", PluginLoadError, "'odd' .* returned NoneType, not a JobPlan; it has to return the plan"),
        (
            "return attrs.evolve(plan, labels={'bad label!': 'x'})",
            PluginLoadError,
            "'odd' of .* a plan that no cluster accepts: labels.*bad label!",
        ),
        ("return attrs.evolve(plan, main=None)", PluginLoadError, "its main is a NoneType, not a ContainerSpec"),
        (
            "return attrs.evolve(plan, main=attrs.evolve(plan.main, env={**plan.main.env, 'N': 1}))",
            PluginLoadError,
            "the variable N of container 'train' is a int, not a string",
        ),
        (
            "from tunewright.plan import Mount\n"
            "    main = attrs.evolve(plan.main, mounts=(*plan.main.mounts, Mount(volume='lost', path='/lost')))\n"
            "    return attrs.evolve(plan, main=main)",
            PluginLoadError,
            "container 'train' mounts the volume 'lost', which the plan does not have",
        ),
        (
            "return attrs.evolve(plan, init_containers=[*plan.init_containers, plan.main])",
            PluginLoadError,
            "it has two containers called 'train'",
        ),
        (
            "return attrs.evolve(plan, pod_overrides={'spec': {1: 2}})",
            PluginLoadError,
            "pod_overrides.*must be a string",
        ),
        ("raise type('Panic', (BaseException,), {})('x')", PluginLoadError, "'odd' .* raised Panic: x"),
        ("raise KeyError('x')", PluginLoadError, "its hook tunewright_modify_plan raised KeyError: 'x'"),
        (
            "from tunewright import RequestError\n    raise RequestError('not so', field='a', remedy='So.')",
            RequestError,
            "a: not so. So.",
        ),
    ],
)
def test_a_hook_that_fails_names_its_plugin_and_one_that_refuses_is_heard(
    plan_of, site, client, *, body, error, says
) -> None:
    site.providers("odd", extra=f"\n@hookimpl\ndef tunewright_modify_plan(plan, request):\n    {body}\n")
    client.registry._index = None
    with pytest.raises(error, match=says):
        plan_of(trainer="odd")


def test_a_validator_of_attrs_refuses_a_value_as_ours_do(plan_of, site, client) -> None:
    site.providers("odd")
    module = site.folder / "tw_odd.py"
    field = "rate: float = attrs.field(default=0.1, validator=attrs.validators.gt(0))"
    module.write_text(module.read_text().replace("rate: float = 0.1", field))
    client.registry._index = None
    with pytest.raises(RequestError, match=r"trainer: is refused by Trainer: ValueError: 'rate' must be > 0"):
        plan_of(trainer={"provider": "odd", "rate": -1})


def test_a_trainer_whose_own_code_fails_is_named(plan_of, site, client) -> None:
    site.providers("odd")
    module = site.folder / "tw_odd.py"
    fault = "    def for_model(self, model): raise ZeroDivisionError('by me')\n\n    def train"
    module.write_text(module.read_text().replace("    def train", fault))
    client.registry._index = None
    with pytest.raises(PluginError, match=r"'odd' .* raised ZeroDivisionError: by me\. Report it .* tunewright-odd"):
        plan_of(trainer="odd")


COMPANY = """
always = True

@hookimpl
def tunewright_modify_plan(plan, request):
    return attrs.evolve(plan, labels={**plan.labels, "team": "research", "seen": str(len(plan.labels))})
"""


def test_a_company_wide_plugin_changes_the_plan_of_every_job(plan_of, code_plan_of, site, client, tmp_path) -> None:
    site.providers("policy", extra=COMPANY)
    site.providers("own", extra=COMPANY.replace("always", "never").replace("team", "own"))
    client.registry._index = None
    assert plan_of().labels["team"] == "research"
    (tmp_path / "train.py").write_text("print(1)")
    assert code_plan_of(script=tmp_path / "train.py").labels["team"] == "research"
    assert plan_of(trainer="own").labels["seen"] == "2"  # it has the last word
    assert plan_of(trainer="policy").labels["seen"] == "0"  # selected too, and called once


def test_a_plugin_may_shape_its_containers(plan_of, site, client) -> None:
    site.providers("shaped")
    module = site.folder / "tw_shaped.py"
    text = module.read_text().replace(
        "    def download_dataset",
        "    def init_container(self, defaults):\n        return attrs.evolve(defaults, image='s:1')\n\n    def download_dataset",
    )
    shape = "    def container(self, defaults):\n        return attrs.evolve(defaults, command=('mine', str(self.rate)))\n\n    def train"
    module.write_text(text.replace("    def train", shape))
    client.registry._index = None
    found = by_name(plan_of(dataset="shaped://d", trainer="shaped"))
    assert found["fetch-dataset"].image == "s:1"
    assert found["train"].command == ("mine", "0.1")
    assert found["check"].command == (*PYTHON, "check")


def test_a_plugin_that_shapes_no_container_is_named(plan_of, site, client) -> None:
    site.providers("odd")
    module = site.folder / "tw_odd.py"
    module.write_text(
        module.read_text().replace("    def train", "    def container(self, defaults): return {}\n\n    def train")
    )
    client.registry._index = None
    with pytest.raises(
        PluginError, match=r"'odd' .* its container\(\) returned a dict, not a ContainerSpec.*author of tunewright-odd"
    ):
        plan_of(trainer="odd")


@pytest.mark.parametrize(
    ("change", "says"), [("image=''", "container 'train' has no image"), ("env={'A': 3}", "the variable A of container 'train' is a int")]
)  # fmt: skip
def test_a_plugin_that_shapes_a_container_that_cannot_be_is_named(
    plan_of, site, client, change: str, says: str
) -> None:
    site.providers("odd")
    module = site.folder / "tw_odd.py"
    shape = f"    def container(self, defaults): return attrs.evolve(defaults, {change})\n\n    def train"
    module.write_text(module.read_text().replace("    def train", shape))
    client.registry._index = None
    with pytest.raises(
        PluginError, match=rf"'odd' .* its container\(\) returned a container that no cluster accepts: {says}"
    ):
        plan_of(trainer="odd")


def test_a_plugin_that_fails_to_shape_a_container_is_named(plan_of, site, client) -> None:
    site.providers("odd")
    module = site.folder / "tw_odd.py"
    fault = "    def container(self, defaults): raise SystemExit\n\n    def train"
    module.write_text(module.read_text().replace("    def train", fault))
    client.registry._index = None
    with pytest.raises(PluginError, match=r"'odd' .* its container\(\) raised SystemExit"):
        plan_of(trainer="odd")


def test_a_script_runs_under_the_runner_and_torchrun_with_its_arguments_to_the_letter(code_plan_of, tmp_path) -> None:
    (tmp_path / "train.py").write_text("print(1)")
    plan = code_plan_of(script=tmp_path / "train.py", args=["--text", "$HOME $(A) $$ `x`", 3])
    assert plan.main.command == (
        "python3", "$(TUNEWRIGHT_CONFIG)/run.py", "--", "torchrun", "--max-restarts=0", "$(TUNEWRIGHT_CONFIG)/train.py",
        "--text", "$$HOME $$(A) $$$$ `x`", "3",
    )  # fmt: skip
    assert {name: text for name, text in plan.files.items() if name != "job.json"} == {
        "train.py": "print(1)",
        "run.py": runner_source(),
    }
    assert json.loads(plan.files["job.json"])["script"] == "train.py"
    assert not plan.self_starting
    assert plan.init_containers == ()


def test_a_command_runs_under_the_runner_and_an_image_alone_as_it_is(code_plan_of) -> None:
    plan = code_plan_of(command=["./start", "$(RANK)"], args=["--fast"])
    assert plan.main.command == ("python3", "$(TUNEWRIGHT_CONFIG)/run.py", "--", "./start", "$(RANK)", "--fast")
    assert plan.self_starting
    alone = code_plan_of()
    assert alone.main.command == ()
    assert alone.main.image == "image:1"
    assert alone.self_starting


def test_packages_are_installed_first_with_the_init_containers_environment(code_plan_of, tmp_path) -> None:
    (tmp_path / "train.py").write_text("")
    index = SecretRef(name="pip", key="url")
    plan = code_plan_of(
        script=tmp_path / "train.py",
        packages_to_install=["einops", "--evil"],
        pip_index_url="https://host/simple",
        init_env={"PIP_INDEX_URL": index},
    )
    (install,) = plan.init_containers
    assert install.command == (
        *INSTALL, "install-packages", "--", *PIP, "--index-url", "https://host/simple", "--", "einops", "--evil"
    )  # fmt: skip
    assert (install.image, install.env) == (
        "image:1",
        {"PIP_INDEX_URL": index, "TUNEWRIGHT_SECRETS": "PIP_INDEX_URL"},
    )


def test_packages_are_refused_where_nothing_would_see_that_they_are_missing(client, code_plan_of) -> None:
    with pytest.raises(RequestError, match=r"packages_to_install: .*image's own entry point.*Give command="):
        code_plan_of(packages_to_install=["einops"])
    assert code_plan_of(packages_to_install=["einops"], command=["./start"]).init_containers


def test_run_is_told_which_variables_hold_secrets(plan_of) -> None:
    found = by_name(plan_of(env={"WANDB": SecretValue("w"), "PLAIN": "x", "REF": SecretRef(name="a", key="b")}))
    named = {name: c.env.get("TUNEWRIGHT_SECRETS") for name, c in found.items()}
    assert named == {
        "install-plugins": None, "fetch-model": "ACME_TOKEN", "fetch-dataset": "ACME_TOKEN",
        "check": "WANDB,REF,ACME_KEY", "train": "WANDB,REF,ACME_KEY",
    }  # fmt: skip


def test_a_code_job_keeps_its_output(code_plan_of) -> None:
    plan = code_plan_of(num_workers=2, storage={"access_modes": "ReadWriteMany"})
    assert plan.main.mounts == (Mount(volume="workspace", path="/workspace/output", sub_path="output"),)
    assert [v.name for v in plan.volumes] == ["workspace"]


def test_the_users_environment_reaches_a_code_job(code_plan_of) -> None:
    env = code_plan_of(env={"A": "1", "B": SecretValue("x")}, max_restarts=1).main.env
    assert (env["A"], env["B"], env["TUNEWRIGHT_MAX_RESTARTS"]) == ("1", SecretValue("x"), "1")


def test_only_requests_are_assembled(client) -> None:
    with pytest.raises(TypeError, match="Not a request that can be assembled: str"):
        assemble("request")  # type: ignore[arg-type]
