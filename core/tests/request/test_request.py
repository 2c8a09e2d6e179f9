"""Bad input: refused before anything is created, with the field, the value and the remedy; and the caller's objects stay."""

import copy
import inspect

import attrs
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tunewright import PluginLoadError, PluginNotFound, RequestError, Resources, SecretRef, SecretValue
from tunewright._client.client import CodeOptions, JobOptions, TrainOptions
from tunewright.plan.resources import as_resources
from tunewright.request.request import POLICIES, CodeRequest, Request, generated_name, with_policies

TOKEN = "hf_" + "aB3" * 12
GOOD = {"model": "acme://m", "dataset": "acme://d", "trainer": "acme"}

BAD = [
    # field, value, what the message says of it
    ("num_workers", 0, "must be at least 1. Give the number of pods"),
    ("num_workers", -3, "must be at least 1"),
    ("num_workers", "3", "must be a whole number"),
    ("num_workers", 1.5, "must be a whole number"),
    ("num_workers", True, "must be a whole number"),
    ("num_procs_per_worker", "auto", 'has no meaning without GPUs: .* with GPUs, "auto" means one for each'),
    ("num_procs_per_worker", 0, "must be at least 1"),
    ("num_procs_per_worker", "two", "must be a whole number"),
    ("name", "Bad_Name!", "is not a valid Kubernetes name.*lower-case letters, digits and hyphens"),
    ("name", "1st", "is not a valid Kubernetes name"),
    ("name", "a-", "is not a valid Kubernetes name"),
    ("name", "", "is not a valid Kubernetes name"),
    ("name", "a\n", "is not a valid Kubernetes name"),
    ("name", 3, "is not a valid Kubernetes name"),
    ("name", "a" * 51, "has 51 characters. Use at most 50"),
    ("output", "bucket/prefix", r"is n\w+ a URI.* Write .*://bucket/prefix"),
    ("image", "", "is not an image reference. Write registry/repository:tag"),
    ("image", " a:1", "is not an image reference"),
    ("image", "a b:c", "is not an image reference"),
    ("image", "host/Image:1", "is not an image reference"),
    ("image", "a:1:2", "is not an image reference"),
    ("image", "a:", "is not an image reference"),
    ("elastic", (3, 1), "is not a range of workers.*elastic=\\(1, 3\\)"),
    ("elastic", (0, 1), "is not a range of workers"),
    ("elastic", 3, "is not a range of workers"),
    ("elastic", (True, 2), "is not a range of workers"),
    ("elastic", (2, 4), "does not contain num_workers=1"),
    ("max_restarts", -1, "must be at least 0. Write 0 to fail"),
    ("ttl", -1, "must be at least 0. Give seconds"),
    ("ttl", "soon", "must be a whole number. Give seconds, or a number with a unit"),
    ("ttl", 1.5, "must be a whole number"),
    ("deadline", 0, "must be at least 1"),
    ("suspend", "no", "must be True or False. Write True or False"),
    ("shm_size", "8 GB", "is not a quantity. Write a Kubernetes quantity"),
    ("tmp_size", 0, "must be more than 0"),
    ("host_network", "yes", "must be True or False. Write True or False"),
    ("queue", "Team A", "is not a valid Kubernetes name"),
    ("priority_class", "High!", "is not a valid Kubernetes name"),
    ("runtime_class", 3, "is not a valid Kubernetes name"),
    ("service_account", "a/b", "is not a valid Kubernetes name"),
    ("image_pull_secrets", "registry-login", 'must be a list. Write image_pull_secrets=\\["registry-login"\\]'),
    ("tolerations", {"key": "gpu"}, "must be a list. Write tolerations="),
    ("affinity", "zone-a", "must be a dict"),
    (
        "topology_spread_constraints",
        {"maxSkew": 1},
        "must be a list. Write topology_spread_constraints=.*whenUnsatisfiable",
    ),
    ("scheduling_policy", ["queue"], "must be a dict"),
    ("pod_overrides", "spec", "must be a dict. Write {name: value}"),
    ("node_selector", ["gpu"], "must be a dict"),
    ("env", ["A=1"], "must be a dict"),
    ("labels", "a=b", "must be a dict"),
    ("resources_per_worker", 8, 'must be a dict. Give a dict such as {"gpu": 1'),
]

