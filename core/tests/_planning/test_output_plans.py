"""`output=` in plans: what travels, who gets its secrets, what is uploaded when; and what makes no other download."""

import pytest

from tunewright import RequestError, SecretRef, TrainingClient
from tunewright._planning.assemble import assemble
from tunewright.environment import UPLOAD_CHECKPOINTS
from tunewright.plan.plan import ExistingClaim, JobPlan, Mount
from tunewright.providers.wire import WireDocument

TARGET = """
from tunewright.providers.outputs import OutputTarget


@attrs.frozen(kw_only=True)
class Writable(OutputTarget, ModelProvider):
    token: str | SecretRef | None = secret(env="{variable}")

    def download_model(self, target): ...
    def store(self): ...


@hookimpl
def tunewright_model_provider():
    return Writable
"""
GOOD = {"name": "sft", "model": "acme://m", "dataset": "acme://d", "trainer": {"provider": "acme", "key": "t-literal"}}
OUT = {"provider": "out", "uri": "out://bucket/tuned", "token": "o-literal"}
EPHEMERAL = {"ephemeral": True}


@pytest.fixture
def plan_of(client: TrainingClient, site):
    """Plans of jobs that may write to `out://`; `clash://` has its secret in the variable of the trainer's."""
    site.providers("out", extra=TARGET.replace("{variable}", "OUT_TOKEN"))
    site.providers("clash", extra=TARGET.replace("{variable}", "ACME_KEY"))
    client.registry._index = None
    return lambda **options: assemble(client.train_request(**GOOD | options))


def secrets(plan: JobPlan) -> dict[str, dict[str, str]]:
    return {c.name: {k: v.reveal() for k, v in c.secrets.items()} for c in plan.containers if c.secrets}


def test_a_target_that_uploads_travels_as_a_document(plan_of) -> None:
    plan = plan_of(output=OUT)
    document = WireDocument.loads(plan.files["output.json"])
    assert (document.kind, document.provider, document.params) == ("model", "out", {"uri": "out://bucket/tuned"})
    assert plan.output == plan.main.env["TUNEWRIGHT_OUTPUT"] == "out://bucket/tuned"


OWN = """
@attrs.frozen(kw_only=True)
class Own(Trainer):
    def container(self, defaults):
        return attrs.evolve(defaults, command=(*defaults.command[:-3], "/opt/train.py"))


@hookimpl
def tunewright_trainer_provider():
    return Own
"""


def test_a_trainer_with_a_program_of_its_own_is_refused_where_it_would_not_upload(plan_of, client, site) -> None:
    site.providers("own", extra=OWN)
    client.registry._index = None
    trainer = {"provider": "own"}
    assert plan_of(trainer=trainer).main.command[-1] == "/opt/train.py"
    assert plan_of(trainer=trainer, output="pvc://results/tuned").main.command[-1] == "/opt/train.py"
    with pytest.raises(RequestError, match=r"output='out://bucket/tuned': .*the trainer 'own'.*`tunewright push`"):
        plan_of(trainer=trainer, output=OUT)


@pytest.mark.parametrize("output", [None, "pvc://results/tuned"])
def test_without_an_upload_there_is_no_document(plan_of, output: str | None) -> None:
    plan = plan_of(output=output)
    assert "output.json" not in plan.files
    assert UPLOAD_CHECKPOINTS not in plan.main.env


def test_the_outputs_secret_is_where_it_is_uploaded_and_checked(plan_of) -> None:
    both = {"OUT_TOKEN": "o-literal", "ACME_KEY": "t-literal"}
    plan = plan_of(output=OUT)
    assert secrets(plan) == {"check": both, "train": both}
    assert "o-literal" not in repr(plan) + "".join(plan.files.values())


def test_two_credentials_in_one_variable_are_refused(plan_of) -> None:
    clash = {"provider": "clash", "uri": "clash://x", "token": "another"}
    with pytest.raises(
        RequestError, match="output: gives ACME_KEY a different value from the trainer's, but both run in one container"
    ) as caught:
        plan_of(output=clash)
    assert "another" not in str(caught.value)
    assert secrets(plan_of(output=clash | {"token": "t-literal"}))["train"] == {"ACME_KEY": "t-literal"}
    reference = SecretRef(name="acme", key="key")
    trainer = {"provider": "acme", "key": reference}
    assert plan_of(output=clash | {"token": reference}, trainer=trainer).main.env["ACME_KEY"] == reference


