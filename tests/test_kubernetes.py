"""deploy/kubernetes: the manifests against the program, and, as ``kubectl kustomize`` renders them, against schemas."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from okasie_tasks.settings import load_settings
from okasie_tasks.settings.model import Settings
from okasie_tasks.store.migrations import LONGEST_WAIT_SECONDS
from okasie_tasks.worker.settings import SETTINGS
from tests.test_compose import OURS, words
from tests.test_deploy import LABELS, series

KUBERNETES = Path(__file__).parents[1] / "deploy" / "kubernetes"
BASE, AUTOSCALING, EXAMPLE = (KUBERNETES / name for name in ("base", "autoscaling", "example"))
WORKERS = ("control", "urgent", "api", "diff")
KINDS = (*WORKERS, "beat", "web", "metrics", "flower")
VERSIONS = ("1.27", "1.37")
"""The oldest Kubernetes whose schema has every field that is used, and a new one."""
SCALED: dict[str, dict[str, Any]] = {
    name: yaml.safe_load((AUTOSCALING / f"{name}.yaml").read_text()) for name in ("diff", "api")
}
Manifest = dict[str, Any]


def manifests(name: str) -> dict[str, Manifest]:
    """The documents of a file of the base by kind, before kustomize merges common.yaml into them."""
    return {found["kind"]: found for found in yaml.safe_load_all((BASE / f"{name}.yaml").read_text())}


def pod(deployment: Manifest) -> Manifest:
    found: Manifest = deployment["spec"]["template"]["spec"]
    return found


def container(deployment: Manifest) -> Manifest:
    (found,) = pod(deployment)["containers"]
    return dict(found)


def command(name: str) -> list[str]:
    return list(container(manifests(name)["Deployment"])["command"])


def secrets(deployment: Manifest) -> set[str]:
    return {volume["secret"]["secretName"] for volume in pod(deployment).get("volumes", ()) if "secret" in volume}


# -- as written ------------------------------------------------------------------------------------------------------


def test_there_is_a_manifest_for_each_service_of_ours() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f"{name}.yaml" for name in KINDS)
    assert {path.stem for path in BASE.glob("*.yaml")} == {*KINDS, "common", "kustomization"}
    assert set(OURS) - set(KINDS) <= {"sandbox", "sandbox-urgent"}


@pytest.mark.parametrize("name", KINDS)
def test_a_pod_runs_what_the_compose_file_runs(name: str) -> None:
    ours, theirs = command(name), words(name)
    if name == "diff":  # a container sees all cores of its node
        place = ours.index("-c")
        del ours[place : place + 2]
    if name == "flower":  # the login is a file
        assert ours.pop() == "--conf=/run/secrets/flower/flowerconfig.py"
    assert ours == theirs


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_probed_by_its_own_queue(name: str) -> None:
    found, argv = container(manifests(name)["Deployment"]), command(name)
    queues = argv[argv.index("-Q") + 1].split(",")
    assert set(queues) <= {queue.name for queue in SETTINGS["task_queues"]}
    asked = ["okasie", "health", "--queue", queues[0]]
    assert found["livenessProbe"]["exec"]["command"] == asked
    assert found["startupProbe"]["exec"]["command"] == asked
    assert found["readinessProbe"]["exec"]["command"] == [*asked, "--ready"]
    liveness = found["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] <= 20, "a heartbeat may be 10 s old"


def test_each_secret_is_only_where_it_is_needed() -> None:
    holders: dict[str, set[str]] = {}
    for name in KINDS:
        deployment = manifests(name)["Deployment"]
        assert "secretKeyRef" not in str(deployment), "secrets are files"
        for secret in secrets(deployment):
            holders.setdefault(secret, set()).add(name)
    assert holders == {
        "okasie-keys": {"api", "urgent"},
        "okasie-sources": {"diff", "urgent"},
        "okasie-alerts": {"control"},
        "okasie-web": {"web"},
        "okasie-flower": {"flower"},
    }
    shown = (EXAMPLE / "kustomization.yaml").read_text()
    assert set(re.findall(r"secret generic (\S+)", shown)) == {*holders, "okasie-redis"}


def test_the_example_is_a_configuration_that_loads(tmp_path: Path) -> None:
    text = (EXAMPLE / "okasie.toml").read_text()
    if "web" not in Settings.model_fields:
        text = re.sub(r"(?ms)^\[web.*?(?=^\[accounts)", "", text)
    config = tmp_path / "okasie.toml"
    config.write_text(text)
    (tmp_path / "url").write_text("redis://redis:6379/0")
    settings = load_settings(config, {"OKASIE_REDIS__URL": f"file:{tmp_path / 'url'}"})
    assert settings.redis.url == "redis://redis:6379/0"
    mounted = {
        mount["mountPath"]
        for name in KINDS
        for mount in container(manifests(name)["Deployment"]).get("volumeMounts", ())
    }
    assert {str(Path(path).parent) for path in re.findall(r'"file:(/run/secrets/[^"]+)"', text)} <= mounted


# -- autoscaling -----------------------------------------------------------------------------------------------------


def query(name: str) -> str:
    (trigger,) = SCALED[name]["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


@pytest.mark.parametrize("name", list(SCALED))
def test_a_scaled_object_has_the_fields_of_keda(name: str) -> None:
    """https://keda.sh/docs/latest/reference/scaledobject-spec and scalers/prometheus: metadata is text only."""
    found, spec = SCALED[name], SCALED[name]["spec"]
    assert (found["apiVersion"], found["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert set(spec) <= {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"}
    assert spec["scaleTargetRef"] == {"name": f"okasie-{name}"}
    assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
    assert {type(value) for value in trigger["metadata"].values()} == {str}
    assert trigger["metadata"]["ignoreNullValues"] == "false", "without metrics the fallback counts, not a zero"


@pytest.mark.parametrize("name", list(SCALED))
def test_the_query_of_a_scaled_object_asks_for_what_there_is(name: str) -> None:
    pytest.importorskip("promql_parser").parse(query(name))
    assert series(query(name)) <= set(LABELS)


def test_api_is_scaled_by_the_threads_it_has() -> None:
    argv = command("api")
    (threads,) = re.findall(r"/ (\d+)", query("api"))
    assert threads == argv[argv.index("-c") + 1]


def test_diff_is_scaled_by_the_queues_it_consumes() -> None:
    argv = command("diff")
    assert f'queue=~"{argv[argv.index("-Q") + 1].replace(",", "|")}"' in query("diff")


# -- as rendered -----------------------------------------------------------------------------------------------------


@functools.cache
def kustomize_missing() -> str:
    """Why nothing can be rendered here, or an empty text. The kustomize in kubectl below 1.22 knows no components."""
    if shutil.which("kubectl") is None:
        return "no kubectl: apt-get install kubernetes-client"
    argv = ["kubectl", "version", "--client", "--output", "json"]
    version = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=300).stdout)["clientVersion"]
    minor = int(re.sub(r"\D.*", "", version["minor"]))
    return "" if minor >= 22 else f"kubectl {version['gitVersion']} is older than 1.22"


