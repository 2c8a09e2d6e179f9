"""The queue of a fetch: nobody who could work goes on sleeping."""

import threading
import time
from queue import SimpleQueue

import pytest

from tunewright.providers.snapshots import Entry
from tunewright_launcher.tasks import Queue, Task

LARGE = Task(Entry(path="large", size=100_000_000))
SMALL = Task(Entry(path="small", size=1), small=True)


@pytest.mark.parametrize("work", [LARGE, SMALL], ids=["large", "small"])
def test_a_thread_that_takes_small_files_alone_does_not_sleep_on_anothers_call(work: Task) -> None:
    queue, found = Queue(), SimpleQueue[Task | None]()
    feeding = threading.Thread(target=queue.take_small, args=(1,), kwargs={"wait": True}, daemon=True)
    working = threading.Thread(target=lambda: found.put(queue.take()), daemon=True)
    for thread in (feeding, working):  # the first one to wait is the first one to be called
        thread.start()
        time.sleep(0.1)
    queue.put(LARGE)
    assert found.get(timeout=10) is LARGE
    queue.put(work)
    queue.fail(RuntimeError())
    feeding.join(10)
    assert not feeding.is_alive()


def test_all_who_wait_are_called_when_there_is_nothing_left_to_do() -> None:
    queue = Queue()
    queue.put(SMALL)
    assert queue.take_small(5, wait=True) == [SMALL]
    threads = [
        threading.Thread(target=queue.take, daemon=True),
        threading.Thread(target=queue.take_small, args=(1,), kwargs={"wait": True}, daemon=True),
    ]
    for thread in threads:
        thread.start()
    queue.done()
    queue.done()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_large_files_come_before_small_ones_and_ranges_before_both() -> None:
    queue = Queue()
    larger = Task(Entry(path="larger", size=200_000_000))
    for work in (SMALL, LARGE, larger):
        queue.put(work)
    assert [queue.take() for _ in range(3)] == [larger, LARGE, SMALL]
