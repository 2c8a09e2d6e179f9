"""A real one-node Kubernetes with the real training-operator, for tests: built from published modules, without a registry.

By hand, as root:

    apt-get install $(python -m tests.cluster packages)
    python -m tests.cluster build     # about a quarter of an hour from cold, seconds afterwards
    python -m tests.cluster up        # prints the KUBECONFIG
    python -m tests.cluster up --with kueue     # another quarter of an hour from cold; see scheduling.py
    python -m tests.cluster down

It needs Go, and those packages of Debian's. Everything runs in a network namespace and a cgroup of its own, and keeps its
files below one folder, so neither other clusters on the machine nor what an earlier run left behind are in its way.
"""
