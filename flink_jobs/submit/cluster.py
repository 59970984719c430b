"""Talks to a Flink cluster over REST."""

import http.client
import json
import urllib.request
from typing import Any

from flink_jobs.settings.flink import BROKERS_PARAMETER, PREFIX_PARAMETER
from flink_jobs.settings.settings import Settings
from udfs.errors import ShopstreamError


def query_cluster(settings: Settings, path: str) -> Any:
    """What the cluster's REST interface answers to GET `path`; ShopstreamError when there is none."""
    address = settings.flink.address
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ShopstreamError(
            f"no Flink cluster answers at {address} (setting flink.address): {reason}; "
            "a local one is started by `shopstream flink start`"
        ) from None


def require_own_transactions(name: str, settings: Settings) -> None:
    """ShopstreamError when the job `name` runs on the cluster with the same transactional ids at the same Kafka.

    That is: with our prefix, and an address in common among its brokers and ours.
    """
    if settings.sink.guarantee != "exactly-once":
        return
    prefix, brokers_here = settings.sink.transactional_id_prefix, _addresses(settings.kafka.bootstrap)
    for job in query_cluster(settings, "/jobs/overview")["jobs"]:
        if job["name"] != f"shopstream-{name}" or job["state"] in ("FINISHED", "CANCELED", "FAILED"):
            continue
        told = query_cluster(settings, f"/jobs/{job['jid']}/config").get("execution-config", {}).get("user-config", {})
        if told.get(PREFIX_PARAMETER) == prefix and brokers_here & _addresses(told.get(BROKERS_PARAMETER, "")):
            raise ShopstreamError(
                f"job {job['jid']} ({job['state'].lower()}) on the cluster at {settings.flink.address} writes to the "
                f"same Kafka with the same sink.transactional_id_prefix={prefix}, and two would undo each other's "
                "transactions: stop that job first, or give this one another prefix and another kafka.group"
            )


def _addresses(bootstrap: str) -> set[str]:
    return {address.strip().lower() for address in bootstrap.split(",")}


def cancel(settings: Settings, job_id: str) -> None:
    """Stop a job at once; one that has ended already is left alone."""
    request = urllib.request.Request(f"http://{settings.flink.address}/jobs/{job_id}?mode=cancel", method="PATCH")
    try:
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409):
            raise ShopstreamError(f"job {job_id} cannot be cancelled: {error.reason}") from None
