"""Jobs in the tests of an app: pytest fixtures with a simulated RunPod, and without a network.

The fixtures are there as soon as ryla_tasks is installed (`ryla_tasks.testing.plugin`); docs/testing.md tells of them.
Needs the extra: `pip install 'ryla-tasks[testing]'`.
"""

from __future__ import annotations