def rendered(folder: Path) -> list[Manifest]:
    if why := kustomize_missing():
        pytest.skip(why)
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def deployments(documents: list[Manifest]) -> dict[str, Manifest]:
    return {
        found["metadata"]["name"].removeprefix("okasie-"): found for found in documents if found["kind"] == "Deployment"
    }


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=["base", "example"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_rendered_is_valid_by_the_schemas_of_kubernetes(folder: Path, version: str) -> None:
    documents = rendered(folder)
    assert set(deployments(documents)) == set(KINDS)
    for found in documents:
        if found["kind"] != "ScaledObject":
            kubernetes_validate.validate(found, version, strict=True)
    wrong = deployments(documents)["api"]
    container(wrong)["livenessProbe"]["exec"]["comand"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_workers_can_be_replaced_at_once_for_a_change_of_the_layout(tmp_path: Path, version: str) -> None:
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "example" / "kustomization.yaml"
    components = "components: [../autoscaling"
    overlay.write_text(overlay.read_text().replace(components, f"{components}, ../recreate"))
    found = deployments(rendered(overlay.parent))
    strategies = {name: deployment["spec"]["strategy"] for name, deployment in found.items()}
    rolling = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert strategies == {name: {"type": "Recreate"} if name in WORKERS else rolling for name in KINDS}
    for deployment in found.values():
        kubernetes_validate.validate(deployment, version, strict=True)
    longest = max(pod(deployment)["terminationGracePeriodSeconds"] for deployment in found.values())
    assert longest < LONGEST_WAIT_SECONDS, "the new workers wait until the last old one has ended"


@pytest.mark.parametrize("name", KINDS)
def test_a_pod_has_no_rights_it_does_not_need(name: str) -> None:
    """The namespace of the example enforces the Pod Security Standard "restricted"."""
    deployment = deployments(rendered(EXAMPLE))[name]
    found, own = pod(deployment), container(deployment)
    assert found["securityContext"]["runAsNonRoot"] is True
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(found)
    assert found["automountServiceAccountToken"] is False
    assert found["enableServiceLinks"] is False, "OKASIE_WEB_PORT would come from the service okasie-web"
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in own["volumeMounts"]}
    assert {path for path, read_only in mounts.items() if not read_only} == {"/tmp", "/var/lib/okasie"}
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    assert {mount["name"] for mount in own["volumeMounts"]} == set(volumes)
    assert "emptyDir" in volumes["state"]
    assert own["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "terminationGracePeriodSeconds" in found
    assert {"name": "OKASIE_REDIS__URL", "value": "file:/run/secrets/redis/url"} in own["env"]


def test_what_is_rendered_refers_to_what_there_is() -> None:
    documents = rendered(EXAMPLE)
    labels = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in deployments(documents).items()}
    for found in documents:
        selector = {
            "Service": lambda: found["spec"]["selector"],  # noqa: B023 - called at once
            "PodDisruptionBudget": lambda: found["spec"]["selector"]["matchLabels"],  # noqa: B023
        }.get(found["kind"])
        if selector:
            name = found["metadata"]["name"].removeprefix("okasie-")
            assert [pod for pod, own in labels.items() if selector().items() <= own.items()] == [name]
    guarded = {found["metadata"]["name"] for found in documents if found["kind"] == "PodDisruptionBudget"}
    assert guarded == {f"okasie-{name}" for name in (*WORKERS, "web")}
    (config,) = [found["metadata"]["name"] for found in documents if found["kind"] == "ConfigMap"]
    for deployment in deployments(documents).values():
        assert {"name": "config", "configMap": {"name": config}} in pod(deployment)["volumes"]
        assert container(deployment)["image"] == "registry.example/okasie-tasks:0.1.0"
    scaled = {found["spec"]["scaleTargetRef"]["name"] for found in documents if found["kind"] == "ScaledObject"}
    free = {f"okasie-{name}" for name, found in deployments(documents).items() if "replicas" not in found["spec"]}
    assert scaled == free == {"okasie-diff", "okasie-api"}
