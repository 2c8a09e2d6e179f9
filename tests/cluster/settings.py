"""What the cluster's processes are told: certificates, files and command lines."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

from tests.cluster import images
from tests.cluster.programs import CNI

NETNS = "tunewright-test"
HOST_IP, API = "10.213.0.1", "10.213.0.2"
"""The machine and the cluster see each other at these addresses."""
NODE_IP, PODS, SERVICES = "10.214.0.1", "10.214.0.0/16", "10.215.0.0/16"
NODE = "node-1"
GANG_SCHEDULER = "scheduler-plugins-scheduler"
"""The program, and the name by which pods ask for it: the one that scheduler-plugins' own chart gives it."""

_GROUP = "tunewright-test"
_USERS = {"admin": "system:masters", "alice": "testers", "mallory": "testers"}
"""User → group: one who may do everything, and two who may do what roles allow them."""

STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "local",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    # The tests make their volumes themselves.
    "provisioner": "kubernetes.io/no-provisioner",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def write(state: Path) -> None:
    """Write every file that the processes read."""
    _certificates(state / "pki")
    tokens = {user: secrets.token_hex(16) for user in _USERS}
    lines = [f"{tokens[user]},{user},{user},{group}" for user, group in _USERS.items()]
    (state / "pki" / "tokens.csv").write_text("\n".join(lines) + "\n", "utf-8")
    for user, token in tokens.items():
        name = "kubeconfig" if user == "admin" else f"kubeconfig-{user}"
        (state / name).write_text(json.dumps(_kubeconfig(state, user, token)), "utf-8")
    (state / "audit.yaml").write_text(json.dumps(_AUDIT), "utf-8")
    (state / "kubelet.yaml").write_text(json.dumps(_kubelet(state)), "utf-8")
    (state / "containerd.toml").write_text(_containerd(state), "utf-8")
    (state / "Corefile").write_text(_corefile(state), "utf-8")
    (state / "gang.yaml").write_text(json.dumps(_gang_scheduler(state)), "utf-8")
    (state / "cni").mkdir()
    (state / "cni" / "10-bridge.conflist").write_text(json.dumps(_cni(state)), "utf-8")


def commands(state: Path, folder: Path) -> dict[str, list[str]]:
    """The command line of each process."""
    config, pki = f"--kubeconfig={state}/kubeconfig", state / "pki"
    etcd = "http://127.0.0.1:2379"
    api = [
        f"--etcd-servers={etcd}",
        f"--advertise-address={NODE_IP}",
        "--secure-port=6443",
        f"--tls-cert-file={pki}/api.crt",
        f"--tls-private-key-file={pki}/api.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--token-auth-file={pki}/tokens.csv",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        # Without these two it cannot read logs from the kubelet.
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki}/client.crt",
        f"--kubelet-client-key={pki}/client.key",
        f"--audit-policy-file={state}/audit.yaml",
        f"--audit-log-path={state}/logs/audit.json",
    ]
    manager = [
        config,
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials",
        "--leader-elect=false",
    ]
    kubelet = [
        f"--config={state}/kubelet.yaml",
        config,
        f"--root-dir={state}/kubelet",
        f"--cert-dir={state}/kubelet/pki",
        f"--hostname-override={NODE}",
        f"--node-ip={NODE_IP}",
    ]
    proxy = [config, f"--hostname-override={NODE}", "--proxy-mode=iptables", f"--cluster-cidr={PODS}"]
    unlimited = ["max-per-core", "tcp-timeout-established", "tcp-timeout-close-wait"]
    store = [
        "--listen-client-urls",
        etcd,
        "--advertise-client-urls",
        etcd,
        "--listen-peer-urls",
        "http://127.0.0.1:2380",
    ]
    return {
        "etcd": ["etcd", "--data-dir", f"{state}/etcd", *store, "--unsafe-no-fsync"],
        "kube-apiserver": [f"{folder}/kube-apiserver", *api],
        "kube-controller-manager": [f"{folder}/kube-controller-manager", *manager],
        "kube-scheduler": [f"{folder}/kube-scheduler", config, "--leader-elect=false"],
        # Kubernetes' own has the usual port.
        # A gang that does not fit is looked at again when a pod comes, and else after this time: five minutes by default.
        GANG_SCHEDULER: [
            f"{folder}/{GANG_SCHEDULER}",
            f"--config={state}/gang.yaml",
            "--secure-port=10260",
            "--pod-max-in-unschedulable-pods-duration=10s",
        ],
        "containerd": ["containerd", "-c", f"{state}/containerd.toml"],
        "kubelet": [f"{folder}/kubelet", *kubelet],
        "kube-proxy": [f"{folder}/kube-proxy", *proxy, *(f"--conntrack-{name}=0" for name in unlimited)],
        "coredns": [f"{folder}/coredns", "-conf", f"{state}/Corefile"],
    }


