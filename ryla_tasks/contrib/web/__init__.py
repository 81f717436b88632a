"""What the web frameworks share; nothing here knows one of them.

visitor.py    who asks, and what they may see
rules.py      what a browser may ask for
wishes.py     the body of a POST as a job
uploads.py    files that come with a job
files.py      files of a job, to be sent
documents.py  jobs and events as a browser sees them
feed.py       progress as server-sent events: which bytes, without I/O
streams.py    the same as a stream: blocking, and for asyncio
bell.py       one reader of Redis for all streams of a process
replies.py    errors as HTTP answers
"""

from __future__ import annotations

from ryla_tasks.contrib.web.documents import cells_document, job_document, jobs_document
from ryla_tasks.contrib.web.files import JobFile, file_of, find_file
from ryla_tasks.contrib.web.replies import Reply, reply_to
from ryla_tasks.contrib.web.rules import OPTIONS, TASKS, Rules
from ryla_tasks.contrib.web.streams import HEADERS, afollow, follow, is_over
from ryla_tasks.contrib.web.uploads import store_upload
from ryla_tasks.contrib.web.visitor import Visitor, job_of, jobs_of, visitor_of
from ryla_tasks.contrib.web.wishes import Wish, enqueue, read_body, read_wish

__all__ = [
    "HEADERS",
    "OPTIONS",
    "TASKS",
    "JobFile",
    "Reply",
    "Rules",
    "Visitor",
    "Wish",
    "afollow",
    "cells_document",
    "enqueue",
    "file_of",
    "find_file",
    "follow",
    "is_over",
    "job_document",
    "job_of",
    "jobs_document",
    "jobs_of",
    "read_body",
    "read_wish",
    "reply_to",
    "store_upload",
    "visitor_of",
]
