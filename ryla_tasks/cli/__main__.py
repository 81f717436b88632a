"""`python -m ryla_tasks.cli`, for where the `ryla` command is not on PATH."""

from __future__ import annotations

from ryla_tasks.cli.group import main

if __name__ == "__main__":
    main()
