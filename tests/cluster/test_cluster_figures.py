"""What following a large job costs the client and the API server."""

import json
import subprocess
import sys

import pytest
from tests.cluster.cluster import Cluster
from tests.cluster.helpers import CHEAP, requests

from tunewright import TrainingClient

pytestmark = pytest.mark.timeout(600)

WORKERS, LINES = 64, 200
# Nothing that needs a Python to start: so many of them would take long on a small machine.
TALKS = f"trap 'exit 0' TERM; i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done; sleep 600 & wait"
FOLLOWS = """
import json, resource, sys
from collections import Counter
from tunewright import TrainingClient
config, namespace, lines = *sys.argv[1:3], int(sys.argv[3])
job = TrainingClient("kubernetes", namespace=namespace, config_file=config).get_job("choir")
heard = Counter()
for line in job.log_lines(follow=True):
    heard[line.worker] += line.text.startswith("line ")
    if heard.total() == lines:
        break
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([sorted(heard.items()), peak]))
"""


def test_following_64_pods_takes_little_memory_one_watch_and_one_connection_for_each_log(
    own_cluster: Cluster, client: TrainingClient, namespace: str, image: str, on_node, volumes
) -> None:
    volumes("ReadWriteMany")
    overrides = on_node(commands={"train": ["sh", "-c", TALKS]})
    job = client.create_job(
        "choir",
        train_func=nothing,
        base_image=image,
        num_workers=WORKERS,
        storage={"access_modes": ["ReadWriteMany"]},
        resources_per_worker=CHEAP,
        pod_overrides=overrides,
    )
    before = requests(own_cluster, namespace)
    config = own_cluster.state / "kubeconfig-alice"
    command = [sys.executable, "-c", FOLLOWS, str(config), namespace, str(WORKERS * LINES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stderr
    heard, peak = json.loads(done.stdout)
    asked = requests(own_cluster, namespace) - before
    print(f"{WORKERS} pods: {peak:.0f} MB; {dict(asked)}")
    assert heard == [[worker, LINES] for worker in range(WORKERS)]
    assert peak < 150
    assert asked["watch pods"] <= 2  # a watch ends after five minutes
    # A few are asked for again, after a look at the pod: their kubelet had not opened them yet.
    assert WORKERS <= asked["get pods/log"] < 2 * WORKERS
    assert asked["get pods"] + asked["list pods"] < WORKERS // 2
    job.delete()


def nothing() -> None:
    pass
