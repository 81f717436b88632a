#!/usr/bin/env bash
# Starts the worker, which starts ComfyUI and keeps it running. Ends with an error where there is no GPU, so that RunPod
# replaces the worker instead of sending it jobs.
set -euo pipefail

export COMFYUI_DIR="${COMFYUI_DIR:-/comfyui}"
export COMFY_URL="${COMFY_URL:-http://127.0.0.1:8188}"

if [[ -z "${COMFY_COMMAND:-}" ]]; then
  port="${COMFY_URL##*:}"
  # Metadata stays in the images: a user can drop one into the editor and see how it was made. COMFY_ARGS may say
  # --disable-metadata where prompts must not leave the worker.
  export COMFY_COMMAND="python main.py --listen 127.0.0.1 --port ${port%%/*} --disable-auto-launch ${COMFY_ARGS:-}"
fi

if [[ "${RYLA_WORKER_ALLOW_CPU:-}" != 1 ]] && ! nvidia-smi -L; then
  echo "no GPU: RYLA_WORKER_ALLOW_CPU=1 starts without one" >&2
  exit 1
fi

# Less memory lost to fragments over many jobs, where the library is there.
tcmalloc="$(ldconfig -p 2>/dev/null | awk '/libtcmalloc_minimal\.so/ { print $NF; exit }')"
[[ -z "$tcmalloc" ]] || export LD_PRELOAD="$tcmalloc"

cd "$(dirname "$0")/../.."
exec python -m workers.comfyui