def operator(source: str) -> dict:
    """A kustomization of the operator's own manifests, with the image that was built here."""
    container = "/spec/template/spec/containers/0"
    args = ["--enable-scheme=pytorchjob", f"--pytorch-init-container-image={images.BASE}"]
    patch = [
        {"op": "replace", "path": f"{container}/image", "value": images.OPERATOR},
        {"op": "add", "path": f"{container}/imagePullPolicy", "value": "Never"},
        {"op": "add", "path": f"{container}/args", "value": args},
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [source],
        "patches": [{"target": {"kind": "Deployment", "name": "training-operator"}, "patch": json.dumps(patch)}],
    }


_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    # Which user asked for what, without what was written or read.
    "rules": [{"level": "Metadata", "users": ["alice", "mallory"]}, {"level": "None"}],
}


def _certificates(pki: Path) -> None:
    pki.mkdir()

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=pki, check=True, capture_output=True)

    addresses = ",".join(f"IP:{ip}" for ip in ("127.0.0.1", API, NODE_IP, SERVICES.replace(".0/16", ".1")))
    names = "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc"
    (pki / "api.ext").write_text(f"subjectAltName={addresses},{names}\n", "utf-8")
    (pki / "client.ext").write_text("extendedKeyUsage=clientAuth\n", "utf-8")
    new = ("req", "-newkey", "rsa:2048", "-nodes", "-keyout")
    openssl(*new, "ca.key", "-x509", "-out", "ca.crt", "-days", "30", "-subj", "/CN=test-ca")
    for name, subject in (("api", "/CN=kube-apiserver"), ("client", "/O=system:masters/CN=apiserver-kubelet-client")):
        openssl(*new, f"{name}.key", "-out", f"{name}.csr", "-subj", subject)
        signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(*signed, "-days", "30", "-out", f"{name}.crt", "-extfile", f"{name}.ext")
    openssl("genrsa", "-out", "sa.key", "2048")
    openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def _kubeconfig(state: Path, user: str, token: str) -> dict:
    server = {"server": f"https://{API}:6443", "certificate-authority": f"{state}/pki/ca.crt"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
    }


def _kubelet(state: Path) -> dict:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{state}/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{_GROUP}",
        # For machines with version 1 of cgroups, and without the right to lower an oom_score_adj.
        "failCgroupV1": False,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{state}/containerd.sock",
        "podLogsDir": f"{state}/pods",
        "volumePluginDir": f"{state}/plugins",
        "makeIPTablesUtilChains": False,
        # Images cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
    }


def _gang_scheduler(state: Path) -> dict:
    """As in scheduler-plugins' own manifests/coscheduling, but as a second scheduler."""
    plugins = {
        "multiPoint": {"enabled": [{"name": "Coscheduling"}]},
        "queueSort": {"enabled": [{"name": "Coscheduling"}], "disabled": [{"name": "*"}]},
    }
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {"kubeconfig": f"{state}/kubeconfig"},
        "profiles": [{"schedulerName": GANG_SCHEDULER, "plugins": plugins}],
    }


def _containerd(state: Path) -> str:
    return f"""version = 2
root = "{state}/containerd/root"
state = "{state}/containerd/state"
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _corefile(state: Path) -> str:
    return f""".:53 {{
    bind {NODE_IP}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {state}/kubeconfig
        pods insecure
        ttl 1
    }}
}}
"""


def _cni(state: Path) -> dict:
    bridge = {
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{state}/ipam",
            "ranges": [[{"subnet": PODS, "gateway": NODE_IP}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}
