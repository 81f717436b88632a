#!/usr/bin/env bash
# Starts the trainer on a RunPod worker. Says what it found, so that the first lines of the log answer most questions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf 'lora_trainer: %s\n' "$*"; }

# A worker without its GPU would take jobs and fail each of them; one that ends is replaced.
if ! memory=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>&1); then
  say "no GPU: ${memory}" >&2
  exit 1
fi
# The first GPU is the one that is trained on. In GB, as the cards are named: 24 GB has 24564 MiB.
RYLA_TRAINER_GPU_GB=${RYLA_TRAINER_GPU_GB:-$(($(head -n 1 <<<"$memory") / 1000))}
export RYLA_TRAINER_GPU_GB

volume=${RYLA_VOLUME:-/runpod-volume}
say "GPU memory ${RYLA_TRAINER_GPU_GB} GB"
if [[ -d $volume ]]; then
  say "network volume ${volume}, $(df --output=avail -BG "$volume" | tail -n 1 | tr -d ' ') free"
else
  say "no network volume: trainings cannot be resumed, and models are downloaded by every worker"
fi
[[ -n ${BUCKET_ENDPOINT_URL:-} ]] && say "results go to ${BUCKET_ENDPOINT_URL%%\?*}" || say "no store: results stay on the volume"
[[ -n ${HF_TOKEN:-} ]] || say "no HF_TOKEN: FLUX.1-dev cannot be downloaded"

exec "${RYLA_WORKER_PYTHON:-/opt/worker/bin/python}" -m workers.lora_trainer
