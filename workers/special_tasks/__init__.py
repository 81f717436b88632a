"""The GPU worker for face swaps and character sheets: the ComfyUI worker, more nodes, and a look for faces first."""
