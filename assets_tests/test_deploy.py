"""The files of deploy/: as far as they can be checked without a cluster, Helm and the chart.

docs/machines.md says what was once checked with them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets_tests.chart import Deployment, K8sRunLauncher, Values
from assets_tests.end_to_end.services import two_free_ports
from pipeline.config import Settings
from pipeline.encoders.onnx_files import OnnxExport, exports_in_force

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
NEEDS_KUBERNETES = "dagster-k8s is not installed: pip install -c constraints.txt -e '.[kubernetes]'"


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "values.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def values(plain: dict[str, Any]) -> Values:
    """Fails on a name or a type that the chart does not have, at any depth."""
    return Values.model_validate(plain)


@pytest.fixture(scope="module")
def deployment(values: Values) -> Deployment:
    (deployment,) = values.user_deployments.deployments
    return deployment


@pytest.fixture(scope="module")
def runs(values: Values) -> K8sRunLauncher:
    return values.run_launcher.config.k8s_run_launcher


@pytest.fixture(scope="module")
def search() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "search.yaml").read_text("utf-8")))


def user_of_the_image() -> int:
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    (user,) = re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert f"useradd --uid {user} " in dockerfile
    return int(user)


def test_runs_have_what_the_code_location_has(deployment: Deployment, runs: K8sRunLauncher) -> None:
    assert runs.volumes == deployment.volumes
    assert runs.volume_mounts == deployment.volume_mounts
    assert runs.env_secrets == deployment.env_secrets
    assert deployment.include_config_in_launched_runs.enabled
    assert {mount.name for mount in runs.volume_mounts} <= {volume.name for volume in runs.volumes}
    assert runs.run_k8s_config.pod_spec_config.security_context == deployment.pod_security_context


def test_every_pod_may_write_where_it_has_to(
    deployment: Deployment, runs: K8sRunLauncher, search: list[dict[str, Any]]
) -> None:
    """A volume is root's at first, and the image's user is not root."""
    user = user_of_the_image()
    assert user != 0
    assert deployment.pod_security_context.fs_group == user
    assert runs.run_k8s_config.pod_spec_config.security_context.fs_group == user
    assert search[0]["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == user


def test_what_dagster_is_told_is_what_it_is_told_on_one_machine(values: Values) -> None:
    here = yaml.safe_load((ROOT / "dagster.yaml").read_text("utf-8"))
    concurrency = here["concurrency"]
    assert values.concurrency.runs.model_dump() == concurrency["runs"]
    assert values.concurrency.pools.model_dump() == concurrency["pools"]
    assert values.dagster_daemon.run_retries.model_dump() == here["run_retries"]
    coordinator = values.dagster_daemon.run_coordinator.config.custom_run_coordinator
    queue = here["run_coordinator"]
    assert (coordinator.module, coordinator.class_) == (queue["module"], queue["class"])
    assert queue["config"].items() <= coordinator.config.items()
    monitoring = values.dagster_daemon.run_monitoring.model_dump()
    # A pod takes longer to come than a process, its image has to be fetched; nothing else is different.
    assert monitoring | {"start_timeout_seconds": 180} == here["run_monitoring"]
    assert values.additional_instance_config == {"freshness": here["freshness"]}
    assert values.retention.sensor.model_dump() == here["retention"]["sensor"]
    assert values.retention.schedule.model_dump() == here["retention"]["schedule"]
    # Where `pipeline.store.server.dagster_database` looks for it.
    assert values.postgresql.postgresql_database == "dagster"


def test_every_variable_is_a_setting(deployment: Deployment, search: list[dict[str, Any]]) -> None:
    (container,) = search[0]["spec"]["template"]["spec"]["containers"]
    named = [*deployment.env, *(each["name"] for each in container["env"])]
    known = {f"HONELOOP_{field.upper()}" for field in Settings.model_fields}
    assert named
    assert set(named) <= known


def test_the_search_service_sees_the_checkpoints_where_runs_put_them(
    deployment: Deployment, search: list[dict[str, Any]]
) -> None:
    """The registry has their absolute paths. Its queue is SQLite: not on the shared disk."""
    pod = search[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    (home,) = deployment.volume_mounts
    assert deployment.env["HONELOOP_HOME"] == home.mount_path == mounts["home"]["mountPath"]
    assert mounts["home"]["readOnly"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["HONELOOP_HOME"] == mounts["queue"]["mountPath"] != home.mount_path
    templates = {each["metadata"]["name"] for each in search[0]["spec"]["volumeClaimTemplates"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]} | templates
    assert search[1]["spec"]["selector"] == search[0]["spec"]["selector"]["matchLabels"]


def test_the_search_service_sees_the_onnx_exports_where_runs_put_them(
    deployment: Deployment, search: list[dict[str, Any]], jina_export: OnnxExport, tmp_path: Path
) -> None:
    """Its pod's home is another; what its init container does is done here, in directories of the test's."""
    pod = search[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    homes = {deployment.env["HONELOOP_HOME"]: tmp_path / "runs", env["HONELOOP_HOME"]: tmp_path / "search"}
    for home in homes.values():
        home.mkdir()

    def here(argument: str) -> str:
        parent, _, name = argument.rpartition("/")
        return str(homes[parent] / name) if parent in homes else argument

    exports = exports_in_force(Settings(home=homes[env["HONELOOP_HOME"]]))
    assert exports is not None
    for _ in range(2):  # a pod that starts anew finds its volume as it left it
        for each in pod.get("initContainers", []):
            subprocess.run([here(argument) for argument in each["command"]], check=True)
        assert exports.of(jina_export.member_version) is None
    runs = Settings(home=homes[deployment.env["HONELOOP_HOME"]])
    shutil.copytree(jina_export.directory.parent, runs.onnx_path)
    assert exports.of(jina_export.member_version) is not None


def test_everything_runs_one_image_of_pinned_versions(
    deployment: Deployment, search: list[dict[str, Any]]
) -> None:
    pod = search[0]["spec"]["template"]["spec"]
    images = {container["image"] for container in [*pod["containers"], *pod["initContainers"]]}
    assert images == {f"{deployment.image.repository}:{deployment.image.tag}"}
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert "-c constraints.txt" in dockerfile
    pinned = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    chart = next(
        line for line in (DEPLOY / "values.yaml").read_text("utf-8").splitlines() if "--version" in line
    )
    assert f"dagster=={chart.split('--version ')[1].split()[0]}" in pinned
    assert any(line.startswith("dagster-k8s==") for line in pinned)


def test_the_image_takes_what_it_copies() -> None:
    """What is copied is there, and the build is sent it."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    copied = [
        source
        for line in (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source


def test_kubernetes_knows_every_word_of_the_search_service(search: list[dict[str, Any]]) -> None:
    """By the models of its own Python client, at any depth."""
    models = pytest.importorskip("dagster_k8s.models", reason=NEEDS_KUBERNETES)
    client = pytest.importorskip("kubernetes.client", reason=NEEDS_KUBERNETES)
    for document, model in zip(search, (client.V1StatefulSet, client.V1Service), strict=True):
        made = models.k8s_model_from_dict(model, models.k8s_snake_case_dict(model, document))
        assert made.metadata.name == "honeloop-search"


def test_a_run_is_the_pod_that_is_meant(plain: dict[str, Any], tmp_path: Path) -> None:
    """What the chart would tell Dagster's own launcher, and what it makes of that."""
    pytest.importorskip("dagster_k8s", reason=NEEDS_KUBERNETES)
    import dagster as dg
    from dagster._config import process_config, resolve_to_config_type
    from dagster_k8s import K8sRunLauncher as Launcher  # pyright: ignore
    from dagster_k8s.container_context import K8sContainerContext  # pyright: ignore
    from dagster_k8s.job import construct_dagster_k8s_job  # pyright: ignore

    given = plain["runLauncher"]["config"]["k8sRunLauncher"]
    (tmp_path / "kubeconfig").write_text(
        "{apiVersion: v1, kind: Config, current-context: here,"
        " clusters: [{name: here, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: me, user: {}}],"
        " contexts: [{name: here, context: {cluster: here, user: me}}]}"
    )
    config = {
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kubeconfig"),
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "dagster_home": "/opt/dagster/dagster_home",
        "image_pull_policy": given["imagePullPolicy"],
        "env_secrets": [secret["name"] for secret in given["envSecrets"]],
        "volumes": given["volumes"],
        "volume_mounts": given["volumeMounts"],
        "run_k8s_config": {
            "container_config": given["runK8sConfig"]["containerConfig"],
            "pod_spec_config": given["runK8sConfig"]["podSpecConfig"],
            "job_spec_config": given["runK8sConfig"]["jobSpecConfig"],
        },
    }
    taken = process_config(resolve_to_config_type(Launcher.config_type()), config)
    assert taken.success, taken.errors
    launcher = Launcher(**(taken.value or {}))
    context = K8sContainerContext.create_for_run(
        dg.DagsterRun(job_name="fine_tune"), launcher, include_run_tags=False
    )
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(job_image="honeloop", run_launcher=launcher),
        ["dagster", "api", "execute_run"],
        "a-run",
        user_defined_k8s_config=context.run_k8s_config,
    )
    assert job.spec is not None
    pod = job.spec.template.spec
    assert pod is not None
    (container,) = pod.containers
    assert pod.security_context.fs_group == user_of_the_image()
    assert [volume.persistent_volume_claim.claim_name for volume in pod.volumes] == ["honeloop-home"]
    assert [mount.mount_path for mount in container.volume_mounts] == ["/var/lib/honeloop"]
    assert container.resources.requests == {"cpu": "2", "memory": "4Gi"}


def test_the_code_server_starts_as_the_chart_starts_it(deployment: Deployment, tmp_path: Path) -> None:
    """`dagster api grpc` with these very arguments, asked for what it serves."""
    from dagster._grpc.client import DagsterGrpcClient

    (port, _) = two_free_ports()
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port)]
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [*command, *deployment.dagster_api_grpc_args],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=said,
            stderr=said,
        ) as server,
    ):
        try:
            client = DagsterGrpcClient(host="127.0.0.1", port=port)
            deadline = time.monotonic() + 300
            while not _answers(client):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            assert "__repository__" in client.list_repositories()
        finally:
            server.terminate()


def _answers(client: Any) -> bool:
    from dagster._core.errors import DagsterUserCodeUnreachableError

    try:
        return client.ping("here")["echo"] == "here"
    except DagsterUserCodeUnreachableError:
        return False


def environment(home: Path) -> dict[str, str]:
    """A pod's: nothing of whoever runs the tests."""
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HONELOOP_HOME": str(home / "home")}


def test_workspace_and_code_location_are_valid(tmp_path: Path) -> None:
    """As `dagster definitions validate` finds them, in a process of its own, as a code server loads them."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "honeloop" in done.stdout + done.stderr