@pytest.mark.parametrize(
    ("options", "uploaded"),
    [
        ({}, False),
        ({"storage": EPHEMERAL}, True),
        ({"num_workers": 2}, True),
        ({"num_workers": 2, "storage": {"access_modes": ["ReadWriteMany"]}}, False),
        ({"num_workers": 2, "storage": {"claim": "c", "access_modes": ["ReadOnlyMany"]}}, True),
        ({"storage": {"claim": "c", "access_modes": ["ReadOnlyMany"]}}, False),
        ({"storage": EPHEMERAL, "upload_checkpoints": False}, False),
        ({"upload_checkpoints": True}, True),
    ],
)
def test_checkpoints_are_uploaded_where_the_output_goes_with_the_pod(plan_of, options, uploaded: bool) -> None:
    assert (UPLOAD_CHECKPOINTS in plan_of(output=OUT, **options).main.env) is uploaded


def test_an_output_on_a_claim_is_mounted_there_and_may_be_written(plan_of) -> None:
    plan = plan_of(output="pvc://results/tuned", num_workers=2)
    mount = plan.main.mounts[-1]
    assert mount == Mount(volume="output", path="/workspace/output", sub_path="tuned")
    assert {v.name: v.source for v in plan.volumes}["output"] == ExistingClaim(claim="results")
    assert all(m.read_only for m in plan.main.mounts[:-1])


@pytest.mark.parametrize(
    "output", ["acme://m", "kaggle://models/o/m/f/v", "gitlfs+https://host/org/repo", {"provider": "acme", "uri": "acme://m"}]
)  # fmt: skip
def test_what_cannot_be_written_to_is_refused(plan_of, output: object) -> None:
    uri = output["uri"] if isinstance(output, dict) else output
    with pytest.raises(RequestError, match=r"is not writable\. Write s3://bucket/prefix, hf://") as caught:
        plan_of(output=output)
    assert str(caught.value).startswith(f"output={uri!r}: ")


def test_the_outputs_plugin_is_installed_and_has_its_hook_called(plan_of, site, client) -> None:
    hook = "\n@hookimpl\ndef tunewright_modify_plan(plan):\n    return attrs.evolve(plan, labels={'by': 'hooked'})\n"
    site.providers("hooked", extra=TARGET.replace("{variable}", "H") + hook)
    client.registry._index = None
    plan = plan_of(output="hooked://x")
    assert plan.labels == {"by": "hooked"}
    assert "tunewright-hooked==1.0" in plan.bootstrap.command
    mine = plan_of(output="hooked://x", image="mine:1")
    assert "tunewright-hooked==1.0" not in mine.bootstrap.command, "the user's image holds it"


def test_a_code_jobs_output_is_a_uri_that_its_code_is_told(client: TrainingClient) -> None:
    plan = assemble(client.code_request("code", base_image="a:1", command=["./start"], output="any://thing"))
    assert plan.output == plan.main.env["TUNEWRIGHT_OUTPUT"] == "any://thing"
    assert "output.json" not in plan.files


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [("policy", "always", "'IfNotPresent', 'Always'"), ("policy", None, "'IfNotPresent'"), ("verify", "sha256", "'size', 'full'")],
)  # fmt: skip
def test_policy_and_verify_are_words(client: TrainingClient, field: str, value: object, remedy: str) -> None:
    model = {"provider": "acme", "uri": "acme://m", field: value}
    with pytest.raises(
        RequestError, match=rf"Model\.{field}={value!r}: is not a valid choice\. Write one of .*{remedy}"
    ):
        client.train_request(**GOOD | {"model": model})


def test_how_something_is_fetched_makes_no_other_download(plan_of) -> None:
    def folder(**params: str) -> str:
        model = {"provider": "acme", "uri": "acme://m", **params}
        plan = plan_of(model=model, storage={"claim": "shared", "key": "auto"})
        return plan.main.mounts[0].sub_path

    assert folder() == folder(policy="Always") == folder(verify="full") == folder(token="secret")
    assert folder() != folder(revision="2")


def test_how_something_is_fetched_travels_all_the_same(plan_of) -> None:
    plan = plan_of(model={"provider": "acme", "uri": "acme://m", "policy": "Always", "verify": "full"})
    document = WireDocument.loads(plan.files["model.json"])
    assert document.params == {"uri": "acme://m", "policy": "Always", "verify": "full"}


def test_a_digest_is_of_what_is_asked_for() -> None:
    def digest(kind: str = "model", version: str = "1", provider: str = "p", **params: str) -> str:
        document = WireDocument(kind=kind, provider=provider, distribution="d", version=version, params=params)
        return document.request_digest()

    assert digest(uri="u") == digest(uri="u", version="2") == digest(uri="u", policy="Always", verify="full")
    assert len({digest(uri="u"), digest(uri="v"), digest(uri="u", provider="q"), digest(uri="u", revision="1")}) == 4
    assert digest("trainer", policy="a") != digest("trainer", policy="b"), "a trainer's policy is one it trains"
