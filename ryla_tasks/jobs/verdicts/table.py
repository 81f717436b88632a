"""The verdict table: one row for each failure that is known, in the order in which they are tried.

Sources are cited in short: `worker-comfyui#186` is an issue of runpod-workers/worker-comfyui, a page without a host
one of docs.runpod.io. "recorded" means an answer of ComfyUI 0.3.64. `docs/errors.md` is made from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.verdicts.failures import Absence, Refused, StatusFailed, SubmitLost
from ryla_tasks.jobs.verdicts.matchers import AnyOf, AtNode, Called, ComfyUI, Ended, Gone, Matcher, Raised, Says, Told
from ryla_tasks.jobs.verdicts.verdict import Next

__all__ = ["ROWS", "Row", "Seam"]

TRANSIENT, RECOVERABLE = Category.TRANSIENT, Category.RECOVERABLE
PERMANENT, FATAL = Category.PERMANENT, Category.FATAL
RETRY, FAIL, WAIT, LOOK = Next.RETRY, Next.FAIL, Next.WAIT, Next.LOOK


@dataclass(frozen=True, slots=True)
class Row:
    """One known failure: what it looks like, what it means, and who says so."""

    code: str
    when: Matcher
    category: Category
    next: Next
    sentence: str
    source: str
    crash: bool = False


@dataclass(frozen=True, slots=True)
class Seam:
    """The rows for one place where failures show."""

    title: str
    rows: tuple[Row, ...]


_SUBMIT = Seam(
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

_STATUS = Seam(
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

_ABSENT = Seam(
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

_WORKER = Seam(
    "The remote job ended without a result",
    (
        Row(
            "remote_time_out",
            Ended(RemoteStatus.TIMED_OUT),
            RECOVERABLE, RETRY,
            "The job took longer than the endpoint allows.",
            "serverless/endpoints/job-states: executionTimeout or ttl",
        ),
        Row(
            "remote_cancelled",
            Ended(RemoteStatus.CANCELLED),
            PERMANENT, FAIL,
            "The job was cancelled at the GPU endpoint.",
            "serverless/endpoints/job-states: by hand, or with the queue",
        ),
        Row(
            "worker_crashed",
            Says(r"^job timed out after \d+ retries$", "job timed out after N retries"),
            TRANSIENT, RETRY,
            "The GPU worker broke off without an answer.",
            "runpod-plugins-official, golden path 15: FAILED after `retries`",
            crash=True,
        ),
        Row(
            "interrupted",
            ComfyUI("execution_interrupted"),
            RECOVERABLE, RETRY,
            "The work was interrupted on the GPU worker.",
            "ComfyUI, recorded: /interrupt",
        ),
        Row(
            "missing_node",
            AnyOf(
                ComfyUI("invalid_prompt", "missing_node_type"),
                Says(r"Cannot execute because (a )?node \S{0,100} ?does not exist", "Cannot execute because node"),
            ),
            PERMANENT, FAIL,
            "The workflow uses a node that the GPU worker does not have.",
            "ComfyUI, recorded: POST /prompt, 400",
        ),
        Row(
            "workflow_incomplete",
            ComfyUI("prompt_no_outputs", "no_prompt"),
            PERMANENT, FAIL,
            "The workflow has no output.",
            "ComfyUI, recorded: POST /prompt, 400",
        ),
        Row(
            "missing_model",
            AtNode("value_not_in_list", model=True),
            FATAL, FAIL,
            "A model that the workflow needs is not on the GPU worker.",
            "ComfyUI, node_errors; worker-comfyui#165: folders of a volume that ComfyUI does not see",
        ),
        Row(
            "missing_image",
            AtNode("custom_validation_failed", image=True),
            FATAL, FAIL,
            "An input image of the workflow is missing.",
            "ComfyUI, recorded: node_errors",
        ),
        Row(
            "invalid_workflow",
            AnyOf(
                ComfyUI("prompt_outputs_failed_validation"),
                AtNode(),
                Says(r"^Workflow validation failed", "Workflow validation failed"),
            ),
            FATAL, FAIL,
            "The workflow is not valid.",
            "ComfyUI, recorded: POST /prompt, 400; worker-comfyui 5.8.5 passes it on as text",
        ),
        Row(
            "training_memory",
            Says(r"OOM during training step", "OOM during training step"),
            PERMANENT, FAIL,
            "The training needs more GPU memory than there is.",
            "ai-toolkit 0.12: gives up after several in a row",
        ),
        Row(
            "out_of_memory",
            AnyOf(
                Raised("OutOfMemoryError"),
                Says(r"\bout of memory\b|Allocation on device", "out of memory"),
            ),
            RECOVERABLE, RETRY,
            "The GPU ran out of memory.",
            "PyTorch, torch.OutOfMemoryError; ComfyUI unloads its models after one; ai-toolkit#574",
        ),
        Row(
            "gpu_broken",
            AnyOf(
                Raised("AcceleratorError"),
                Says(r"CUDA error:|no CUDA-capable device|NVIDIA driver|CUDA driver", "CUDA error"),
            ),
            TRANSIENT, RETRY,
            "The GPU does not work as it should.",
            "PyTorch, CUDA semantics: a process is lost after one; fast-detect-gpt#15, on RunPod",
            crash=True,
        ),
        Row(
            "comfyui_died",
            Says(r"^WebSocket communication error|unreachable during websocket", "WebSocket communication error"),
            TRANSIENT, RETRY,
            "ComfyUI broke off on the GPU worker.",
            "worker-comfyui 5.8.5, with its ComfyUI killed; #137",
            crash=True,
        ),
        Row(
            "comfyui_unreachable",
            Says(
                r"^ComfyUI server .{0,100}not reachable|port=8188\b|^HTTP communication error with ComfyUI",
                "ComfyUI server ... not reachable",
            ),
            TRANSIENT, RETRY,
            "ComfyUI did not start on the GPU worker.",
            "worker-comfyui#186, #67",
        ),
        Row(
            "model_loading",
            AnyOf(
                Raised("SafetensorError"),
                Says(r"Error while deserializing header", "Error while deserializing header"),
                Says(r"No such file or directory.{0,300}\.(safetensors|ckpt|gguf|onnx|pth?|bin)\b",
                     "No such file or directory: a model"),
            ),
            TRANSIENT, RETRY,
            "A model could not be loaded on the GPU worker; it may still be on its way there.",
            "ComfyUI#3225, #13669: a file that is not there as a whole",
        ),
        Row(
            "model_forbidden",
            AnyOf(Raised("GatedRepoError"), Says(r"Cannot access gated repo", "Cannot access gated repo")),
            FATAL, FAIL,
            "The GPU worker may not download a model that the job needs.",
            "huggingface_hub, GatedRepoError; ai-toolkit#676",
        ),
        Row(
            "disk_full",
            Says(r"No space left on device", "No space left on device"),
            RECOVERABLE, RETRY,
            "The GPU worker's disk is full.",
            "errno(3), ENOSPC",
        ),
        Row(
            "worker_network",
            Raised("ConnectionError", "ConnectTimeout", "ReadTimeout", "ChunkedEncodingError", "ProtocolError",
                   "RemoteDisconnected", "ConnectionResetError", "ConnectError", "ClientConnectorError"),
            TRANSIENT, RETRY,
            "The GPU worker lost its connection to something it needs.",
            "exceptions of requests, urllib3, httpx and aiohttp",
        ),
        Row(
            "step_time_out",
            Raised("TimeoutError", "TimeoutExpired"),
            RECOVERABLE, RETRY,
            "A step of the work took too long on the GPU worker.",
            "Python, exceptions and subprocess",
        ),
        Row(
            "input_upload",
            Says(r"^Failed to upload one or more input images", "Failed to upload one or more input images"),
            RECOVERABLE, RETRY,
            "An input image could not be handed to ComfyUI.",
            "worker-comfyui 5.8.5: `error`, with `details`",
        ),
        Row(
            "invalid_input",
            Says(
                r"^Missing 'workflow' parameter|^Please provide input|^Invalid JSON format in input"
                r"|must be a list of objects with|^Job has missing field",
                "Missing 'workflow' parameter, and others",
            ),
            PERMANENT, FAIL,
            "The GPU worker does not understand the input.",
            "worker-comfyui 5.8.5: `error`",
        ),
        Row(
            "node_failed",
            ComfyUI("execution_error"),
            PERMANENT, FAIL,
            "A step of the workflow failed on the GPU worker.",
            "ComfyUI, recorded: execution_error; worker-comfyui 5.8.5 passes it on in `details`",
        ),
        Row(
            "worker_error",
            Told(),
            PERMANENT, FAIL,
            "The GPU worker reported an error.",
            "serverless/endpoints/job-states: FAILED",
        ),
    ),
)  # fmt: skip

#: Each place's rows are tried from the top; a failure belongs to one place only.
ROWS: tuple[Seam, ...] = (_SUBMIT, _STATUS, _ABSENT, _WORKER)