# field, value, the part of the field that the message begins with
BAD_INSIDE = [
    ("resources_per_worker", {"memory": "16 gigs"}, "resources_per_worker['memory']='16 gigs': is not a quantity"),
    ("resources_per_worker", {"cpu": 0}, "resources_per_worker['cpu']=0: must be more than 0"),
    ("resources_per_worker", {"gpu": 0.5}, "resources_per_worker['gpu']=0.5: is not a whole number. A GPU cannot be split"),
    ("resources_per_worker", {"gpu": -1}, "resources_per_worker['gpu']=-1: is not a whole number"),
    ("resources_per_worker", {"gpus": 1}, "resources_per_worker={'gpus': 1}: has an unknown resource 'gpus'"),
    ("resources_per_worker", {"gpu": 1, "nvidia.com/gpu": 2}, "resources_per_worker['nvidia.com/gpu']: means the same as 'gpu'"),
    ("resources_per_worker", {"rdma/hca": "x"}, "resources_per_worker['rdma/hca']='x': is not a quantity"),
    ("resources_per_worker", {"rdma/hca": 0.5}, "resources_per_worker['rdma/hca']=0.5: is not a whole number"),
    ("resources_per_worker", {"rdma/hca": "1500m"}, "resources_per_worker['rdma/hca']='1500m': is not a whole number"),
    ("resources_per_worker", {"rdma/hca": 2, "requests": {"rdma/hca": 1}}, "resources_per_worker['requests']['rdma/hca']=1: is not the limit, which is 2"),
    ("resources_per_worker", {"requests": {"nvidia.com/gpu": 1}}, "resources_per_worker['requests']['nvidia.com/gpu']=1: is not the limit, which is 0"),
    ("resources_per_worker", {"requests": {"hugepages-2Mi": "4Mi"}}, "resources_per_worker['requests']['hugepages-2Mi']='4Mi': is not the limit"),
    ("resources_per_worker", {"requests": "1"}, "resources_per_worker['requests']='1': must be a dict"),
    ("resources_per_worker", {"requests": {"cpu": "x"}}, "resources_per_worker['requests']['cpu']='x': is not a quantity"),
    ("resources_per_worker", {"requests": {"mem": 1}}, "resources_per_worker={'requests': {'mem': 1}}: has an unknown resource 'mem'"),
    ("resources_per_worker", {"extended": {"mem": 1}}, "resources_per_worker={'extended': {'mem': 1}}: has an unknown resource 'mem'"),
    ("env", {"A": 1}, "env['A']=1: must be a string. Write \"1\"."),
    ("env", {"A": None}, "env['A']=None: must be a string"),
    ("env", {"A B": "1"}, "env['A B']: is not a valid variable name"),
    ("env", {"": "1"}, "env['']: is not a valid variable name"),
    ("init_env", {"1A": "1"}, "init_env['1A']: is not a valid variable name"),
    ("labels", {"a": 1}, "labels['a']=1: must be a string"),
    ("labels", {"a": "b c"}, "labels['a']='b c': is not a valid label value"),
    ("labels", {"a": "x" * 64}, "labels['a']='xxx"),
    ("labels", {"a b": "c"}, "labels['a b']: is not a valid Kubernetes name"),
    ("labels", {"a/b/c": "c"}, "labels['a/b/c']: is not a valid Kubernetes name"),
    ("annotations", {"a": True}, "annotations['a']=True: must be a string"),
    ("annotations", {"-a": "x"}, "annotations['-a']: is not a valid Kubernetes name"),
    ("node_selector", {"gpu": True}, "node_selector['gpu']=True: must be a string"),
    ("node_selector", {"zone": "a b"}, "node_selector['zone']='a b': is not a valid label value"),
    ("tolerations", ["gpu"], "tolerations[0]='gpu': must be a dict"),
    ("image_pull_secrets", [3], "image_pull_secrets[0]=3: must be a str"),
    ("pod_overrides", {"spec": {1: 2}}, "pod_overrides['spec'][1]: must be a string"),
    ("pod_overrides", {"spec": {"a": [object]}}, "pod_overrides['spec']['a'][0]: is a type, which YAML cannot represent"),
    ("pod_overrides", {"spec": {"a": SecretValue("s3cret")}}, "pod_overrides['spec']['a']: is a SecretValue"),
    ("affinity", {"a": {1, 2}}, "affinity['a']: is a set"),
    ("storage", {"size": "16 gigs"}, "storage.size='16 gigs': is not a quantity"),
]  # fmt: skip


@pytest.fixture(params=["train", "create_job"])
def request_of(request, client):
    """Makes a request of some options, by either method."""
    if request.param == "train":
        return lambda **options: client.train_request(**GOOD, **options)
    return lambda **options: client.code_request(base_image="registry/image:1", command=["./start"], **options)


