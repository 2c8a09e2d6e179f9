"""Storage: every row of docs/how-to/storage-and-results.md, and what cannot work is refused with the remedy."""

import attrs
import pytest

from tunewright import RequestError, Storage
from tunewright._planning.layout import VolumeLayout, lay_out
from tunewright.plan.plan import EphemeralClaim, ExistingClaim, NewClaim, Volume
from tunewright.request.storage import ROX, RWO, RWOP, RWX, as_storage

OUT = "s3://bucket/prefix"
KEYS = {"model": "abc123", "dataset": "def456"}


def layout(
    storage: object = None, *, workers: int = 1, output: str | None = None, ttl: int | None = None
) -> VolumeLayout:
    return lay_out(as_storage(storage), job="sft", workers=workers, output=output, keys=KEYS, ttl=ttl)


def one_volume(source: object) -> VolumeLayout:
    volume = Volume(name="workspace", source=source)  # type: ignore[arg-type]
    return VolumeLayout(inputs=volume, output=volume)


def refusal(storage: object = None, **rest: object) -> str:
    with pytest.raises(RequestError) as caught:
        layout(storage, **rest)  # type: ignore[arg-type]
    return str(caught.value)


def new(**fields: object) -> NewClaim:
    return NewClaim(**{"size": "50Gi", "keep": True, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "storage", [None, {}, {"access_modes": RWO}, {"access_modes": [RWO]}, {"access_modes": [RWO, ROX]}]
)
def test_one_worker_gets_one_claim_for_everything_which_is_kept(storage: object) -> None:
    assert layout(storage) == one_volume(new(access_modes=(RWO,)))


def test_size_class_and_mode_of_a_new_claim_are_the_users() -> None:
    storage = {"size": "1Ti", "storage_class": "fast", "access_modes": RWOP}
    assert layout(storage) == one_volume(new(size="1Ti", storage_class="fast", access_modes=(RWOP,)))
    assert layout({"storage_class": ""}).output.source.storage_class == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("workers", [1, 3, 1000])
def test_a_claim_that_every_pod_may_mount_holds_everything(workers: int) -> None:
    assert layout({"access_modes": [RWX]}, workers=workers) == one_volume(new(access_modes=(RWX,)))
    assert layout({"access_modes": [RWO, RWX]}, workers=workers) == one_volume(new(access_modes=(RWX,)))


def test_a_claim_goes_with_the_job_only_if_the_result_is_elsewhere() -> None:
    assert layout(output=OUT) == one_volume(new(keep=False))
    assert layout({"keep": True}, output=OUT) == one_volume(new(keep=True))
    assert layout({"keep": False}, output=OUT) == one_volume(new(keep=False))


@pytest.mark.parametrize(
    "storage",
    [{"keep": False}, {"keep": False, "access_modes": RWX}, {"keep": False, "claim": "data", "access_modes": ROX}],
)
def test_losing_the_only_copy_of_the_result_is_refused(storage: dict[str, object]) -> None:
    assert "storage.keep=False: the claim holds the only copy" in refusal(storage)
    assert "60 seconds after the end" in refusal(storage, ttl=60)
    assert 'output="s3://bucket/prefix"' in refusal(storage)


def test_a_finished_job_that_is_deleted_leaves_its_claim() -> None:
    assert layout(ttl=60) == one_volume(new(keep=True))


@pytest.mark.parametrize("storage", [None, {"access_modes": RWO}, {"access_modes": RWOP}, {"ephemeral": True}])
def test_several_workers_get_a_volume_each_and_output_is_asked_for(storage: object) -> None:
    assert layout(storage, workers=3, output=OUT) == one_volume(EphemeralClaim(size="50Gi"))
    message = refusal(storage, workers=3)
    assert message.startswith("storage: 3 worker(s) with ")
    assert 'output="s3://bucket/prefix"' in message
    assert RWX in message


def test_one_worker_with_a_volume_that_goes_with_it_needs_an_output() -> None:
    assert layout({"ephemeral": True, "size": "5Gi", "storage_class": "fast"}, output=OUT) == one_volume(
        EphemeralClaim(size="5Gi", storage_class="fast")
    )
    assert "1 worker(s) with ephemeral volumes have no storage for the result" in refusal({"ephemeral": True})


def existing(claim: str = "data", **fields: object) -> VolumeLayout:
    volume = Volume(name="workspace", source=ExistingClaim(claim=claim))
    return VolumeLayout(inputs=volume, output=volume, output_folder="jobs/sft/output", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("modes", [[], [RWO], [RWOP], [RWX]])
def test_an_existing_claim_holds_everything_and_each_job_its_own_result(modes: list[str]) -> None:
    assert layout({"claim": "data", "access_modes": modes}) == existing()


@pytest.mark.parametrize(("key", "folder"), [("models/llama", "models/llama"), ("models/", "models")])
def test_a_key_names_the_folder_of_the_inputs(key: str, folder: str) -> None:
    assert layout({"claim": "data", "key": key}) == existing(inputs_folder=folder)


def test_each_input_has_a_folder_of_its_own_that_is_named_by_what_is_fetched() -> None:
    found = layout({"claim": "data", "key": "auto"})
    assert found == existing(own_folders=KEYS)
    assert [found.folder_of(slot) for slot in ("model", "dataset")] == ["abc123", "def456"]


def test_an_existing_claim_for_several_workers_is_one_that_they_all_may_mount() -> None:
    assert layout({"claim": "data", "access_modes": RWX}, workers=3) == existing()


@pytest.mark.parametrize(
    "storage", [{"claim": "data"}, {"claim": "data", "access_modes": RWO}, {"claim": "data", "access_modes": RWOP}]
)
@pytest.mark.parametrize("output", [None, OUT])
def test_a_claim_of_one_node_for_three_workers_is_refused(storage: dict[str, object], output: str | None) -> None:
    message = refusal(storage, workers=3, output=output)
    assert message.startswith(
        "storage.claim='data': is a ReadWriteOnce claim, which 3 workers on different nodes cannot mount"
    )
    assert "access_modes=['ReadWriteMany']" in message
    assert "output=" in message


def test_a_claim_that_can_only_be_read_gives_the_inputs_and_the_output_is_beside_it() -> None:
    found = layout({"claim": "data", "access_modes": ROX, "size": "5Gi", "key": "auto"})
    assert found == VolumeLayout(
        inputs=Volume(name="inputs", source=ExistingClaim(claim="data", read_only=True)),
        output=Volume(name="output", source=new(size="5Gi")),
        own_folders=KEYS,
        read_only_inputs=True,
    )
    assert [v.name for v in found.volumes] == ["inputs", "output"]


def test_several_workers_that_read_one_claim_need_an_output() -> None:
    found = layout({"claim": "data", "access_modes": ROX}, workers=3, output=OUT)
    assert found.output == Volume(name="output", source=EphemeralClaim(size="50Gi"))
    assert found.read_only_inputs
    assert refusal({"claim": "data", "access_modes": ROX}, workers=3).startswith(
        "output: 3 workers read ReadOnlyMany claim"
    )


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ({"size": "16 gigs"}, "storage.size='16 gigs': is not a quantity"),
        ({"size": 0}, "storage.size=0: must be more than 0"),
        ({"claim": "Bad_Name"}, "storage.claim='Bad_Name': is not a valid Kubernetes name"),
        ({"claim": ""}, "storage.claim='': is not a valid Kubernetes name"),
        ({"storage_class": "Fast!"}, "storage.storage_class='Fast!': is not a valid Kubernetes name"),
        ({"access_modes": "ReadWriteSometimes"}, "storage.access_modes='ReadWriteSometimes': is not an access mode. Use one of"),
        ({"access_modes": ROX}, "storage.access_modes=['ReadOnlyMany']: needs an existing claim that already holds files"),
        ({"claim": "data", "ephemeral": True}, "storage.ephemeral=True: "),
        ({"keep": True, "ephemeral": True}, "storage.ephemeral=True: "),
        ({"ephemeral": "no"}, "storage.ephemeral='no': must be True or False"),
        ({"keep": 1}, "storage.keep=1: must be True or False"),
        ({"key": "auto"}, "storage.key='auto': needs an existing claim"),
        ({"claim": "data", "key": "../other"}, "storage.key='../other': has a '.' or '..' segment"),
        ({"claim": "data", "key": "a/../../b"}, "storage.key='a/../../b': has a '.' or '..' segment"),
        ({"claim": "data", "key": "/etc"}, "storage.key='/etc': has an empty segment"),
        ({"claim": "data", "key": ""}, "storage.key='': is not a folder"),
        ({"claim": "data", "key": 3}, "storage.key=3: is not a folder"),
        ({"sise": "1Gi"}, "storage.sise: is not a field of storage. Did you mean 'size'?"),
        ("50Gi", "storage='50Gi': must be a dict or a Storage. Write {\"size\": \"100Gi\"}."),
    ],
)  # fmt: skip
def test_what_is_no_storage_is_refused_with_field_value_and_remedy(storage: object, says: str) -> None:
    message = refusal(storage)
    assert message.startswith(says)
    assert message.endswith((".", "?"))


def test_a_dict_says_the_same_as_a_storage_and_is_not_changed() -> None:
    given = {"size": "5Gi", "access_modes": [RWX], "claim": None, "keep": None}
    assert as_storage(given) == Storage(size="5Gi", access_modes=(RWX,))
    assert given == {"size": "5Gi", "access_modes": [RWX], "claim": None, "keep": None}
    assert attrs.asdict(as_storage(None)) == attrs.asdict(Storage())
