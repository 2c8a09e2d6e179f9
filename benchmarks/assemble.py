"""How long a request takes to become a plan and manifests: `python -m benchmarks.assemble [--json]`.

What is promised: less than 2 ms for a job of 4 workers, and for 1,000 workers no more than twice that. Only `assemble` and
`render` are timed, as a submit needs them; what a dry run adds (redacted copies, YAML) has a line of its own.
"""

from __future__ import annotations

import argparse

from benchmarks.timing import as_json, interleaved, show
from tunewright import TrainingClient
from tunewright._planning.assemble import assemble
from tunewright.request.request import TrainRequest

WORKERS = (4, 1000)
LIMIT = 2e-3


def main() -> None:
    """Print the table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--repeats", type=int, default=300, help="measurements of each (default: %(default)s)")
    arguments = parser.parse_args()
    client = TrainingClient("kubernetes")
    requests = {workers: _request(client, workers) for workers in WORKERS}
    few, many = (f"assemble and render, {workers:,} workers" for workers in WORKERS)
    timings = interleaved(
        {
            few: lambda: client.backend.render(assemble(requests[WORKERS[0]])),
            many: lambda: client.backend.render(assemble(requests[WORKERS[1]])),
        },
        arguments.repeats,
    )
    manifests = client.backend.render(assemble(requests[WORKERS[0]]))
    timings |= interleaved(
        {
            "the request itself, 4 workers": lambda: _request(client, WORKERS[0]),
            "YAML of a dry run, 4 workers": manifests.to_yaml,
        },
        max(2, arguments.repeats // 10),
    )
    ratios = {"1,000 workers to 4 (at most 2)": timings[many].median / timings[few].median}
    show(timings, ratios, limits={few: LIMIT, many: 2 * LIMIT})
    if arguments.json:
        print(as_json({"repeats": arguments.repeats, "limit_seconds": LIMIT}, timings, ratios))


def _request(client: TrainingClient, workers: int) -> TrainRequest:
    return client.train_request(
        "job",
        model={"provider": "hf", "uri": "hf://org/model@v1", "access_token": "a-literal-token"},
        dataset={
            "provider": "s3",
            "uri": "s3://bucket/train",
            "access_key_id": "a-literal-id",
            "secret_access_key": "a-literal-secret",
        },
        trainer={"provider": "hf", "training_parameters": {"learning_rate": 2e-4, "num_train_epochs": 1}},
        num_workers=workers,
        num_procs_per_worker="auto",
        resources_per_worker={"gpu": 8, "cpu": 64, "memory": "512Gi"},
        storage={"access_modes": ["ReadWriteMany"]},
        queue="team-a",
        labels={"team": "a"},
    )


if __name__ == "__main__":
    main()
