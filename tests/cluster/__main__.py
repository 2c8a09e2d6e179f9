"""`python -m tests.cluster build|up|down`."""

import sys

from tests.cluster import cluster, images, programs


def main(words: list[str]) -> None:
    match words:
        case ["build"]:
            programs.check_machine()
            images.build(programs.build())
        case ["up"]:
            print(f"KUBECONFIG={cluster.up().kubeconfig}")
        case ["down"]:
            cluster.down()
        case _:
            sys.exit("usage: python -m tests.cluster build|up|down")


if __name__ == "__main__":
    main(sys.argv[1:])
