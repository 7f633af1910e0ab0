"""What the benches share: a cluster of the real program in a temporary directory, its API, readings of /proc, and the
one table printer. A bench makes rows and calls `finish(rows)`: a table on standard output, JSON where --json says."""

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICK = os.sysconf("SC_CLK_TCK")


def arguments(about, **more):
    # Ended from outside, a bench still leaves its `with` blocks, which take its cluster down.
    for s in [signal.SIGTERM, signal.SIGHUP]:
        signal.signal(s, lambda n, _: sys.exit(128 + n))
    p = argparse.ArgumentParser(description=about)
    p.add_argument("--json", help="also write the rows there")
    p.add_argument("--long", action="store_true", help="the long variant")
    p.add_argument("--kelson", default=os.environ.get("KELSON", f"{ROOT}/target/release/kelson"))
    for name, default in more.items():
        p.add_argument(f"--{name}", type=type(default), default=default)
    return p.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def row(bench, unit, kelson, peer=None, peer_name="", digits=2):
    """A figure beside its peer's; the ratio is kelson / peer."""
    ratio = round(kelson / peer, 3) if peer and kelson is not None else None
    r = lambda x: None if x is None else round(x, digits)
    return {"bench": bench, "unit": unit, "kelson": r(kelson), "peer": r(peer), "peer_name": peer_name, "ratio": ratio}


def table(rows, to=sys.stdout):
    text = lambda v: "" if v is None else (f"{v:,}" if isinstance(v, (int, float)) else str(v))
    keys = ["bench", "unit", "kelson", "peer", "ratio", "peer_name"]
    lines = [[k.replace("_", " ") for k in keys]] + [[text(r.get(k)) for k in keys] for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    for n, line in enumerate(lines):
        cells = [c.rjust(w) if 2 <= i <= 4 else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))]
        print("| " + " | ".join(cells) + " |", file=to)
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|", file=to, flush=True)


def finish(rows, args):
    table(rows)
    if args.json:
        os.makedirs(os.path.dirname(os.path.abspath(args.json)), exist_ok=True)
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else None


def wait(what, check, patience=120.0, pause=0.002):
    """Until check() gives something true; its value and the moment."""
    end, last = time.monotonic() + patience, None
    while True:
        try:
            got = check()
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as e:
            got, last = None, e
        if got:
            return got, time.monotonic()
        if time.monotonic() > end:
            raise SystemExit(f"waited {patience:.0f} s in vain for {what}: {last}")
        time.sleep(pause)


def go_build(out, package, directory, *flags, tests=False):
    """A Go program of the modules in `directory` (the tests of a package), built when it is not there or older than they are."""
    if os.path.exists(out) and os.path.getmtime(out) > os.path.getmtime(f"{directory}/go.mod"):
        return out
    os.makedirs(os.path.dirname(out), exist_ok=True)
    say(f"building {package} (Go, minutes, once)")
    env = os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false", "PATH": os.environ["PATH"] + ":/usr/local/go/bin"}
    verb = ["test", "-c", "-vet=off"] if tests else ["build", "-trimpath"]
    subprocess.run(["go", *verb, *flags, "-o", out, package], cwd=directory, env=env, check=True)
    return out