@pytest.mark.parametrize(("field", "value", "says"), BAD)
def test_bad_values_are_refused_with_field_value_and_remedy(request_of, field: str, value: object, says: str) -> None:
    if field == "image":
        request_of = lambda image: CodeRequest(name="a", image=image)  # noqa: E731 - create_job() has base_image for it
    with pytest.raises(RequestError, match=says) as caught:
        request_of(**{field: value})
    assert str(caught.value).startswith(f"{field}={value!r}: ")
    assert str(caught.value).endswith(f" {caught.value.remedy}")
    assert caught.value.field == field
    assert len(caught.value.remedy) > 5


@pytest.mark.parametrize(("field", "value", "says"), BAD_INSIDE)
def test_bad_values_inside_are_refused_where_they_are(request_of, field: str, value: object, says: str) -> None:
    with pytest.raises(RequestError) as caught:
        request_of(**{field: value})
    assert str(caught.value).startswith(says)
    assert "s3cret" not in str(caught.value)
    assert len(caught.value.remedy) > 5


@pytest.mark.parametrize(
    "options",
    [
        {"env": {"A": TOKEN}}, {"env": {"A": f"--token={TOKEN}"}}, {"init_env": {"A": TOKEN}}, {"labels": {"a": TOKEN}},
        {"annotations": {"a": TOKEN}}, {"node_selector": {"a": TOKEN}}, {"tolerations": [{"value": TOKEN}]},
        {"topology_spread_constraints": [{"topologyKey": TOKEN}]},
        {"affinity": {"a": [TOKEN]}}, {"scheduling_policy": {"queue": TOKEN}},
        {"pod_overrides": {"spec": {"containers": [{"name": "pytorch", "env": [{"name": "T", "value": TOKEN}]}]}}},
    ],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_a_token_in_a_field_not_meant_for_it_is_refused_and_not_repeated(
    request_of, options: dict[str, object]
) -> None:
    with pytest.raises(RequestError, match="looks like a literal token") as caught:
        request_of(**options)
    assert str(caught.value).startswith(next(iter(options)))
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "WANDB_API_KEY",
        "DB_PASSWORD",
        "PGPASSWORD",
        "HF_TOKEN",
        "TOKEN",
        "KAGGLE_KEY",
        "client_secret",
    ],
)
@pytest.mark.parametrize("field", ["env", "init_env"])
def test_plain_text_for_a_variable_that_is_called_a_secret_is_refused_and_not_repeated(
    request_of, field: str, name: str
) -> None:
    with pytest.raises(
        RequestError, match=rf"{field}\['{name}'\]: is named like a secret.*SecretRef.*job file"
    ) as caught:
        request_of(**{field: {name: "0f3ab9c2"}})
    assert "0f3ab9c2" not in str(caught.value)
    for value in ("", SecretValue("0f3ab9c2"), SecretRef(name="a", key="b")):
        assert getattr(request_of(**{field: {name: value}}), field)[name] == value


@pytest.mark.parametrize("field", ["env", "init_env"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TUNEWRIGHT_FETCH_RATE", "fast"), ("TUNEWRIGHT_FETCH_RATE", "-5"), ("TUNEWRIGHT_FETCH_STALL", "-1"),
        ("TUNEWRIGHT_FETCH_STALL", "0"), ("TUNEWRIGHT_FETCH_STALL", "nan"), ("TUNEWRIGHT_FETCH_CONNECTIONS", "inf"),
        ("TUNEWRIGHT_FETCH_CONNECTIONS", "0.5"), ("TUNEWRIGHT_RETRY_FOR", "inf"),
    ],
)  # fmt: skip
def test_limits_of_a_fetch_that_make_no_sense_are_refused(request_of, field: str, name: str, value: str) -> None:
    with pytest.raises(RequestError, match=rf"{field}: {name}='{value}' is not a number of at least "):
        request_of(**{field: {name: value}})
    request_of(**{field: {name: "1"}})


@pytest.mark.parametrize(
    "image",
    [
        "a", "a:1", "org/image", "localhost:5000/a/b_c/d--e.f:v1.2_x-Y", "[::1]:5000/a", "HOST/image",
        "ghcr.io/org/image:1@sha256:" + "0123abcd" * 8, "a@sha256:" + "0" * 64,
    ],
)  # fmt: skip
def test_image_references_are_taken(client, image: str) -> None:
    assert client.code_request(base_image=image).image == image


