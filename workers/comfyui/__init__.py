"""The GPU worker for ComfyUI workflows. `python -m workers.comfyui` starts ComfyUI and takes jobs; see README.md."""
