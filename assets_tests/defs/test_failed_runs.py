"""Failed runs are told to the webhook: what failed and why, once, and not before Dagster has given up."""

import json
from typing import Any

import dagster as dg
from pydantic import SecretStr

from assets_tests.test_alerts import receiver
from pipeline.alerts import Webhook
from pipeline.checks import CHECKS
from pipeline.defs.failing import failure_sentences
from pipeline.defs.reporting import reported
from pipeline.defs.sensors.failures import failed_runs
from pipeline.errors import HoneloopError
from pipeline.progress import Silent


@dg.op
def breaks(context: dg.OpExecutionContext) -> None:
    with reported(context.log, Silent()):
        raise HoneloopError("The disk is full.", hint="Make room.")


@dg.job(executor_def=dg.in_process_executor)
def breaking() -> None:
    breaks()


@dg.asset
def numbers() -> None: ...


@dg.asset_check(asset=numbers, blocking=True)
def are_enough() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="There are 3.", metadata={"hint": "Count again."})


def tick(instance: dg.DagsterInstance, cursor: str | None, webhook: Webhook) -> Any:
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"alerts": webhook})
    return failed_runs.evaluate_tick(context)


def test_a_failed_run_is_told_once_with_what_it_said(instance: dg.DagsterInstance):
    with receiver() as (address, came):
        webhook = Webhook(SecretStr(address))
        first = tick(instance, None, webhook)  # from now on
        assert not breaking.execute_in_process(instance=instance, raise_on_error=False).success
        told = tick(instance, first.cursor, webhook)
        tick(instance, told.cursor, webhook)
    (text,) = [json.loads(each)["text"] for each in came]
    assert "breaking failed. The disk is full. Make room." in text


def test_without_a_webhook_it_says_so(instance: dg.DagsterInstance):
    first = tick(instance, None, Webhook(None))
    breaking.execute_in_process(instance=instance, raise_on_error=False)
    assert "HONELOOP_ALERT_WEBHOOK is not set" in str(
        tick(instance, first.cursor, Webhook(None)).skip_message
    )


def test_a_run_that_is_tried_again_is_not_told(instance: dg.DagsterInstance):
    with receiver() as (address, came):
        webhook = Webhook(SecretStr(address))
        first = tick(instance, None, webhook)
        failed = breaking.execute_in_process(instance=instance, raise_on_error=False)
        instance.add_run_tags(failed.run_id, {"dagster/will_retry": "true"})
        assert "tried again by itself" in str(tick(instance, first.cursor, webhook).skip_message)
    assert came == []


def test_a_blocking_check_fails_its_run_and_is_named(instance: dg.DagsterInstance):
    job = dg.Definitions(assets=[numbers], asset_checks=[are_enough]).resolve_implicit_global_asset_job_def()
    failed = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not failed.success
    assert failure_sentences(instance, failed.run_id) == [
        "The check are_enough of numbers failed: There are 3. Count again."
    ]
    assert all(check.blocking for check in CHECKS)
