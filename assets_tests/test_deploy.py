"""The files of deploy/: as far as they can be checked without a cluster.

Which values Dagster's chart takes is read off its published schema (helm/dagster/schema in its sources);
the chart itself, and Helm, are not here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import Settings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
# What the chart's schema names; where it forbids others, a wrong word here would stop `helm install`.
CHART = {
    "": {
        *("dagsterWebserver", "dagster-user-deployments", "postgresql", "generatePostgresqlPasswordSecret"),
        *("generateCeleryConfigSecret", "rabbitmq", "redis", "flower", "ingress", "imagePullSecrets"),
        *(
            "computeLogManager",
            "scheduler",
            "runLauncher",
            "pythonLogs",
            "dagsterDaemon",
            "busybox",
            "migrate",
        ),
        *("telemetry", "serviceAccount", "global", "retention", "additionalInstanceConfig", "concurrency"),
    },
    "runLauncher.config.k8sRunLauncher": {
        *(
            "image",
            "imagePullPolicy",
            "jobNamespace",
            "loadInclusterConfig",
            "kubeconfigFile",
            "envConfigMaps",
        ),
        *("envSecrets", "envVars", "volumeMounts", "volumes", "labels", "failPodOnRunFailure", "resources"),
        *("schedulerName", "securityContext", "runK8sConfig"),
    },
    "runLauncher.config.k8sRunLauncher.runK8sConfig": {
        *("containerConfig", "podSpecConfig", "podTemplateSpecMetadata", "jobSpecConfig", "jobMetadata"),
    },
    "dagsterDaemon": {
        *("enabled", "image", "runCoordinator", "heartbeatTolerance", "env", "envConfigMaps", "envSecrets"),
        *("deploymentLabels", "labels", "nodeSelector", "affinity", "tolerations", "podSecurityContext"),
        *("securityContext", "resources", "livenessProbe", "readinessProbe", "startupProbe", "annotations"),
        *("runMonitoring", "runRetries", "sensors", "schedules", "schedulerName", "volumeMounts", "volumes"),
    },
    "retention": {"enabled", "sensor", "schedule", "autoMaterialize"},
    "concurrency": {"enabled", "runs", "pools"},
    "postgresql": {
        *(
            "postgresqlScheme",
            "image",
            "enabled",
            "postgresqlHost",
            "postgresqlUsername",
            "postgresqlPassword",
        ),
        *("postgresqlDatabase", "postgresqlParams", "service"),
    },
}
DEPLOYMENT = {
    *("name", "image", "dagsterApiGrpcArgs", "codeServerArgs", "includeConfigInLaunchedRuns", "port", "env"),
    *("envConfigMaps", "envSecrets", "annotations", "nodeSelector", "affinity", "tolerations"),
    *(
        "podSecurityContext",
        "securityContext",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ),
    *("labels", "volumeMounts", "volumes", "schedulerName"),
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "values.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def search() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "search.yaml").read_text("utf-8")))


@pytest.mark.parametrize("place", CHART)
def test_the_chart_knows_every_value(values: dict[str, Any], place: str) -> None:
    found: Any = values
    for name in filter(None, place.split(".")):
        found = found[name]
    assert set(found) <= CHART[place]


def test_runs_have_what_the_code_location_has(values: dict[str, Any]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    assert set(deployment) <= DEPLOYMENT
    assert {"name", "image", "port", "dagsterApiGrpcArgs"} <= set(deployment)
    launcher = values["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    runs = launcher["config"]["k8sRunLauncher"]
    for name in ("volumes", "volumeMounts", "envSecrets"):
        assert runs[name] == deployment[name]
    assert deployment["includeConfigInLaunchedRuns"] == {"enabled": True}
    assert {mount["name"] for mount in runs["volumeMounts"]} <= {volume["name"] for volume in runs["volumes"]}


def test_what_dagster_is_told_is_what_it_is_told_on_one_machine(values: dict[str, Any]) -> None:
    here = yaml.safe_load((ROOT / "dagster.yaml").read_text("utf-8"))
    concurrency = here["concurrency"]
    assert values["concurrency"]["runs"] == {"maxConcurrentRuns": concurrency["runs"]["max_concurrent_runs"]}
    assert values["concurrency"]["pools"] == {
        "defaultLimit": concurrency["pools"]["default_limit"],
        "granularity": concurrency["pools"]["granularity"],
    }
    assert values["dagsterDaemon"]["runRetries"]["maxRetries"] == here["run_retries"]["max_retries"]
    assert values["additionalInstanceConfig"]["freshness"] == here["freshness"]
    sensors = here["retention"]["sensor"]["purge_after_days"]
    assert values["retention"]["sensor"]["purgeAfterDays"] == sensors
    # Where `pipeline.store.server.dagster_database` looks for it.
    assert values["postgresql"]["postgresqlDatabase"] == "dagster"


def test_every_variable_is_a_setting(values: dict[str, Any], search: list[dict[str, Any]]) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    (container,) = search[0]["spec"]["template"]["spec"]["containers"]
    named = [*deployment["env"], *(each["name"] for each in container["env"])]
    known = {f"HONELOOP_{field.upper()}" for field in Settings.model_fields}
    assert named
    assert set(named) <= known


def test_the_search_service_sees_the_checkpoints_where_runs_put_them(
    values: dict[str, Any], search: list[dict[str, Any]]
) -> None:
    """The registry has their absolute paths. Its queue is SQLite: not on the shared disk."""
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    pod = search[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    (home,) = deployment["volumeMounts"]
    assert deployment["env"]["HONELOOP_HOME"] == home["mountPath"] == mounts["home"]["mountPath"]
    assert mounts["home"]["readOnly"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["HONELOOP_HOME"] == mounts["queue"]["mountPath"] != home["mountPath"]
    templates = {each["metadata"]["name"] for each in search[0]["spec"]["volumeClaimTemplates"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]} | templates
    assert search[1]["spec"]["selector"] == search[0]["spec"]["selector"]["matchLabels"]


def test_everything_runs_one_image_of_pinned_versions(
    values: dict[str, Any], search: list[dict[str, Any]]
) -> None:
    (deployment,) = values["dagster-user-deployments"]["deployments"]
    (container,) = search[0]["spec"]["template"]["spec"]["containers"]
    image = deployment["image"]
    assert container["image"] == f"{image['repository']}:{image['tag']}"
    dockerfile = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert "-c constraints.txt" in dockerfile
    for line in dockerfile.splitlines():
        if line.startswith("COPY "):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    pinned = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    chart = next(
        line for line in (DEPLOY / "values.yaml").read_text("utf-8").splitlines() if "--version" in line
    )
    assert f"dagster=={chart.split('--version ')[1].split()[0]}" in pinned
    assert any(line.startswith("dagster-k8s==") for line in pinned)


def test_workspace_and_code_location_are_valid(tmp_path: Path) -> None:
    """As `dagster definitions validate` finds them, in a process of its own, as a code server loads them."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HONELOOP_HOME": str(tmp_path / "home"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "honeloop" in done.stdout + done.stderr
