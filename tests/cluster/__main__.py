"""`python -m tests.cluster build|up|down|packages`."""

import os
import sys

from tests.cluster import cluster, gang, images, programs, scheduling, trainer

STAGES = {"kueue": scheduling.install, "gang": gang.install, "trainer": trainer.install}


def main(words: list[str]) -> None:
    match words:
        case ["packages"]:
            print(*programs.missing_packages())
        case ["build"]:
            programs.check_machine()
            images.build(programs.build())
        case ["up"]:
            print(f"KUBECONFIG={cluster.up().kubeconfig}")
        case ["up", "--with", *stages] if stages and set(stages) <= set(STAGES):
            running = cluster.up()
            for stage in stages:
                STAGES[stage](running)
            print(f"KUBECONFIG={running.kubeconfig}")
        case ["down"]:
            cluster.down()
        case _:
            sys.exit("usage: python -m tests.cluster build|up [--with [kueue] [gang] [trainer]]|down|packages")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except programs.CannotRun as reason:
        print(reason, file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
