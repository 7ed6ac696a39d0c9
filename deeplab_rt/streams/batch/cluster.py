"""The jobs of many recordings on a Ray cluster: one task a recording.

Ray shares out the tasks, starts those again whose worker was killed, and gathers the results. A task
may be run any number of times: what is done is skipped, what was interrupted is continued. Every
machine of the cluster sees the recordings and the output folder under the same paths and has this
package installed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from deeplab_rt.errors import StreamError, one_line
from deeplab_rt.streams.batch.inputs import Job
from deeplab_rt.streams.batch.job import JobResult, Mode, run_job
from deeplab_rt.streams.batch.run import SegmenterCache
from deeplab_rt.streams.settings import ReplaySettings

RETRIES = 5
"""Times that a task is begun anew after its worker was killed."""

_segmenters = SegmenterCache()  # of a worker process


def on_cluster(
    jobs: Sequence[Job], settings: ReplaySettings, mode: Mode, address: str
) -> Generator[JobResult, None, None]:
    """Run jobs on a Ray cluster.

    Args:
        jobs: with paths that every machine of the cluster sees.
        settings: what is made.
        mode: what to do about outputs that are there; what was interrupted is always resumed.
        address: of the cluster, as ``ray.init`` takes it; ``auto`` for the one this machine
            belongs to, ``local`` for one of this machine alone that ends with the jobs.

    Raises:
        StreamError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray as ray_module
    except ImportError:
        raise StreamError(
            "--ray needs the package ray; `pip install '.[fleet]'` in the repository brings it"
        ) from None
    ray: Any = ray_module
    if not ray.is_initialized():
        try:
            options = {"include_dashboard": False} if address == "local" else {}
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = one_line(error)
            raise StreamError(f"no Ray cluster at {address}: {reason}") from None
    absolute = [_absolute(job) for job in jobs]
    gpus = 1 if settings.backend != "cpu" and ray.cluster_resources().get("GPU") else 0
    task = ray.remote(_run_on_cluster).options(
        max_retries=RETRIES, num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD"
    )
    waiting = {task.remote(job, settings, replace(mode, resume=True)): job for job in absolute}
    try:
        while waiting:
            ended, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ended:
                job = waiting.pop(reference)
                yield _result(ray, reference, job)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _result(ray: Any, reference: Any, job: Job) -> JobResult:
    try:
        result: JobResult = ray.get(reference)
        return result
    except ray.exceptions.RayError as error:
        reason = f"{job.source}: its worker was killed {RETRIES + 1} times, or could not be started"
        detail = str(error).strip().splitlines()
        return JobResult(
            job.name, str(job.source), "failed", f"{reason}: {detail[-1] if detail else error!r}"
        )


def _absolute(job: Job) -> Job:
    """The job with paths that do not depend on a process's working directory."""
    report_dir = None if job.report_dir is None else job.report_dir.absolute()
    return replace(
        job, source=job.source.absolute(), out_dir=job.out_dir.absolute(), report_dir=report_dir
    )


def _run_on_cluster(job: Job, settings: ReplaySettings, mode: Mode) -> JobResult:
    return run_job(job, settings, mode, _segmenters)
