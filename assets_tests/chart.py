"""What Dagster's chart is given, with the names and types that its schema gives them.

Only what `deploy/values.yaml` uses: a name that is not here, at any depth, is refused. Where the chart's
schema itself forbids others, such a name would stop `helm install`; elsewhere it would silently do nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class Image(Part):
    repository: str
    tag: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"]


class Secret(Part):
    name: str


class Mount(Part):
    name: str
    mount_path: str


class Claim(Part):
    claim_name: str


class Volume(Part):
    name: str
    persistent_volume_claim: Claim


class PodSecurityContext(Part):
    fs_group: int
    fs_group_change_policy: Literal["Always", "OnRootMismatch"]


class Switch(Part):
    enabled: bool


class Deployment(Part):
    name: str
    image: Image
    port: int
    dagster_api_grpc_args: list[str]
    include_config_in_launched_runs: Switch
    env: dict[str, str]
    env_secrets: list[Secret]
    volumes: list[Volume]
    volume_mounts: list[Mount]
    pod_security_context: PodSecurityContext


class UserDeployments(Part):
    enabled: bool
    deployments: list[Deployment]


class Resources(Part):
    requests: dict[str, str]
    limits: dict[str, str]


class ContainerConfig(Part):
    resources: Resources


class PodSpecConfig(Part):
    security_context: PodSecurityContext


class JobSpecConfig(Part):
    ttl_seconds_after_finished: int


class RunK8sConfig(Part):
    container_config: ContainerConfig
    pod_spec_config: PodSpecConfig
    job_spec_config: JobSpecConfig


class K8sRunLauncher(Part):
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    env_secrets: list[Secret]
    volumes: list[Volume]
    volume_mounts: list[Mount]
    run_k8s_config: RunK8sConfig = Field(alias="runK8sConfig")


class RunLauncherConfig(Part):
    k8s_run_launcher: K8sRunLauncher = Field(alias="k8sRunLauncher")


class RunLauncher(Part):
    type: Literal["K8sRunLauncher"]
    config: RunLauncherConfig


class CustomRunCoordinator(Part):
    module: str
    class_: str = Field(alias="class")
    # Not the chart's: what Dagster's class takes.
    config: dict[str, Any]


class RunCoordinatorConfig(Part):
    custom_run_coordinator: CustomRunCoordinator


class RunCoordinator(Part):
    enabled: bool
    type: Literal["CustomRunCoordinator"]
    config: RunCoordinatorConfig


class RunMonitoring(Part):
    enabled: bool
    start_timeout_seconds: int
    cancel_timeout_seconds: int
    poll_interval_seconds: int
    free_slots_after_run_end_seconds: int


class RunRetries(Part):
    enabled: bool
    max_retries: int
    retry_on_asset_or_op_failure: bool


class Daemon(Part):
    enabled: bool
    run_coordinator: RunCoordinator
    run_monitoring: RunMonitoring
    run_retries: RunRetries


class Runs(Part):
    max_concurrent_runs: int


class Pools(Part):
    default_limit: int
    granularity: Literal["run", "op"]


class Concurrency(Part):
    enabled: bool
    runs: Runs
    pools: Pools


class Sensors(Part):
    purge_after_days: dict[Literal["skipped", "success", "failure", "started"], int]


class Schedules(Part):
    purge_after_days: int


class Retention(Part):
    enabled: bool
    sensor: Sensors
    schedule: Schedules


class PostgreSQL(Part):
    enabled: bool
    postgresql_host: str
    postgresql_username: str
    postgresql_database: str


class Global(Part):
    postgresql_secret_name: str


class Redis(Part):
    enabled: bool
    internal: bool


class Values(Part):
    """All of `deploy/values.yaml`."""

    generate_postgresql_password_secret: bool
    global_: Global = Field(alias="global")
    postgresql: PostgreSQL
    user_deployments: UserDeployments = Field(alias="dagster-user-deployments")
    run_launcher: RunLauncher
    dagster_daemon: Daemon
    concurrency: Concurrency
    # Merged into dagster.yaml as it is.
    additional_instance_config: dict[str, Any]
    telemetry: Switch
    retention: Retention
    rabbitmq: Switch
    redis: Redis
    flower: Switch
