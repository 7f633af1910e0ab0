"""An extension API server and webhooks in one process, over TLS.

extension.py CERT KEY CLIENT_CA PORT: serves flunders of wardle.example.com/v1alpha1 from memory, to callers whose
certificate CLIENT_CA has signed, and to anybody the webhooks /convert and /admit/NAME, where NAME is one of ADMIT. The
former also get what stands in documents.json beside CERT, by its path: group versions that a test makes up.
Prints `serving on PORT`.
"""
import base64
import json
import os
import queue
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

GROUP = "wardle.example.com/v1alpha1"
ROOT = "/apis/" + GROUP
lock = threading.Lock()
flunders, watchers, revision = {}, [], 1


def status(code, reason, message):
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}


def change(kind, key, obj):
    global revision
    revision += 1
    obj["metadata"]["resourceVersion"] = str(revision)
    for namespace, events in watchers:
        if namespace in ("", key[0]):
            events.put({"type": kind, "object": obj})


def convert(review):
    """Between v1 with hostPort and v2 with host and port; what is in the wanted version already is not to be asked for."""
    wanted, out, result = review["request"]["desiredAPIVersion"], [], {"status": "Success"}
    for o in review["request"]["objects"]:
        if o["apiVersion"] == wanted:
            result = {"status": "Failure", "message": "nothing to convert"}
        o["apiVersion"] = wanted
        if wanted.endswith("/v2") and "hostPort" in o:
            o["host"], o["port"] = o.pop("hostPort").split(":")
        elif wanted.endswith("/v1") and ("host" in o or "port" in o):
            o["hostPort"] = o.pop("host", "") + ":" + o.pop("port", "")
        out.append(o)
    response = {"uid": review["request"]["uid"], "result": result, "convertedObjects": out}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def deny(message):
    return {"allowed": False, "status": {"message": message}}


def allow(*patch):
    if not patch:
        return {"allowed": True}
    encoded = base64.b64encode(json.dumps(patch).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}


def add(path, value):
    return {"op": "add", "path": path, "value": value}


def judge(request):
    """What an object says of itself, in a label or its data, decides."""
    o = request["object"] or request["oldObject"]
    words = {**o["metadata"].get("labels", {}), **o.get("data", {})}.get("verdict", "").split(",")
    words += [c["name"] for c in o.get("spec", {}).get("containers", [])]
    if "hang" in words:
        threading.Event().wait()
    said = [f"{request['resource']['resource']} with {w} are unwanted" for w in words if w.startswith("bad")]
    if request["operation"] == "DELETE":
        said = ["this one is to be kept"] if "keep" in words else []
    return deny("; ".join(said)) if said else allow()


def stage(request):
    """The first stage for who has started, the second for who has the first."""
    data = request["object"].get("data", {})
    if "first" in data:
        return allow(add("/data/second", "yes"))
    return allow(add("/data/first", "yes")) if "start" in data else allow()


def slow(_):
    time.sleep(2)
    return allow()


def attach(request):
    if (request["subResource"], request["operation"]) != ("attach", "CONNECT"):
        return deny("this is no attach")
    options = request["object"]
    if options["kind"] == "PodAttachOptions" and options.get("stdin") and options.get("container") == "main":
        return deny(f"attaching to {request['name']} is not allowed")
    return allow()


ADMIT = {
    "never": lambda _: deny("never"),
    "judge": judge,
    "stage": stage,
    "slow": slow,
    "attach": attach,
    "label": lambda r: allow(add("/metadata/labels", {**r["object"]["metadata"].get("labels", {}), "added": "yes"})),
    "init": lambda _: allow(add("/spec/initContainers", [{"name": "added", "image": "none", "resources": {}}])),
}


def admit(review, how):
    response = {"uid": review["request"]["uid"], **how(review["request"])}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


def documents():
    path = os.path.join(os.path.dirname(cert), "documents.json")
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        return json.load(f)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")

    def serve(self):
        url = urlsplit(self.path)
        body = self.body()
        if url.path == "/convert":
            return self.answer(200, convert(body))
        if how := ADMIT.get(url.path.removeprefix("/admit/")):
            return self.answer(200, admit(body, how))
        names = [v for part in (self.connection.getpeercert() or {}).get("subject", ()) for k, v in part if k == "commonName"]
        if names != ["front-proxy-client"]:
            return self.answer(*status(401, "Unauthorized", "who is asking?"))
        if self.command == "GET" and (document := documents().get(unquote(url.path))):
            return self.answer(200, document)
        if url.path == ROOT:
            verbs = ["create", "delete", "deletecollection", "get", "list", "watch"]
            kind = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": verbs, "shortNames": ["fl"]}
            return self.answer(200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP, "resources": [kind]})
        parts = url.path.removeprefix(ROOT).strip("/").split("/")
        namespace = parts[1] if parts[0] == "namespaces" else ""
        rest = parts[2:] if namespace else parts
        if not rest or rest[0] != "flunders":
            return self.answer(*status(404, "NotFound", "no such path"))
        self.flunders(namespace, rest[1] if len(rest) > 1 else "", parse_qs(url.query), body)

    def flunders(self, namespace, name, query, body):
        key = (namespace, name)
        with lock:
            found = [o for (ns, n), o in flunders.items() if namespace in ("", ns) and name in ("", n)]
            if self.command == "POST":
                body["metadata"].update(namespace=namespace, uid="u-" + body["metadata"]["name"], creationTimestamp="2026-01-01T00:00:00Z")
                body["metadata"].setdefault("annotations", {})["made-by"] = self.headers["X-Remote-User"]
                key = (namespace, body["metadata"]["name"])
                flunders[key] = body
                change("ADDED", key, body)
                return self.answer(201, body)
            if self.command == "DELETE":
                for o in found:
                    k = (o["metadata"]["namespace"], o["metadata"]["name"])
                    change("DELETED", k, flunders.pop(k))
                if name and not found:
                    return self.answer(*status(404, "NotFound", f'flunders "{name}" not found'))
                return self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
            if name:
                return self.answer(200, found[0]) if found else self.answer(*status(404, "NotFound", f'flunders "{name}" not found'))
            if "watch" not in query:
                return self.answer(200, {"kind": "FlunderList", "apiVersion": GROUP, "metadata": {"resourceVersion": str(revision)}, "items": found})
            events = queue.Queue()
            if query.get("resourceVersion", ["0"])[0] in ("", "0"):
                for o in found:
                    events.put({"type": "ADDED", "object": o})
            watchers.append((namespace, events))
        self.stream(events)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            line = json.dumps(events.get()).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()

    do_GET = do_POST = do_DELETE = serve

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        # A client that is gone ends its thread and nothing else.
        pass


cert, key, client_ca, port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
context.load_verify_locations(client_ca)
context.verify_mode = ssl.CERT_OPTIONAL
server = Server(("0.0.0.0", int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print("serving on", server.server_address[1], flush=True)
server.serve_forever()