def test_counted_resources_are_taken_whole(request_of) -> None:
    given = {"gpu": 1, "rdma/hca": "2k", "hugepages-2Mi": "4Mi"}
    same = {"rdma/hca": 2000, "nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi", "cpu": "500m", "ephemeral-storage": "1Gi"}
    assert request_of(resources_per_worker={**given, "requests": same}).resources_per_worker.requests == same


def test_names_that_only_end_like_a_secrets_are_taken(request_of) -> None:
    plain = {
        "SORT_KEY": "column-of-dates", "AWS_ACCESS_KEY_ID": "mine", "PAD_TOKEN": "<|padding|>", "EOS_TOKEN": "[SEPARATOR]",
        "STOP_TOKEN": "2", "MAX_TOKENS": "100000000", "HF_TOKEN_PATH": "/run/hf/token", "TOKENIZER": "a-tokenizer",
    }  # fmt: skip
    assert request_of(env=plain).env == plain


def test_a_token_in_the_outputs_uri_is_refused_and_not_repeated(request_of) -> None:
    with pytest.raises(RequestError, match="looks like a literal token") as caught:
        request_of(output=f"file:///{TOKEN}")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"model": f"acme://{TOKEN}"}, "model"),
        ({"model": {"provider": "acme", "uri": "acme://m", "revision": TOKEN}}, "model"),
        ({"dataset": f"acme://me:{TOKEN}@host/d"}, "dataset"),
        ({"eval_dataset": f"acme://{TOKEN}"}, "eval_dataset"),
        ({"trainer": {"provider": "acme", "options": {"report": {"token": TOKEN}}}}, "trainer"),
    ],
)
def test_a_token_in_a_providers_plain_field_is_refused(client, given: dict[str, object], field: str) -> None:
    with pytest.raises(RequestError, match="looks like a literal token") as caught:
        client.train(**GOOD | given, dry_run=True)
    assert str(caught.value).startswith(field)
    assert TOKEN not in str(caught.value)
    assert client.backend.plans == {}


@pytest.mark.parametrize(
    ("options", "field", "where"),
    [
        ({"args": ["--token", TOKEN]}, "args", "env="),
        ({"packages_to_install": [f"x @ git+https://me:{TOKEN}@host/x"]}, "packages_to_install", "init_env="),
        ({"pip_index_url": "https://me:password@host/simple"}, "pip_index_url", "init_env="),
    ],
)
def test_a_token_in_a_code_job_is_refused(client, tmp_path, options, field: str, where: str) -> None:
    (tmp_path / "train.py").write_text("")
    with pytest.raises(RequestError, match=rf"^{field}.*literal token.*{where}") as caught:
        client.code_request(script=tmp_path / "train.py", **options)
    assert TOKEN not in str(caught.value)


def test_a_token_in_a_command_is_refused(client) -> None:
    with pytest.raises(RequestError, match=r"^command\[1\]"):
        client.code_request(base_image="a:1", command=["./start", TOKEN])


def test_an_unknown_scheme_names_the_package_to_install(client) -> None:
    for field in ("model", "dataset", "eval_dataset"):
        with pytest.raises(PluginNotFound, match=r"'hff'.*nstall the package that provides it"):
            client.train(**GOOD | {field: "hff://org/name"})
    with pytest.raises(PluginNotFound, match=r"'acmee'\. Did you mean 'acme'\?"):
        client.train(**GOOD | {"trainer": "acmee"})
    assert client.backend.plans == {}


def test_a_plugin_that_raises_at_import_is_named_and_nothing_is_created(client, site) -> None:
    site.install("tunewright-bad", {"bad": "tw_bad"}, tw_bad="raise RuntimeError('of itself')")
    client.registry._index = None
    with pytest.raises(
        PluginLoadError, match="'bad' of distribution tunewright-bad could not be loaded: RuntimeError: of itself"
    ):
        client.train(**GOOD | {"dataset": "bad://x"})
    assert client.backend.plans == {}
    assert client.train(**GOOD, dry_run=True)


def test_a_claim_of_one_node_for_three_workers_is_refused(client) -> None:
    with pytest.raises(RequestError, match=r"storage\.claim='data': is a ReadWriteOnce claim, which 3 workers"):
        client.train(**GOOD, num_workers=3, storage={"claim": "data"})
    with pytest.raises(RequestError, match="which 4 workers"):
        client.train(**GOOD, elastic=(1, 4), storage={"claim": "data"})
    assert client.backend.plans == {}