def start_etcd(directory, log, program=f"{ROOT}/target/bench/etcd"):
    """A member alone, built of tests/etcd, once it is healthy: the process and its URL."""
    go_build(program, ".", f"{ROOT}/tests/etcd")
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [program, "--data-dir", f"{directory}/etcd", "--log-level", "error", "--listen-client-urls", client]
    command += ["--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    child = subprocess.Popen([*command, "--initial-cluster", f"default={peer}"], stdout=log, stderr=log)
    try:
        wait("etcd", lambda: urllib.request.urlopen(f"{client}/health", timeout=1).status == 200)
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child, client


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Api:
    """One keep-alive connection to the API as the administrator."""

    def __init__(self, url, pem):
        """`pem` has a client-certificate and its client-key; without a certificate-authority any server will do."""
        self.url, self.pem = url, pem
        authority = pem.get("certificate-authority")
        self.context = ssl.create_default_context(cadata=authority.decode()) if authority else ssl._create_unverified_context()
        with tempfile.NamedTemporaryFile() as f:
            f.write(pem["client-certificate"] + b"\n" + pem["client-key"])
            f.flush()
            self.context.load_cert_chain(f.name)
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT if hasattr(ssl, "VERIFY_X509_STRICT") else ~0
        self.host, self.port = url.removeprefix("https://").rsplit(":", 1)
        self.connection = None
        self.used = 0.0

    @classmethod
    def of(cls, kubeconfig):
        text = open(kubeconfig).read()
        field = lambda name: base64.b64decode(re.search(rf'{name}: "?([^"\s]+)', text).group(1))
        pem = {k: field(k + "-data") for k in ["certificate-authority", "client-certificate", "client-key"]}
        return cls(re.search(r'server: "?([^"\s]+)', text).group(1), pem)

    def open(self):
        return http.client.HTTPSConnection(self.host, int(self.port), context=self.context, timeout=60)

    def request(self, method, path, body=None, kind="application/json"):
        if self.connection is None:
            self.connection = self.open()
        elif method == "GET" and time.monotonic() - self.used > 60:
            # A server closes a connection that was idle for a minute and a half.
            self.connection.close()
            self.connection = self.open()
        self.used = time.monotonic()
        try:
            data = None if body is None else json.dumps(body)
            self.connection.request(method, path, data, {"Content-Type": kind})
            r = self.connection.getresponse()
            return r.status, r.read()
        except Exception:
            self.connection = None
            raise

    def get(self, path):
        status, body = self.request("GET", path)
        return json.loads(body) if status == 200 else None

    def must(self, method, path, body=None, kind="application/json"):
        status, text = self.request(method, path, body, kind)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {text[:300]!r}")
        return json.loads(text)

    def watch(self, path):
        """Events of a watch, as they come."""
        c = self.open()
        c.request("GET", path)
        r = c.getresponse()
        for line in r:
            yield json.loads(line)

    def metric(self, name):
        _, body = self.request("GET", "/metrics")
        m = re.search(rf"^{name} (\S+)$", body.decode(), re.M)
        return float(m.group(1)) if m else None


def dns_answers(server, name="kubernetes.default.svc.cluster.local"):
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0" + struct.pack(">HH", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.02)
        s.sendto(struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + question, (server, 53))
        answer = s.recv(512)
        return answer[3] & 15 == 0 and struct.unpack(">H", answer[6:8])[0] > 0


class Cluster:
    def __init__(self, args, node):
        self.program, self.node = os.path.realpath(args.kelson), node
        self.dir = tempfile.mkdtemp(prefix="kelson-bench-")
        self.data, self.port, self.child = f"{self.dir}/data", free_port(), None
        # Clusters that run side by side need ports of their own.
        self.kubelet_port = free_port()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.run("clean", "--data-dir", self.data)
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *command):
        r = subprocess.run([self.program, *command], capture_output=True, text=True)
        if r.returncode:
            say(f"kelson {' '.join(command)}: {r.stderr.strip()}")
        return r

    def start(self, *more):
        """Starts the program, with more flags; returns the moment."""
        command = [self.program, "server", "--data-dir", self.data, "--listen", f"127.0.0.1:{self.port}"]
        command += ["--node-name", "node-1", "--kubelet-port", str(self.kubelet_port)]
        # A full disk of the machine is not what is measured.
        command += ["--eviction-hard", "memory.available<50Mi"]
        log = open(f"{self.dir}/log", "a")
        begun = time.monotonic()
        command += [*more] if self.node else ["--no-node", *more]
        self.child = subprocess.Popen(command, stdout=log, stderr=log)
        return begun

    def serving(self):
        """Waits until the API answers; the moment."""
        path = f"{self.data}/admin.kubeconfig"

        def up():
            if self.child.poll() is not None:
                raise SystemExit("kelson ended:\n" + open(f"{self.dir}/log").read()[-2000:])
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            api = Api.of(path)
            return api if api.request("GET", "/readyz")[0] == 200 else None

        self.api, at = wait("the API", up)
        return at

    def node_ready(self):
        def ready():
            node = self.api.get("/api/v1/nodes/node-1") or {}
            return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))

        return wait("the node", ready)[1]

    def dns(self):
        def address():
            service = self.api.get("/api/v1/namespaces/kube-system/services/kube-dns")
            return service and service["spec"]["clusterIP"]

        ip, _ = wait("the DNS service", address)
        return wait("DNS", lambda: dns_answers(ip))[1]

    def signal(self, which):
        if self.child:
            self.child.send_signal(which)
            self.child.wait()
            self.child = None

    def stop(self):
        self.signal(signal.SIGTERM)

    def import_busybox(self):
        archive = f"{self.dir}/busybox.tar"
        busybox_archive(archive)
        if self.run("image", "import", "--data-dir", self.data, archive).returncode:
            raise SystemExit("the image could not be imported")

    def pids(self):
        """Every process of this cluster whose executable is kelson."""
        own = set()
        mine = {self.child.pid} if self.child else set()
        for p in filter(str.isdigit, os.listdir("/proc")):
            try:
                exe = os.readlink(f"/proc/{p}/exe").removesuffix(" (deleted)")
                where = os.readlink(f"/proc/{p}/cwd")
            except OSError:
                continue
            if exe == self.program and (int(p) in mine or where.startswith(self.dir)):
                own.add(int(p))
        return own

    def pss(self):
        """MiB over all processes of the cluster, and their number."""
        total, pids = 0, self.pids()
        for p in pids:
            try:
                total += int(re.search(r"^Pss:\s+(\d+)", open(f"/proc/{p}/smaps_rollup").read(), re.M).group(1))
            except OSError:
                continue
        return total / 1024, len(pids)

    def cpu(self):
        return sum(cpu_seconds(p) for p in self.pids())


