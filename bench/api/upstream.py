"""The original as a peer: kube-apiserver 1.37.2 on etcd 3.6, built from their Go modules, flags at their defaults."""

import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lib import ROOT, Api, free_port, go_build, start_etcd, wait  # noqa: E402

MODULES = f"{ROOT}/tests/conformance"


def apiserver_program():
    version = "-X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1"
    version += " -X k8s.io/component-base/version.gitMinor=37"
    package = "k8s.io/kubernetes/cmd/kube-apiserver"
    return go_build(f"{ROOT}/target/bench/kube-apiserver", package, MODULES, "-ldflags", f"-s -w {version}")


def certificates(d):
    """An authority, an administrator and a key for service account tokens."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, stderr=subprocess.DEVNULL)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *ec, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca")
    signed = ["-CA", "ca", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"]
    openssl("req", "-x509", *ec, *signed, "-subj", "/O=system:masters/CN=admin", "-keyout", "client-key", "-out", "client-certificate")
    openssl("genrsa", "-out", "sa.key", "2048")
    openssl("rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub")


class Upstream:
    """Server and store; `start` gives the seconds from the server's start, its store being up, to its answer on /readyz."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="kelson-bench-upstream-")
        self.program = apiserver_program()
        self.children = []
        certificates(self.dir)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.terminate()
        for child in reversed(self.children):
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def spawn(self, *command):
        log = open(f"{self.dir}/log", "a")
        child = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.dir)
        self.children.append(child)
        return child

    def start(self):
        port = free_port()
        self.store, at = start_etcd(self.dir, open(f"{self.dir}/log", "a"))
        self.children.append(self.store)
        begun = time.monotonic()
        self.server = self.spawn(
            self.program, "--etcd-servers", at, "--bind-address", "127.0.0.1", "--secure-port", str(port), "--cert-dir", f"{self.dir}/certs",
            "--client-ca-file", "ca", "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", "sa.pub", "--service-account-signing-key-file", "sa.key",
            "--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "Node,RBAC")  # fmt: skip
        self.api = Api(f"https://127.0.0.1:{port}", {n: open(f"{self.dir}/{n}", "rb").read() for n in ["client-certificate", "client-key"]})

        def up():
            if self.server.poll() is not None:
                raise SystemExit("kube-apiserver ended:\n" + open(f"{self.dir}/log").read()[-3000:])
            return self.api.request("GET", "/readyz")[0] == 200

        return wait("kube-apiserver", up)[1] - begun
