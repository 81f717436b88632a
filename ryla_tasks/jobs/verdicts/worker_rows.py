"""The rows for jobs that ended without a result: what the platform, the GPU worker and its ComfyUI say went wrong."""

from __future__ import annotations

from ryla_tasks.errors import Category
from ryla_tasks.jobs.remote import RemoteStatus
from ryla_tasks.jobs.verdicts.matchers import AnyOf, AtNode, Coded, ComfyUI, Ended, Raised, Says, Told
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
            "no_face",
            AnyOf(Coded("no_face"), Says(r"^No face was found in the picture", "No face was found in the picture")),
            PERMANENT, FAIL,
            "No face was found in the picture.",
            "workers/comfyui: `details.images` lists those without one",
        ),
        Row(
            "output_too_large",
            AnyOf(
                Coded("output_too_large"),
                Says(r"^The result is too large to be sent back", "The result is too large to be sent back"),
            ),
            PERMANENT, FAIL,
            "The result is too large to be sent back.",
            "workers/comfyui, instead of COMPLETED without output (worker-comfyui#129): it has no store to upload to",
        ),
        Row(
            "worker_deadline",
            AnyOf(
                Coded("deadline"),
                Says(r"^The job took longer than the GPU worker", "The job took longer than the GPU worker allows"),
            ),
            RECOVERABLE, RETRY,
            "The job took longer than the GPU worker allows.",
            "workers/comfyui: executionTimeout, or its own setting",
        ),
        Row(
            "fetch_refused",
            Coded("fetch_refused"),
            PERMANENT, FAIL,
            "A file of the job is refused by the GPU worker.",
            "workers/common: not public, not https, too large, of another type, or another sha256",
        ),
        Row(
            "fetch_gone",
            Coded("fetch_gone"),
            PERMANENT, FAIL,
            "A file of the job is not where it should be.",
            "workers/common: a 4xx for its URL; a presigned one may be over",
        ),
        Row(
            "fetch_failed",
            AnyOf(
                Coded("fetch_failed"),
                Says(r"^A file of the job could not be fetched", "A file of the job could not be fetched"),
            ),
            TRANSIENT, RETRY,
            "A file of the job could not be fetched.",
            "workers/common: no connection, or 5xx, three times",
        ),
        Row(
            "store_failed",
            AnyOf(
                Coded("store_failed"),
                Says(r"^The result could not be stored by the GPU", "The result could not be stored by the GPU worker"),
            ),
            TRANSIENT, RETRY,
            "The result could not be stored by the GPU worker.",
            "workers/common: S3",
        ),
        Row(
            "input_image_invalid",
            Coded("input_image_invalid"),
            PERMANENT, FAIL,
            "An input image cannot be read.",
            "workers/comfyui: no image, whatever its name says, or one of too many pixels",
        ),
        Row(
            "output_gone",
            Coded("output_gone"),
            RECOVERABLE, RETRY,
            "A file that the workflow made could not be read.",
            "workers/comfyui: a node lists a file that is not there, or lists none",
        ),
        Row(
            "no_model_folder",
            Coded("no_model_folder"),
            FATAL, FAIL,
            "The GPU worker has no place for model files.",
            "workers/comfyui: neither a network volume nor COMFYUI_DIR",
        ),
        Row(
            "request_invalid",
            AnyOf(
                Coded("request_invalid"),
                Says(r"^The training request is not valid", "The training request is not valid"),
            ),
            PERMANENT, FAIL,
            "The request for a training is not valid.",
            "workers/lora_trainer: `details.field` and `details.reason`",
        ),
        Row(
            "dataset_invalid",
            AnyOf(
                Coded("dataset_invalid"),
                Says(r"^The images cannot be trained on", "The images cannot be trained on"),
            ),
            PERMANENT, FAIL,
            "The images cannot be trained on.",
            "workers/lora_trainer: `details.field` and `details.reason`",
        ),
        Row(
            "trainer_misconfigured",
            Coded("trainer_misconfigured"),
            FATAL, FAIL,
            "The GPU worker is not set up for training.",
            "workers/lora_trainer: no place for a LoRA, no AI Toolkit, a volume that cannot be written to",
        ),
        Row(
            "training_time_out",
            AnyOf(
                Coded("training_time_out"),
                Says(
                    r"^The training (took longer|has stopped making)|^The images of the training could not",
                    "The training took longer, or has stopped making progress",
                ),
            ),
            RECOVERABLE, RETRY,
            "The training took longer than the GPU worker allows.",
            "workers/lora_trainer: its time limit, or no word of AI Toolkit for 45 minutes",
        ),
        Row(
            "interrupted",
            AnyOf(Coded("interrupted"), ComfyUI("execution_interrupted")),
            RECOVERABLE, RETRY,
            "The work was interrupted on the GPU worker.",
            "ComfyUI, recorded: /interrupt",
        ),
        Row(
            "missing_node",
            AnyOf(
                Coded("missing_node"),
                ComfyUI("invalid_prompt", "missing_node_type"),
                Says(r"Cannot execute because (a )?node \S{0,100} ?does not exist", "Cannot execute because node"),
            ),
            PERMANENT, FAIL,
            "The workflow uses a node that the GPU worker does not have.",
            "ComfyUI, recorded: POST /prompt, 400",
        ),
        Row(
            "workflow_incomplete",
            AnyOf(Coded("workflow_incomplete"), ComfyUI("prompt_no_outputs", "no_prompt")),
            PERMANENT, FAIL,
            "The workflow has no output.",
            "ComfyUI, recorded: POST /prompt, 400",
        ),
        Row(
            "missing_model",
            AnyOf(Coded("missing_model"), AtNode("value_not_in_list", model=True)),
            FATAL, FAIL,
            "A model that the workflow needs is not on the GPU worker.",
            "ComfyUI, node_errors; worker-comfyui#165: folders of a volume that ComfyUI does not see",
        ),
        Row(
            "missing_image",
            AnyOf(Coded("missing_image"), AtNode("custom_validation_failed", image=True)),
            FATAL, FAIL,
            "An input image of the workflow is missing.",
            "ComfyUI, recorded: node_errors",
        ),
        Row(
            "invalid_workflow",
            AnyOf(
                Coded("invalid_workflow"),
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
            AnyOf(
                Coded("training_memory"),
                Says(r"OOM during training step|^The training needs more GPU memory", "OOM during training step"),
            ),
            PERMANENT, FAIL,
            "The training needs more GPU memory than there is.",
            "ai-toolkit 0.12: gives up after several in a row; workers/lora_trainer: `details.change`",
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
            AnyOf(
                Coded("comfyui_died"),
                Says(
                    r"^WebSocket communication error|unreachable during websocket|^ComfyUI broke off",
                    "WebSocket communication error",
                ),
            ),
            TRANSIENT, RETRY,
            "ComfyUI broke off on the GPU worker.",
            "worker-comfyui 5.8.5, with its ComfyUI killed; #137",
            crash=True,
        ),
        Row(
            "comfyui_unreachable",
            AnyOf(
                Coded("comfyui_unreachable"),
                Says(
                    r"^ComfyUI server .{0,100}not reachable|port=8188\b|^HTTP communication error with ComfyUI"
                    r"|^ComfyUI did not start",
                    "ComfyUI server ... not reachable",
                ),
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
            AnyOf(
                Coded("input_upload"),
                Says(r"^Failed to upload one or more input images", "Failed to upload one or more input images"),
            ),
            RECOVERABLE, RETRY,
            "An input image could not be handed to ComfyUI.",
            "worker-comfyui 5.8.5: `error`, with `details`",
        ),
        Row(
            "invalid_input",
            AnyOf(
                Coded("invalid_input"),
                Says(
                    r"^Missing 'workflow' parameter|^Please provide input|^Invalid JSON format in input"
                    r"|must be a list of objects with|^Job has missing field",
                    "Missing 'workflow' parameter, and others",
                ),
            ),
            PERMANENT, FAIL,
            "The GPU worker does not understand the input.",
            "worker-comfyui 5.8.5: `error`",
        ),
        Row(
            "node_failed",
            AnyOf(Coded("node_failed"), ComfyUI("execution_error")),
            PERMANENT, FAIL,
            "A step of the workflow failed on the GPU worker.",
            "ComfyUI, recorded: execution_error; worker-comfyui 5.8.5 passes it on in `details`",
        ),
        Row(
            "training_failed",
            AnyOf(
                Coded("training_failed"),
                Says(r"^The training (failed|broke off|was (stopped|killed))", "The training failed"),
            ),
            PERMANENT, FAIL,
            "The training failed on the GPU worker.",
            "workers/lora_trainer: AI Toolkit ended with an error that no row above is for",
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
