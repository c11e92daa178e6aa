"""Checks what no schema knows of docs/deploy/kubernetes: that its files name one another rightly, and agree with pgvpd.conf.

usage: manifests.py DIRECTORY VERSION
"""

import pathlib
import sys

import yaml

directory, version = pathlib.Path(sys.argv[1]), sys.argv[2]
wrong = []


def expect(condition: bool, what: str) -> None:
    if not condition:
        wrong.append(what)


def only(kind: str, name: str = "pgvpd") -> dict:
    found = [document for document in documents if (document["kind"], document["metadata"]["name"]) == (kind, name)]
    expect(len(found) == 1, f"{len(found)} of {kind} {name}")
    return found[0]


kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
files = {file.name for file in directory.glob("*.yaml")} - {"kustomization.yaml"}
expect(set(kustomization["resources"]) == files, f"resources: {kustomization['resources']}, files: {sorted(files)}")
known = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images"}
expect(set(kustomization) <= known, f"kustomization.yaml has more than {sorted(known)}")
documents = [document for file in sorted(files) for document in yaml.safe_load_all((directory / file).read_text())]
for document in documents:
    expect("namespace" not in document["metadata"], f"{document['kind']}: the namespace is kustomization.yaml's to say")
expect(only("Namespace")["metadata"]["name"] == kustomization["namespace"], "another namespace")

deployment = only("Deployment")["spec"]
labels = deployment["template"]["metadata"]["labels"]
pod = deployment["template"]["spec"]
(container,) = pod["containers"]
ports = {port["name"]: port["containerPort"] for port in container["ports"]}

# Names and labels.
selectors = {
    "Deployment": deployment["selector"]["matchLabels"],
    "PodDisruptionBudget": only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    "NetworkPolicy": only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    "Service": only("Service")["spec"]["selector"],
    "Service pgvpd-admin": only("Service", "pgvpd-admin")["spec"]["selector"],
    **{spread["topologyKey"]: spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]},
}
for name, selector in selectors.items():
    expect(selector == labels, f"{name} selects {selector}, and pods have {labels}")
target = only("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
expect((target["kind"], target["name"]) == ("Deployment", "pgvpd"), f"the autoscaler's target is {target}")
expect("replicas" not in deployment, "replicas: they are the autoscaler's")
expect("cpu" in container["resources"]["requests"], "the autoscaler needs a request of CPU")
expect(only("ServiceAccount")["metadata"]["name"] == pod["serviceAccountName"], "another service account")
(image,) = kustomization["images"]
expect(image["name"] == container["image"], f"kustomization.yaml renames {image['name']}, not {container['image']}")
expect(image["newTag"] == version, f"the image's tag is {image['newTag']}, and this is {version}")

# Ports by name.
used = [port["targetPort"] for service in ("pgvpd", "pgvpd-admin") for port in only("Service", service)["spec"]["ports"]]
used += [container[f"{probe}Probe"]["httpGet"]["port"] for probe in ("startup", "liveness", "readiness")]
used += [port["port"] for rule in only("NetworkPolicy")["spec"]["ingress"] for port in rule["ports"]]
for port in used:
    expect(port in ports, f"no port {port} of the container")

# The configuration.
text = (directory / "pgvpd.conf").read_text()
options = dict(line.split(" = ", 1) for line in text.splitlines() if line and not line.startswith("#"))
expect(ports == {"postgres": int(options["port"]), "admin": int(options["admin_port"])}, f"ports {ports}")
volumes = {volume["name"]: volume for volume in pod["volumes"]}
mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
(generated,) = kustomization["configMapGenerator"]
expect(mounts["/etc/pgvpd/pgvpd.conf"]["configMap"]["name"] == generated["name"], "another ConfigMap")
expect(generated["files"] == ["pgvpd.conf"], f"the ConfigMap is of {generated['files']}")
expect(container["args"] == ["--config", "/etc/pgvpd/pgvpd.conf"], f"arguments {container['args']}")
secret = mounts["/etc/pgvpd/secrets"]["secret"]
paths = {f"/etc/pgvpd/secrets/{item['path']}" for item in secret["items"]}
expect({value for name, value in options.items() if name.endswith("_file")} == paths, f"the Secret has {sorted(paths)}")
expect(secret["defaultMode"] & 0o007 == 0, "others can read secrets")
least = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(options["shutdown_timeout"])
expect(pod["terminationGracePeriodSeconds"] > least, f"pods are killed before {least} s")

# Hardening.
security = {**pod["securityContext"], **container["securityContext"]}
expect(security["runAsNonRoot"] and security["runAsUser"] > 0, "root")
expect(security["readOnlyRootFilesystem"], "a root file system that can be written")
expect(not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}, "capabilities")
expect(security["seccompProfile"] == {"type": "RuntimeDefault"}, "no seccomp profile")
expect(pod["automountServiceAccountToken"] is False, "a token of Kubernetes in the pod")
for document in documents:
    expect(document["kind"] != "Secret", "a Secret in the manifests")

for line in wrong:
    print(line)
sys.exit(bool(wrong))
