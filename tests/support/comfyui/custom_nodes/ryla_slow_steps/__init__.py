"""A node for a real ComfyUI in tests: it steps slowly, and can fail. Link this folder into ComfyUI's `custom_nodes`."""

import time

from comfy.utils import ProgressBar


class SlowSteps:
    """Passes an image on after `steps` steps of `delay` seconds."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "testing"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 5, "min": 1, "max": 1000}),
                "delay": ("FLOAT", {"default": 0.2}),
                "fail_at": ("INT", {"default": -1, "min": -1, "max": 1000}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63}),
            }
        }

    def run(self, image, steps, delay, fail_at, seed):
        bar = ProgressBar(steps)
        for step in range(steps):
            time.sleep(delay)
            if step == fail_at:
                raise RuntimeError("CUDA out of memory (simulated)\n")
            bar.update(1)
        return (image,)


NODE_CLASS_MAPPINGS = {"SlowSteps": SlowSteps}
