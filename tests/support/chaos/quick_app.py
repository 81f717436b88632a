"""The app of workers under chaos, with the leases of submits and deliveries cut to seconds.

A worker that dies holds its jobs until their lease is over: up to 45 s for a submit, 180 s for a delivery, 60 s for the
cells of a sheet. Here all are 6 s, so that a case takes seconds; the code that they steer is the same.
"""

from __future__ import annotations

import ryla_tasks
from ryla_tasks.tasks import cells, deliver, submit

submit.LEASE_MARGIN_S = 4.0
deliver.LEASE_S = 6.0
cells.LEASE_S = 6.0

app = ryla_tasks.app
