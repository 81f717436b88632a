"""ComfyUI workflows: templates with parameters, and checks of those that a user brings."""

from __future__ import annotations

from ryla_tasks.workflows.counting import expected_images
from ryla_tasks.workflows.fallbacks import RenderedFallback, render_fallbacks
from ryla_tasks.workflows.images import InputImage
from ryla_tasks.workflows.library import get_template, list_templates
from ryla_tasks.workflows.manifest import FallbackRule, Manifest, ModelFile
from ryla_tasks.workflows.parameters import ImageParameter
from ryla_tasks.workflows.template import RenderedWorkflow, Template, draw_seed, load_template
from ryla_tasks.workflows.workflow import check_workflow, find_seed, model_files

__all__ = [
    "FallbackRule",
    "ImageParameter",
    "InputImage",
    "Manifest",
    "ModelFile",
    "RenderedFallback",
    "RenderedWorkflow",
    "Template",
    "check_workflow",
    "draw_seed",
    "expected_images",
    "find_seed",
    "get_template",
    "list_templates",
    "load_template",
    "model_files",
    "render_fallbacks",
]