def cpu_seconds(pid):
    try:
        fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def pod(name, command="sleep 100000"):
    c = {"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", command], "resources": {}}
    spec = {"containers": [c], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


PODS = "/api/v1/namespaces/default/pods"


def running(api, n):
    def all_run():
        items = api.get(PODS)["items"]
        return sum(p.get("status", {}).get("phase") == "Running" for p in items) >= n

    return wait(f"{n} running pods", all_run, pause=0.02)[1]


def parallel(n, work):
    """Runs work(i) for i in 0..n on threads; the first error ends the bench."""
    failed = []

    def one(i):
        try:
            work(i)
        except BaseException as e:  # noqa: BLE001
            failed.append(e)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    if failed:
        raise SystemExit(f"{failed[0]}")


def busybox_archive(path, name="docker.io/library/busybox:1.36"):
    """An OCI archive of the machine's own static busybox."""
    import hashlib
    import io
    import tarfile

    program = next((p for p in ["/bin/busybox", "/usr/bin/busybox"] if os.path.exists(p)), None)
    if program is None:
        raise SystemExit("busybox is not there; install the package busybox-static")
    applets = subprocess.run([program, "--list"], capture_output=True, text=True).stdout.split()

    def archive(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            for file, data, mode in files:
                i = tarfile.TarInfo(file)
                i.mode = mode
                if data is None:
                    i.type = tarfile.DIRTYPE
                elif isinstance(data, str):
                    i.type, i.linkname = tarfile.SYMTYPE, data
                else:
                    i.size = len(data)
                t.addfile(i, io.BytesIO(data) if isinstance(data, bytes) else None)
        return out.getvalue()

    digest = lambda b: "sha256:" + hashlib.sha256(b).hexdigest()
    files = [("bin", None, 0o755), ("etc", None, 0o755), ("tmp", None, 0o1777), ("root", None, 0o755)]
    files += [("bin/busybox", open(program, "rb").read(), 0o755), ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644)]
    layer = archive(files + [(f"bin/{a}", "busybox", 0o777) for a in applets if a != "busybox"])
    arch = {"aarch64": "arm64"}.get(os.uname().machine, "amd64")
    run = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
    encode = lambda v: json.dumps(v).encode()
    config = encode({"architecture": arch, "os": "linux", "config": run, "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}})
    oci = "application/vnd.oci.image"
    part = lambda kind, b: {"mediaType": f"{oci}.{kind}", "digest": digest(b), "size": len(b)}
    manifest = encode({"schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": part("config.v1+json", config), "layers": [part("layer.v1.tar", layer)]})
    entry = part("manifest.v1+json", manifest) | {"annotations": {"org.opencontainers.image.ref.name": name}}
    blobs = [(f"blobs/sha256/{digest(b)[7:]}", b, 0o644) for b in [layer, config, manifest]]
    index = encode({"schemaVersion": 2, "manifests": [entry]})
    with open(path, "wb") as f:
        f.write(archive([("oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644), ("index.json", index, 0o644)] + blobs))
    return layer
