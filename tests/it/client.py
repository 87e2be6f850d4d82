"""Lists, watches and patches with Python's `kubernetes` client, unchanged. Prints what it saw, one fact a line."""

import sys
import threading

from kubernetes import client, config, watch

config.load_kube_config(context=sys.argv[1])
namespace = sys.argv[2]
core = client.CoreV1Api()
apps = client.AppsV1Api()


def config_map(name, value):
    metadata = client.V1ObjectMeta(name=name, labels={"app": "python"})
    return client.V1ConfigMap(metadata=metadata, data={"value": value})


core.create_namespaced_config_map(namespace, config_map("first", "1"))
listed = core.list_namespaced_config_map(namespace, label_selector="app=python")
print("listed", [item.metadata.name for item in listed.items])


def change():
    core.create_namespaced_config_map(namespace, config_map("second", "1"))
    core.patch_namespaced_config_map("second", namespace, {"data": {"value": "2"}})
    core.delete_namespaced_config_map("second", namespace)


changing = threading.Timer(0, change)
changing.start()
events = watch.Watch().stream(
    core.list_namespaced_config_map,
    namespace,
    label_selector="app=python",
    resource_version=listed.metadata.resource_version,
    timeout_seconds=30,
)
for event in events:
    print("watched", event["type"], event["object"].metadata.name, event["object"].data["value"])
    if event["type"] == "DELETED":
        break
changing.join()

container = client.V1Container(name="echo", image="docker.io/istio/tcp-echo-server:1.3", args=["9000", "hi"])
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels={"app": "echo"}), spec=client.V1PodSpec(containers=[container])
)
spec = client.V1DeploymentSpec(
    replicas=0, selector=client.V1LabelSelector(match_labels={"app": "echo"}), template=template
)
apps.create_namespaced_deployment(
    namespace, client.V1Deployment(metadata=client.V1ObjectMeta(name="echo"), spec=spec)
)
patched = apps.patch_namespaced_deployment(
    "echo", namespace, {"spec": {"template": {"spec": {"containers": [{"name": "echo", "args": ["9000", "ho"]}]}}}}
)
print("patched", patched.spec.template.spec.containers[0].image, patched.spec.template.spec.containers[0].args)
json_patch = [{"op": "replace", "path": "/data/value", "value": "3"}]
print("json", core.patch_namespaced_config_map("first", namespace, json_patch).data)
try:
    core.read_namespaced_config_map("missing", namespace)
except client.ApiException as error:
    print("missing", error.status, error.reason)
