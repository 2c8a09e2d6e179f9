"""`pod_overrides`: Kubernetes' strategic merge, and what it would leave unable to run is refused."""

import contextlib
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import RequestError
from tunewright.backends.kubernetes.overrides import overridden

TEMPLATE = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "old"}],
        "initContainers": [{"name": "check", "image": "i:1"}],
        "containers": [
            {
                "name": "pytorch",
                "image": "i:1",
                "command": ["run"],
                "env": [{"name": "A", "value": "1"}, {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s"}}}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def patched(**spec: object) -> dict:
    return overridden(TEMPLATE, {"spec": spec})["spec"]


def main(**fields: object) -> dict:
    (container,) = patched(containers=[{"name": "pytorch", **fields}])["containers"]
    return container


def test_an_empty_patch_changes_nothing() -> None:
    assert overridden(TEMPLATE, {}) == TEMPLATE
    assert overridden(TEMPLATE, {"spec": {}, "metadata": {}}) == TEMPLATE


@pytest.mark.parametrize("name", ["train", "node", "pytorch"])
def test_the_main_container_answers_to_its_name_in_any_kind_of_job(name: str) -> None:
    (container,) = patched(containers=[{"name": name, "command": ["mine"]}])["containers"]
    assert (container["name"], container["command"], container["image"]) == ("pytorch", ["mine"], "i:1")


def test_mappings_are_merged_and_null_removes() -> None:
    assert patched(nodeSelector={"zone": "a"})["nodeSelector"] == {"gpu": "h100", "zone": "a"}
    assert patched(nodeSelector={"gpu": None})["nodeSelector"] == {}
    assert "nodeSelector" not in patched(nodeSelector=None)
    assert main(resources={"limits": {"cpu": "2"}})["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert patched(affinity={"nodeAffinity": None, "podAffinity": {}})["affinity"] == {"podAffinity": {}}


def test_elements_of_merged_lists_are_found_by_their_keys() -> None:
    found = main(env=[{"name": "A", "value": "2"}, {"name": "B", "value": "3"}])
    assert {e["name"]: e.get("value") for e in found["env"]} == {"A": "2", "TOKEN": None, "B": "3"}
    assert [e["name"] for e in found["env"]] == ["A", "TOKEN", "B"]
    mounts = main(volumeMounts=[{"mountPath": "/tmp", "subPath": "x"}, {"name": "tmp", "mountPath": "/var/tmp"}])
    assert mounts["volumeMounts"] == [
        {"name": "tmp", "mountPath": "/tmp", "subPath": "x"},
        {"name": "tmp", "mountPath": "/var/tmp"},
    ]


def test_other_lists_are_replaced() -> None:
    assert patched(tolerations=[{"key": "new"}])["tolerations"] == [{"key": "new"}]
    assert main(command=["mine"])["command"] == ["mine"]


def test_an_element_is_removed_by_the_directive() -> None:
    found = main(env=[{"name": "A", "$patch": "delete"}, {"name": "never-there", "$patch": "delete"}])
    assert [e["name"] for e in found["env"]] == ["TOKEN"]


def test_a_container_of_ones_own_is_added() -> None:
    found = patched(containers=[{"name": "sidecar", "image": "s:1", "env": [{"name": "X", "value": None}]}])
    assert found["containers"][1] == {"name": "sidecar", "image": "s:1", "env": [{"name": "X"}]}


def test_names_of_merged_lists_are_free_elsewhere() -> None:
    labels = overridden(TEMPLATE, {"metadata": {"labels": {"env": "prod", "ports": "none"}}})["metadata"]["labels"]
    assert labels == {"a": "1", "env": "prod", "ports": "none"}
    assert patched(nodeSelector={"env": "prod"})["nodeSelector"]["env"] == "prod"


def test_a_secret_gives_way_to_a_value_when_it_is_removed() -> None:
    found = main(env=[{"name": "TOKEN", "value": "x", "valueFrom": None}])
    assert found["env"][1] == {"name": "TOKEN", "value": "x"}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"nodeSelector": {}}, "pod_overrides.nodeSelector=.*not a part of a pod template"),
        ({"spec": []}, "not a part of a pod template"),
        ({"spec": {"containers": {"name": "pytorch"}}}, "spec.containers=.*is not a list"),
        ({"spec": {"nodeSelector": ["gpu"]}}, "is not a mapping"),
        ({"spec": {"tolerations": "all"}}, "is not a list"),
        ({"spec": {"containers": [{"env": []}]}}, r"containers\[0\]=.*has no 'name'"),
        ({"spec": {"containers": ["pytorch"]}}, "has no 'name'"),
        ({"spec": {"containers": [{"name": "trian", "command": ["x"]}]}}, "The main container is 'pytorch'"),
        (
            {"spec": {"initContainers": [{"name": "chekc"}]}},
            r"\[chekc\]: is not a container of the job.*There are: check, pytorch",
        ),
        ({"spec": {"containers": [{"name": "pytorch", "$patch": "delete"}]}}, "removes the container 'pytorch'"),
        ({"spec": {"containers": None}}, "removes the container 'pytorch'"),
        ({"spec": None}, "not a part of a pod template"),
        ({"spec": {"$retainKeys": ["x"]}}, "is an unknown directive"),
        ({"spec": {"containers": [{"name": "pytorch", "$patch": "replace"}]}}, "is an unknown directive"),
        (
            {"spec": {"containers": [{"name": "pytorch", "env": [{"name": "TOKEN", "value": "x"}]}]}},
            "value and valueFrom",
        ),
        ({"spec": {"volumes": [{"name": "tmp", "hostPath": {"path": "/x"}}]}}, "emptyDir and hostPath"),
        ({"spec": {"volumes": [{"name": "new"}]}}, "no source"),
        (
            {"spec": {"volumes": [{"name": "tmp", "$patch": "delete"}]}},
            r"volumeMounts\[/tmp\]='tmp': mounts a volume that the pod does not have",
        ),
        (
            {"spec": {"containers": [{"name": "pytorch", "resources": {"requests": {"memory": "2Gi"}}}]}},
            "resources.requests.memory='2Gi': does not fit the limit of 1Gi",
        ),
        (
            {"spec": {"containers": [{"name": "pytorch", "resources": {"requests": {"cpu": "lots"}}}]}},
            "requests.cpu='lots'",
        ),
        ({"metadata": {"annotations": {"token": "hf_" + "a" * 30}}}, "looks like a literal token"),
    ],
)
def test_a_patch_that_cannot_work_is_refused(patch: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        overridden(TEMPLATE, patch)
    assert refused.value.remedy


NAMES = st.sampled_from(
    [
        "name",
        "image",
        "env",
        "value",
        "valueFrom",
        "containers",
        "initContainers",
        "volumes",
        "volumeMounts",
        "mountPath",
        "nodeSelector",
        "tolerations",
        "labels",
        "pytorch",
        "tmp",
        "/tmp",
        "$patch",
        "delete",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)
ELEMENTS = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["pytorch", "check", "A", "tmp", "new"])}, optional={"env": JSON})
)
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(NAMES, JSON, max_size=3),
        "spec": st.dictionaries(NAMES, JSON | ELEMENTS, max_size=4),
    },
)


@given(PATCHES)
def test_no_patch_changes_the_callers_objects_or_fails_otherwise_than_by_refusal(patch: dict) -> None:
    patch_before, template = copy.deepcopy(patch), copy.deepcopy(TEMPLATE)
    with contextlib.suppress(RequestError):  # any other exception would say nothing to the user
        overridden(template, patch)
    assert patch == patch_before
    assert template == TEMPLATE


@given(PATCHES)
def test_applying_a_patch_twice_is_applying_it_once(patch: dict) -> None:
    try:
        once = overridden(TEMPLATE, patch)
        twice = overridden(once, patch)
    except RequestError:
        return
    assert twice == once
