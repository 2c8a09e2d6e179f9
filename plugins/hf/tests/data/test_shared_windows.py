"""A stream that the ranks of a node share: one reads and tokenises, and all have the same samples."""

import collections
import itertools
import multiprocessing
import os
import time
from pathlib import Path

import psutil
import pytest

from tunewright import RequestError
from tunewright_hf.data.shared_windows import Sharing

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def ranks(folder: Path, count: int = 3) -> list[Sharing]:
    return [Sharing(folder=folder, rank=rank, ranks=count) for rank in range(count)]


def test_every_rank_has_what_the_first_makes_and_makes_nothing_itself(tmp_path: Path) -> None:
    first, *others = ranks(tmp_path / "windows")
    sent = list(first.share((number, ["samples"] * number) for number in range(4)))
    for other in others:
        assert list(itertools.islice(other.share(1 / 0 for _ in ()), 4)) == sent
    assert not [*(tmp_path / "windows").iterdir()], "nothing is left over"


def test_several_streams_are_shared_side_by_side(tmp_path: Path) -> None:
    first, second, _ = ranks(tmp_path)
    for part in (0, 1):
        list(first.part(part).share(["a", "b"] if part else ["c"]))
    assert [next(second.part(part).share(())) for part in (0, 1)] == ["c", "a"]


def fails(error: Exception):
    yield "fine"
    raise error


def test_an_error_of_the_first_is_one_of_all(tmp_path: Path) -> None:
    known = RequestError("is empty", field="dataset", remedy="Give a folder with rows.")
    for error, raised in ((known, RequestError), (KeyError("x"), RuntimeError)):
        first, second, _ = ranks(tmp_path / raised.__name__)
        with pytest.raises(type(error)):
            list(first.share(fails(error)))
        others = second.share(())
        assert next(others) == "fine"
        with pytest.raises(raised, match="is empty" if error is known else "rank 0 of the node: KeyError"):
            next(others)


def waits(folder: Path, pid) -> None:
    process = multiprocessing.get_context("fork").Process(target=lambda: next(ranks(folder)[1].share(())))
    process.start()
    pid.value = process.pid
    os._exit(0)


@pytest.mark.slow
def test_a_process_that_waits_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    pid = fork.Value("i", 0)
    parent = fork.Process(target=waits, args=(tmp_path, pid))
    parent.start()
    parent.join(60)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid.value) and psutil.Process(pid.value).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The launcher's `train`, which writes down how many rows its rank tokenises for the training.
COUNTING = """
import os, sys
from tunewright_hf.data import streaming
from tunewright_launcher.cli import main

tokenise = streaming.tokenise_batch
def counted(rows, encoder, max_length, numbers):
    with open(os.environ["TUNEWRIGHT_WORKSPACE"] + "/tokenised-" + os.environ["RANK"], "a") as file:
        file.write(f"{len(numbers)}\\n")
    return tokenise(rows, encoder, max_length, numbers)
streaming.tokenise_batch = counted
streaming._WINDOW = 5
sys.exit(main(["train"]))
"""


def tokenised(done, rank: int) -> collections.Counter[int]:
    file = done.workspace / f"tokenised-{rank}"
    return collections.Counter(map(int, file.read_text().split())) if file.exists() else collections.Counter()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("packing", [False, True])
def test_one_rank_of_a_node_tokenises_and_a_killed_job_goes_on_to_the_same_bits(packing: bool, job, qa: Path) -> None:
    given = {"max_steps": 12, "save_steps": 5, "logging_steps": 1, "learning_rate": 1e-2, "eval_strategy": "no"}
    given |= {"lora_config": {"r": 4, "lora_dropout": 0.1}, "per_device_train_batch_size": 2}
    given |= {"activation_checkpointing": False}  # else a sample is made for its memory
    given |= {"data": {"streaming": True, "shuffle_buffer": 15, "packing": packing, "max_length": 50}}
    whole, cut = job("whole", 2, **given), job("cut", 2, **given, callbacks=["killed:Killed"])
    for one in (whole, cut):
        (one.workspace / "rank.py").write_text(COUNTING)
    expected = {e["step"]: e["loss"] for e in whole.finish() if e["event"] == "step"}
    first, second = (tokenised(whole, rank) for rank in range(2))
    rows = len((qa / "train.jsonl").read_text().splitlines())
    samples = 12 * 2 * 2
    assert sum(first.elements()) >= (samples if not packing else rows)
    assert not second, "the other rank reads what the first has made"
    assert all(count <= 5 for count in first)
    events = cut.finish_after_a_kill()
    assert [e["resumed_from"] for e in events if e["event"] == "start"] == [None, 5]
    losses = [(e["step"], e["loss"]) for e in events if e["event"] == "step"]
    assert {step for step, _ in losses} == expected.keys()
    assert all(expected[step] == loss for step, loss in losses)
    assert not tokenised(cut, 1)
    assert all(torch.equal(cut.weights[name], w) for name, w in whole.weights.items())
    assert not (cut.workspace / "output" / "tokenised").exists()
