"""The rows for jobs that ended without a result: what the platform, the GPU worker and its ComfyUI say went wrong."""

from __future__ import annotations

from ryla_tasks.errors import Category
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.verdicts.matchers import AnyOf, AtNode, ComfyUI, Ended, Raised, Says, Told
from ryla_tasks.jobs.verdicts.row import Row, Seam
from ryla_tasks.jobs.verdicts.verdict import Next

__all__ = ["WORKER"]

TRANSIENT, RECOVERABLE = Category.TRANSIENT, Category.RECOVERABLE
PERMANENT, FATAL = Category.PERMANENT, Category.FATAL
RETRY, FAIL = Next.RETRY, Next.FAIL

WORKER = Seam(
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
