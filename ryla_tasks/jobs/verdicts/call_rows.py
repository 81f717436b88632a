"""The rows for calls to RunPod: what a failed submit, a failed question and a 404 mean."""

from __future__ import annotations

from ryla_tasks.errors import (
    AnswerLost,
    Category,
    EndpointNotFound,
    MalformedAnswer,
    NotConnected,
    RateLimited,
    RequestRejected,
    ServerError,
    Unauthorized,
)
from ryla_tasks.jobs.verdicts.failures import Absence, Refused, StatusFailed, SubmitLost
from ryla_tasks.jobs.verdicts.matchers import Called, Gone
from ryla_tasks.jobs.verdicts.row import Row, Seam
from ryla_tasks.jobs.verdicts.verdict import Next

__all__ = ["ABSENT", "STATUS", "SUBMIT"]

TRANSIENT, RECOVERABLE = Category.TRANSIENT, Category.RECOVERABLE
PERMANENT, FATAL = Category.PERMANENT, Category.FATAL
RETRY, FAIL, WAIT, LOOK = Next.RETRY, Next.FAIL, Next.WAIT, Next.LOOK

SUBMIT = Seam(
    "Sending a job: the endpoint did not take it",
    (
        Row(
            "rate_limited",
            Called(Refused, (RateLimited,)),
            TRANSIENT, RETRY,
            "The GPU endpoint is too busy.",
            "serverless/endpoints/operation-reference, rate limits: 429",
        ),
        Row(
            "not_connected",
            Called(Refused, (NotConnected,)),
            TRANSIENT, RETRY,
            "The GPU endpoint could not be reached.",
            "nothing was sent: refused, no address, or no TLS handshake",
        ),
        Row(
            "unauthorized",
            Called(Refused, (Unauthorized,)),
            FATAL, FAIL,
            "The GPU endpoint refused our API key.",
            "get-started/api-keys: 401, 403",
        ),
        Row(
            "endpoint_not_found",
            Called(Refused, (EndpointNotFound,)),
            PERMANENT, FAIL,
            "The GPU endpoint does not exist.",
            "serverless/endpoints/operation-reference: 404",
        ),
        Row(
            "payload_too_large",
            Called(Refused, (RequestRejected,), http_status=413),
            PERMANENT, FAIL,
            "The input is larger than the GPU endpoint accepts.",
            "serverless/endpoints/operation-reference, payload limits; RFC 9110, 15.5.14",
        ),
        Row(
            "submit_rejected",
            Called(Refused),
            PERMANENT, FAIL,
            "The GPU endpoint did not take the job.",
            "serverless/endpoints/operation-reference: 400",
        ),
        Row(
            "submit_unknown",
            Called(SubmitLost),
            RECOVERABLE, LOOK,
            "The connection broke while the job was sent, and it was not sent again, so that it is not paid for twice.",
            "runpodctl, invoke.go: \"unknown whether the job was created\"",
        ),
    ),
)  # fmt: skip

STATUS = Seam(
    "Asking after a job: says nothing of the job itself",
    (
        Row(
            "rate_limited",
            Called(StatusFailed, (RateLimited,)),
            TRANSIENT, WAIT,
            "The GPU endpoint is too busy.",
            "serverless/endpoints/operation-reference, rate limits: 429",
        ),
        Row(
            "unreachable",
            Called(StatusFailed, (NotConnected, AnswerLost)),
            TRANSIENT, LOOK,
            "The GPU endpoint could not be reached.",
            "runpodctl, invoke.go: polls are repeated after transport errors",
        ),
        Row(
            "server_error",
            Called(StatusFailed, (ServerError,)),
            TRANSIENT, LOOK,
            "The GPU endpoint has trouble.",
            "runpodctl, invoke.go: polls are repeated after 5xx",
        ),
        Row(
            "malformed_answer",
            Called(StatusFailed, (MalformedAnswer,)),
            RECOVERABLE, LOOK,
            "The GPU endpoint gave an answer that cannot be read.",
            "runpodctl, invoke.go: a 200 with neither an id nor a status",
        ),
        Row(
            "unauthorized",
            Called(StatusFailed, (Unauthorized,)),
            FATAL, WAIT,
            "The GPU endpoint refused our API key.",
            "get-started/api-keys: 401, 403; the job goes on, and a new key may come before its deadline",
        ),
        Row(
            "endpoint_not_found",
            Called(StatusFailed, (EndpointNotFound,)),
            PERMANENT, WAIT,
            "The GPU endpoint does not exist.",
            "runpodctl, skill: new endpoints answer 404 for a while; for the retention of a result, then see below",
        ),
        Row(
            "request_rejected",
            Called(StatusFailed),
            PERMANENT, LOOK,
            "The GPU endpoint did not accept the question.",
            "serverless/endpoints/operation-reference: 400",
        ),
    ),
)  # fmt: skip

ABSENT = Seam(
    "The endpoint does not know the job: judged by its age",
    (
        Row(
            "just_made",
            Gone(Absence.JUST_MADE, "less than a minute after the submit"),
            RECOVERABLE, LOOK,
            "The GPU endpoint does not know the job yet.",
            "runpodctl, skill: what was just made is unknown for a while",
        ),
        Row(
            "vanished",
            Gone(Absence.VANISHED, "for less than a minute"),
            RECOVERABLE, LOOK,
            "The GPU endpoint does not know the job at the moment.",
            "seen in a backlog: ids vanish, and come back",
        ),
        Row(
            "endpoint_gone",
            Gone(Absence.ENDPOINT_GONE, "for the endpoint itself, longer than a result is kept"),
            FATAL, FAIL,
            "The GPU endpoint does not exist any more.",
            "serverless/endpoints/operation-reference: 404, results are kept for 30 minutes",
        ),
        Row(
            "wrong_endpoint",
            Gone(Absence.WRONG_ENDPOINT, "and the job was never seen there"),
            PERMANENT, FAIL,
            "The GPU endpoint has never known the job.",
            "Engui_Studio#21: jobs asked after at another endpoint",
        ),
        Row(
            "ttl",
            Gone(Absence.TTL, "since the job's time to live was over"),
            RECOVERABLE, FAIL,
            "The job did not end within its time to live at the GPU endpoint.",
            "serverless/endpoints/send-requests: a job is deleted at its ttl, even if it runs",
        ),
        Row(
            "result_expired",
            Gone(Absence.RESULT_EXPIRED, "and nobody could ask for longer than a result is kept"),
            PERMANENT, FAIL,
            "The result was deleted at the GPU endpoint before it could be fetched.",
            "serverless/endpoints/operation-reference: results are kept for 30 minutes",
        ),
        Row(
            "remote_lost",
            Gone(Absence.LOST, "for longer than a minute, of a job that was seen alive"),
            RECOVERABLE, FAIL,
            "The GPU endpoint no longer knows the job: it, or its result, was dropped there.",
            "seen in a backlog: ids vanish; not tried again, because it may still run",
        ),
    ),
)  # fmt: skip
