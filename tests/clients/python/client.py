"""PyPI's kubernetes client against a cluster: client.py KUBECONFIG {node|no-node}. Prints ok when all was well."""

import datetime
import socket
import sys
import time

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

NS = "default"


def wait(what, done, patience=300):
    end = time.monotonic() + patience
    while not done():
        assert time.monotonic() < end, f"gave up waiting for {what}"
        time.sleep(0.1)


def quiet(call):
    """For the moment before something is there."""
    try:
        return call()
    except ApiException:
        return None


def fails(code, reason, call):
    try:
        call()
    except ApiException as e:
        assert e.status == code and f'"reason":"{reason}"' in e.body.replace('": "', '":"'), (e.status, e.body)
        return e
    raise AssertionError(f"{reason} was expected")


def objects(core):
    wait("the default service account", lambda: quiet(lambda: core.read_namespaced_service_account("default", NS)))
    meta = client.V1ObjectMeta(name="py", labels={"by": "python"})
    body = client.V1ConfigMap(metadata=meta, data={"a": "1"}, binary_data={"b": "AAH+/w=="})
    made = core.create_namespaced_config_map(NS, body)
    assert made.metadata.uid and made.data == {"a": "1"} and made.binary_data == {"b": "AAH+/w=="}
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime)
    fails(409, "AlreadyExists", lambda: core.create_namespaced_config_map(NS, body))
    fails(404, "NotFound", lambda: core.read_namespaced_config_map("none", NS))
    invalid = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="Not_Valid"))
    fails(422, "Invalid", lambda: core.create_namespaced_config_map(NS, invalid))
    fails(409, "Conflict", lambda: core.delete_namespaced_config_map(
        "py", NS, body=client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))))

    assert core.patch_namespaced_config_map("py", NS, {"data": {"c": "2"}}).data == {"a": "1", "c": "2"}
    by_op = core.patch_namespaced_config_map("py", NS, [{"op": "remove", "path": "/data/c"}])
    assert by_op.data == {"a": "1"}
    by_op.data["a"] = "3"
    assert core.replace_namespaced_config_map("py", NS, by_op).data == {"a": "3"}
    fails(409, "Conflict", lambda: core.replace_namespaced_config_map("py", NS, by_op))
    listed = core.list_namespaced_config_map(NS, label_selector="by=python")
    assert [o.metadata.name for o in listed.items] == ["py"]

    for i in range(5):
        core.create_namespaced_config_map(NS, client.V1ConfigMap(
            metadata=client.V1ObjectMeta(generate_name="many-", labels={"many": "yes"})))
    names, token = set(), None
    while True:
        page = core.list_namespaced_config_map(NS, label_selector="many=yes", limit=2, _continue=token)
        assert len(page.items) <= 2
        names |= {o.metadata.name for o in page.items}
        token = page.metadata._continue
        if not token:
            break
    assert len(names) == 5, names

    # The watch goes on from the list: what is made before it is opened comes all the same.
    core.create_namespaced_config_map(NS, client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="watched", labels={"many": "yes"})))
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_config_map, NS, label_selector="many=yes",
                                      resource_version=page.metadata.resource_version, timeout_seconds=600):
        name = event["object"].metadata.name
        seen.append((event["type"], name))
        if event["type"] == "ADDED":
            core.patch_namespaced_config_map(name, NS, {"data": {"x": "y"}})
        elif event["type"] == "MODIFIED":
            core.delete_namespaced_config_map(name, NS)
        else:
            break
    assert seen == [(word, "watched") for word in ("ADDED", "MODIFIED", "DELETED")], seen


def dynamically(api):
    dyn = dynamic.DynamicClient(api)
    deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "dyn"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}}
    made = deployments.create(body=body, namespace=NS)
    assert made.spec.template.spec.containers[0].imagePullPolicy == "IfNotPresent"
    applied = deployments.server_side_apply(
        {**body, "spec": {**body["spec"], "replicas": 2}}, namespace=NS, name="dyn", field_manager="py", force_conflicts=True)
    assert applied.spec.replicas == 2
    patched = deployments.patch({"spec": {"replicas": 1}}, name="dyn", namespace=NS,
                                content_type="application/merge-patch+json")
    assert patched.spec.replicas == 1
    assert dyn.resources.get(api_version="v1", kind="ConfigMap").get(namespace=NS, label_selector="by=python").items
    deployments.delete(name="dyn", namespace=NS)
    wait("the deployment to go", lambda: not [d for d in deployments.get(namespace=NS).items if d.metadata.name == "dyn"])


def pods(core):
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="py"), spec=client.V1PodSpec(
        termination_grace_period_seconds=1, containers=[client.V1Container(
            name="c", image="busybox:1.36", ports=[client.V1ContainerPort(container_port=8080)],
            command=["sh", "-c", "echo hello from python > /www/index.html; echo started; exec httpd -f -p 8080 -h /www"])]))
    core.create_namespaced_pod(NS, pod)
    wait("the pod to run", lambda: core.read_namespaced_pod_status("py", NS).status.phase == "Running")
    wait("the log", lambda: (quiet(lambda: core.read_namespaced_pod_log("py", NS)) or "").strip() == "started")

    def exec_(*command):
        return stream(core.connect_get_namespaced_pod_exec, "py", NS, command=list(command),
                      stdout=True, stderr=True, stdin=False, tty=False)
    assert exec_("cat", "/www/index.html").strip() == "hello from python"
    talk = stream(core.connect_get_namespaced_pod_exec, "py", NS, command=["sh"], stdout=True, stderr=True, stdin=True,
                  tty=False, _preload_content=False)
    talk.write_stdin("echo $((6*7)); exit 3\n")
    talk.run_forever(timeout=600)
    assert talk.read_stdout().strip() == "42" and talk.returncode == 3

    def fetch():
        forward = portforward(core.connect_get_namespaced_pod_portforward, "py", NS, ports="8080")
        s = forward.socket(8080)
        s.settimeout(600)
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        data = b""
        while chunk := s.recv(4096):
            data += chunk
        s.close()
        return data

    wait("an answer through the forwarded port", lambda: b"hello from python" in fetch())
    core.delete_namespaced_pod("py", NS)
    wait("the pod to go", lambda: not quiet(lambda: core.read_namespaced_pod("py", NS)))


def main():
    kubeconfig, shape = sys.argv[1:]
    config.load_kube_config(kubeconfig)
    socket.setdefaulttimeout(600)
    api, core = client.ApiClient(), client.CoreV1Api()
    assert client.VersionApi().get_code().major == "1"
    assert any(g.name == "apps" for g in client.ApisApi().get_api_versions().groups)
    objects(core)
    dynamically(api)
    if shape == "node":
        pods(core)
    print("ok")


if __name__ == "__main__":
    main()
