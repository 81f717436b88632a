"""What the GPU workers have in common: fetching, storing, notices, progress, and how an error goes back.

The GPU workers are programs of their own. Nothing here imports `ryla_tasks`: their images do not have it.
"""