SCALARS = st.one_of(st.text(max_size=5), st.integers(-3, 70), st.booleans(), st.none(), st.just("auto"))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(JobOptions.__annotations__)), ANYTHING, max_size=4))
def test_whatever_is_given_is_taken_or_refused_and_never_changed(options: dict[str, object]) -> None:
    before = copy.deepcopy(options)
    try:
        Request(name="sft", **with_policies({k: v for k, v in options.items() if v is not None}))  # type: ignore[arg-type]
    except RequestError as error:
        event(error.field.partition("[")[0])
    assert options == before


def test_the_callers_objects_stay_as_they_are_and_ours_too(client) -> None:
    given = {
        "model": {"provider": "acme", "uri": "acme://m", "token": SecretRef(name="a", key="b")},
        "dataset": {"provider": "acme", "uri": "acme://d", "eval_dataset": "acme://e"},
        "trainer": {"provider": "acme", "options": {"deep": [{"er": 1}]}},
        "resources_per_worker": {"gpu": 1, "nvidia/x": 1, "requests": {"cpu": 1}},
        "storage": {"size": "5Gi", "access_modes": ["ReadWriteMany"]},
        "env": {"A": "1", "B": SecretValue("x")},
        "labels": {"a": "b"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"x": [1]}},
        "pod_overrides": {"spec": {"containers": [{"name": "pytorch", "env": [{"name": "A", "value": "1"}]}]}},
        "elastic": [1, 3],
    }
    before = copy.deepcopy(given)
    request = client.train_request(name="sft", **given)
    client.train("sft", **given, dry_run=True)
    assert given == before
    given["pod_overrides"]["spec"]["containers"][0]["name"] = "changed"
    given["tolerations"][0]["key"] = "changed"
    given["affinity"]["nodeAffinity"]["x"].append(2)
    given["env"]["A"] = "changed"
    assert request.pod_overrides == before["pod_overrides"]
    assert request.scheduling.tolerations == tuple(before["tolerations"])
    assert request.scheduling.affinity == before["affinity"]
    assert request.env == before["env"]


def test_good_values_are_taken(request_of) -> None:
    request = request_of(
        name="a" * 50, num_workers=2, num_procs_per_worker="auto", resources_per_worker={"nvidia.com/gpu": 4, "memory": "16Gi"},
        elastic=[1, 3], labels={"team.example/x": "", "b": "C_.d"}, annotations={"a": "any text: {}"}, env={"_a": "", "B": "ü\n"},
        tolerations=[{"key": "a"}], output="file:///out", queue="team-a", priority_class="system.high", ttl=0, max_restarts=0,
        image_pull_secrets=("login",), node_selector={"kubernetes.io/arch": "amd64"}, deadline=1,
    )  # fmt: skip
    assert (request.processes, request.most_workers, request.elastic) == (4, 3, (1, 3))
    assert request.resources_per_worker == Resources(gpu=4, memory="16Gi")


def test_processes_may_be_written_as_text_because_yaml_and_shells_do(request_of) -> None:
    assert request_of(num_procs_per_worker="2").processes == 2


def test_resources_may_be_spelt_in_several_ways() -> None:
    assert as_resources(None) == Resources()
    assert as_resources({"gpu": "2", "cpu": 8}) == Resources(gpu=2, cpu=8)
    assert as_resources({"ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi", "extended": {"rdma/hca": 1}}).extended == {
        "ephemeral-storage": "1Gi", "hugepages-2Mi": "4Mi", "rdma/hca": 1
    }  # fmt: skip
    assert as_resources({"cpu": 8, "requests": {"cpu": "500m", "memory": "1Gi"}}).requests == {
        "cpu": "500m",
        "memory": "1Gi",
    }


def test_every_field_of_a_request_is_a_keyword_with_a_type_and_a_line_of_documentation() -> None:
    classes = (Request, *POLICIES.values())
    fields = {a.name for cls in classes for a in attrs.fields(cls)} - {"name", "always", *POLICIES}
    assert fields == {*JobOptions.__annotations__, "output"}
    assert fields < set(TrainOptions.__annotations__)
    assert fields < set(CodeOptions.__annotations__)
    documented = "\n".join(inspect.getdoc(cls) for cls in classes)
    assert not [name for name in fields if f"\n    {name}: " not in documented]


def test_generated_names_are_names_that_kubernetes_takes() -> None:
    names = {generated_name("train") for _ in range(50)}
    assert len(names) > 45
    for name in names:
        assert Request(name=name).name.startswith("train-")


def test_requests_are_frozen(request_of) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request_of().name = "other"
