"""Every event that is logged: its name, and what it means. docs/logs.md is made from this table, names are public."""

from __future__ import annotations

__all__ = ["EVENTS"]

EVENTS: dict[str, str] = {
    # --- jobs ---
    "job.completed": "A job has its result, and Celery is told.",
    "job.failed": "A job has ended without a result, and Celery is told.",
    "job.cancelled": "A job was cancelled, and Celery is told.",
    "job.timed_out": "A job took longer than its deadline or RunPod's limit allows, and Celery is told.",
    "job.expired": "A job was not started in time, and Celery is told.",
    "job.fallback": "A job goes on with another target, model or workflow: `kind`, `source`, `to`, `why`.",
    "job.ran_before": "A message from an app without this package names a job that has run already; nothing is done.",
    "job.not_enqueued": "A Django transaction has committed, and its job could not be enqueued: its row may be left.",
    "job.enqueued_late": "A job whose transaction had committed without it was enqueued from the outbox.",
    "web.not_set_up": "A Django project's settings are wrong: it refuses requests for jobs.",
    # --- submit ---
    "submit.accepted": "The endpoint has taken a job; `orphan` says that the job had gone on without it.",
    "submit.not_accepted": "The endpoint surely has not taken a job; `state` and `in_s` say what follows.",
    "submit.unknown": "Whether the endpoint has taken a job is not known; the job's policy decides.",
    "submit.still_unknown": "A submit without an answer was looked at again.",
    "submit.put_back": "Nothing was sent: the lease was too old, or the intent was not kept in time.",
    "submit.helper_failed": "A thread that helps to submit has failed; its job waits for its lease to end.",
    "sheet.spread": "The cells of a sheet were made.",
    "sheet.cell_lost": "A cell of a sheet cannot be made.",
    # --- poll ---
    "poll.ride": "A poll of all jobs that were due at a target (DEBUG).",
    "poll.no_provider": "A target cannot be polled: an API key or a setting is missing.",
    "poll.broken": "A bug: a question about one job failed otherwise than it may.",
    "outlook.failed": "What is known of a target could not be read or kept.",
    "outlook.broken": "A bug: looking at a target failed otherwise than it may.",
    "endpoint.health_failed": "An endpoint's /health went wrong.",
    "endpoint.stuck": "Jobs wait at an endpoint to which no worker can come: `cause`, `advice`.",
    "breaker.open": "A target fails too often: it gets no submits for a while.",
    "breaker.probe_failed": "The job that tried a held target has failed; the pause is longer now.",
    "breaker.closed": "A target that was held gets submits again.",
    "breaker.not_judged": "Redis did not answer when a breaker was to be judged.",
    # --- deliver ---
    "collect.failed": "A job's output could not be fetched or stored; it is tried again.",
    "deliver.not_released": "Redis did not answer when a delivery was given back; it comes when its lease has ended.",
    "end.put_off": "Celery could not be told of a job's end yet; it is told again.",
    "end.not_stored": "The result backend did not take a job's end; it is told again.",
    "end.follower_failed": "The end of a job is stored, but what follows it could not be sent, now or later.",
    "end.not_noted": "Redis did not answer after Celery was told of an end; it is told again.",
    "end.not_released": "Redis did not answer when an end that a receiver did not hear was put off.",
    "end.unheard": "A receiver of the signal job_ended has failed; it is called again.",
    "end.unheard_given_up": "A receiver of the signal job_ended has failed too often; Celery is told all the same.",
    # --- cancels, webhooks ---
    "cancel.sent": "The cloud was told to cancel a remote job.",
    "cancel.nothing": "There was nothing to cancel: the remote job has ended, or never was.",
    "adopt.found": "A remote job was found for a submit without an answer.",
    "adopt.no_such_job": "A remote job that was named for a submit without an answer does not exist.",
    "webhook.forged": "A webhook call with a token that is not ours.",
    "webhook.names": "A webhook call names the remote job of a submit without an answer.",
    # --- money ---
    "budget.refused": "A job was not sent, because a ceiling does not allow what it may cost.",
    "budget.stopped": "A running job is stopped, because it costs more than a ceiling allows.",
    "budget.not_stopped": "Redis did not answer when a job was to be stopped; the next poll finds it again.",
    "budget.threshold": "A share of an endpoint's daily budget is spent.",
    "budget.not_told": "Redis did not answer when the operator was to be told of a budget.",
    # --- upkeep ---
    "message.not_sent": "The broker did not take a message; the sweeper of a worker sends it.",
    "sweep.sent": "The sweeper has sent messages that were late or lost.",
    "sweep.failed": "A sweep could not be done; the next one comes in seconds.",
    "sweep.broken": "A bug: a sweep failed otherwise than it may.",
    "recovery.done": "Nothing is late any more: what was tried again, and for how long.",
    "setting.unknown": "A variable that looks like a misspelled setting.",
    # --- metrics ---
    "metrics.no_redis": "The exporter got no answer from Redis; it tells Prometheus ryla_up 0.",
    "metrics.no_broker": "The exporter got no answer from the broker; the lengths of queues are left out.",
    # --- Flower ---
    "flower.no_record": "Flower got no answer from Redis; for a while it shows jobs as Celery sees them.",
    # --- alerts ---
    "alert.not_told": "Redis did not answer when an alert was to be kept.",
    "alert.not_set_up": "Alerts cannot be sent: the extra is missing, or an address is none.",
    "alert.sent": "An alert was taken by a notification service: `service`.",
    "alert.digest": "Alerts over the hourly limit were told in one message.",
    "alert.not_sent": "A notification service did not take an alert; it is tried again after `in_s`.",
    "alert.given_up": "A notification service did not take an alert for too long; it stays in `ryla alerts`.",
    "alert.failed": "The sender of alerts could not go on; it tries again.",
    "alert.broken": "A bug: the sender of alerts failed otherwise than it may; it goes on.",
}
