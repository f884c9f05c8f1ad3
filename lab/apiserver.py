"""A real API server of one's own: etcd and kube-apiserver, their files, and a kubeconfig for each who asks.

Three people exist: `admin` may do everything; `agent` and `allocator` are the service accounts of deploy/, so that the
permissions which the product ships with are the ones that it is tried with. Without `nodes` there is no
controller-manager and no kubelet: Nodes and EndpointSlices are what the manifests say. With them each kubelet is one
more, and so is each program that a cluster has beside them.
"""

import csv
import io
import json
import secrets
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.command import LabError, run

NAMESPACE: Final = "announcer-system"
HASTY: Final = ("env", "GOGC=400")
"""Both servers collect garbage less often: memory for a quarter of their processor time, which tests share."""
WHO: Final = {
    "admin": ("admin", "system:masters"),
    "agent": (f"system:serviceaccount:{NAMESPACE}:announcer-agent", "system:serviceaccounts"),
    "allocator": (f"system:serviceaccount:{NAMESPACE}:announcer-allocator", "system:serviceaccounts"),
}
COMPONENTS: Final = {
    name: (f"system:{name}", "") for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """`folder` has all of its files, `programs` the binaries. etcd listens on loopback of the same namespace."""

    folder: Path
    programs: Path
    address: str = "127.0.0.1"
    port: int = 6443
    etcd_port: int = 2379
    nodes: tuple[str, ...] = ()
    """Those that have a kubelet."""

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The self-signed certificate that kube-apiserver makes at its first start."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def people(self) -> dict[str, tuple[str, str]]:
        """User and group of each."""
        if not self.nodes:
            return WHO
        return {**WHO, **COMPONENTS, **{name: (f"system:node:{name}", "system:nodes") for name in self.nodes}}

    @property
    def kubelet_client(self) -> Path:
        """The certificate that kube-apiserver shows to kubelets, its own authority; its key is beside it."""
        return self.folder / "certificates" / "kubelet-client.crt"

    def kubeconfig(self, who: str) -> Path:
        return self.folder / f"{who}.kubeconfig"

    def token(self, who: str) -> str:
        return (self.folder / f"{who}.token").read_text("ascii")

    def etcd_argv(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_port + 1}"
        return [
            *HASTY,
            str(self.programs / "etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            "--unsafe-no-fsync",  # for speed: what a crash of this machine loses, a test makes again
        ]

    def argv(self) -> list[str]:
        return [
            *HASTY,
            str(self.programs / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'service-account.key'}",
            f"--service-account-signing-key-file={self.folder / 'service-account.key'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            f"--authorization-mode={'Node,' if self.nodes else ''}RBAC",
            # Not kubeadm's 10.96.0.0/12, which the lab's 10.111.111.0/24 would be part of.
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/108",
            "--allow-privileged=true",
            "--max-requests-inflight=1500",
            "--max-mutating-requests-inflight=500",
            *(self._kubelet_options() if self.nodes else ()),
        ]

    def _kubelet_options(self) -> tuple[str, ...]:
        return (
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={self.kubelet_client}",
            f"--kubelet-client-key={self.kubelet_client.with_suffix('.key')}",
            "--kubelet-preferred-address-types=InternalIP",
        )


def prepare(server: ApiServer) -> None:
    """Keys, tokens and kubeconfigs, where they are missing."""
    server.folder.mkdir(parents=True, exist_ok=True)
    key = server.folder / "service-account.key"
    if not key.exists():
        run(["openssl", "genrsa", "-out", str(key), "2048"])
    if server.nodes and not server.kubelet_client.exists():
        server.kubelet_client.parent.mkdir(exist_ok=True)
        files = ["-keyout", str(server.kubelet_client.with_suffix(".key")), "-out", str(server.kubelet_client)]
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=lab", *files])
    rows = io.StringIO()
    for who, (user, group) in server.people.items():
        token_file = server.folder / f"{who}.token"
        if not token_file.exists():
            token_file.write_text(secrets.token_hex(16), "ascii")
        csv.writer(rows).writerow([server.token(who), user, user, group])
        server.kubeconfig(who).write_text(json.dumps(_kubeconfig(server, who), indent=1), "utf-8")
        server.kubeconfig(who).chmod(0o600)
    (server.folder / "tokens.csv").write_text(rows.getvalue(), "utf-8")


def is_ready(server: ApiServer) -> bool:
    """Whether /readyz says so; every failure is a no."""
    try:
        context = ssl.create_default_context(cafile=str(server.ca_file))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        request = urllib.request.Request(f"{server.url}/readyz")
        request.add_header("Authorization", f"Bearer {server.token('admin')}")
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
        )
        with opener.open(request, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, ssl.SSLError, urllib.error.URLError):
        return False


def kubectl(
    server: ApiServer, *arguments: str, stdin: str = "", who: str = "admin", prefix: tuple[str, ...] = ()
) -> str:
    """What `kubectl` wrote. `prefix` is the command that enters the namespace of the server."""
    argv = [str(server.programs / "kubectl"), f"--kubeconfig={server.kubeconfig(who)}", *arguments]
    return run([*prefix, *argv], stdin=stdin, timeout=60.0)


def crds_and_rights(repository: Path) -> tuple[Path, ...]:
    """The folders of deploy/ that a cluster needs before anything else."""
    found = (repository / "deploy" / "crds", repository / "deploy" / "rbac")
    for folder in found:
        if not folder.is_dir():
            raise LabError(f"{folder} is missing")
    return found


def _kubeconfig(server: ApiServer, who: str) -> dict[str, object]:
    cluster = {"server": server.url, "certificate-authority": str(server.ca_file)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": who, "user": {"token": server.token(who)}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": who}}],
        "current-context": "lab",
    }
