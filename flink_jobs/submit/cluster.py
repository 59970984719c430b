"""Talks to a Flink cluster over REST."""

import http.client
import json
import urllib.request
from typing import Any, TypedDict

from flink_jobs.settings.flink import BROKERS_PARAMETER, PREFIX_PARAMETER
from flink_jobs.settings.settings import Settings
from udfs.core.errors import ShopstreamError

#: Flink's own client, which submits, knows no proxy either.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Overview = TypedDict("Overview", {"slots-available": int})


class JobSummary(TypedDict):
    """A job in the list of a cluster's jobs."""

    jid: str
    name: str
    state: str


class Jobs(TypedDict):
    """A cluster's jobs."""

    jobs: list[JobSummary]


#: With the parameters that a job has published. The cluster leaves out what a job has none of.
ExecutionConfig = TypedDict("ExecutionConfig", {"user-config": dict[str, str]}, total=False)
JobConfig = TypedDict("JobConfig", {"execution-config": ExecutionConfig}, total=False)


def query_cluster(settings: Settings, path: str) -> Any:
    """Returns the JSON that the cluster answers to GET `path`; raises ShopstreamError if it is down."""
    address = settings.flink.address
    try:
        with _direct.open(f"http://{address}{path}", timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ShopstreamError(
            f"no Flink cluster answers at {address} (setting flink.address): {reason}; "
            "a local one is started by `shopstream flink start`"
        ) from None


def require_own_transactions(name: str, settings: Settings) -> None:
    """Raises ShopstreamError if the job `name` already runs with the same transactional ids at the same Kafka.

    Those are the same if the prefix is, and Kafka is if one of its broker addresses is ours.
    """
    if settings.sink.guarantee != "exactly-once":
        return
    prefix, ours = settings.sink.transactional_id_prefix, _addresses(settings.kafka.bootstrap)
    overview: Jobs = query_cluster(settings, "/jobs/overview")
    for job in overview["jobs"]:
        if job["name"] != f"shopstream-{name}" or job["state"] in ("FINISHED", "CANCELED", "FAILED"):
            continue
        config: JobConfig = query_cluster(settings, f"/jobs/{job['jid']}/config")
        parameters = config.get("execution-config", {}).get("user-config", {})
        if parameters.get(PREFIX_PARAMETER) == prefix and ours & _addresses(parameters.get(BROKERS_PARAMETER, "")):
            raise ShopstreamError(
                f"job {job['jid']} ({job['state'].lower()}) on the cluster at {settings.flink.address} writes to the "
                f"same Kafka with the same sink.transactional_id_prefix={prefix}, and two would undo each other's "
                "transactions: stop that job first, or give this one another prefix and another kafka.group"
            )


def _addresses(bootstrap: str) -> set[str]:
    return {address.strip().lower() for address in bootstrap.split(",")}


def cancel(settings: Settings, job_id: str) -> None:
    """Cancels a job; fine if it has ended already."""
    request = urllib.request.Request(f"http://{settings.flink.address}/jobs/{job_id}?mode=cancel", method="PATCH")
    try:
        _direct.open(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        if error.code not in (404, 409):
            raise ShopstreamError(f"job {job_id} cannot be cancelled: {error.reason}") from None
