"""docs/alerts.md, made from the table of kinds: a test fails where the two differ."""

from __future__ import annotations

from ryla_tasks.alerts.kinds import KINDS

__all__ = ["page"]

_HEAD = """\
# Alerts

Made from the table in `ryla_tasks/alerts` by `python -m ryla_tasks.alerts > docs/alerts.md`; do not edit.

What an operator should know is told once, however many workers see it, and again only after it was away for a
while. It goes to the stream `ryla:alerts` in Redis, which keeps the latest 1,000; `ryla alerts` shows them. With
`RYLA_ALERT_URLS` (extra `alerts`) it is sent to Slack, mail, a webhook or any other service of
[apprise](https://github.com/caronc/apprise):

    pip install 'ryla-tasks[alerts]'
    export RYLA_ALERT_URLS='["slack://TokenA/TokenB/TokenC/#ops", "mailtos://me:secret@example.com?to=ops@example.com"]'
    ryla alerts test                      # says of each service whether it accepted a message; shows no secret

| setting | meaning |
|---|---|
| `RYLA_ALERT_URLS` | addresses of apprise: a JSON list, or with spaces between. A secret: never shown, never logged |
| `RYLA_ALERT_SEVERITY` | the least that is sent: `info`, `warning` (default) or `critical` |
| `RYLA_ALERT_RATE` | messages an hour to each service (10). What is over that comes as one when the hour is over |
| `RYLA_ALERT_FAILURE_RATE` | above which share of failures among an hour's attempts to alert (0.1) |

Each message has a severity, one sentence, what to do, the job, endpoint or target that it is about, and the alert's id.

One worker process of the fleet sends, in a thread of its own; when it ends another goes on, at once or within a
minute. How far each service has been told is kept in Redis after each message. So none is lost over a restart, and
each service gets each alert at least once: where a process dies between a message and its note of it, that message
comes a second time, with the same id. A service that was not there before is told what is not older than an hour.
One that does not accept a message is tried again after 5 s, doubling to 15 minutes, 15 times (two hours) for one
message, and holds up no other; the log says so (`alert.not_sent`, `alert.given_up`). Alerts go out of the stream,
sent or not, when 1,000 newer ones have come. Jobs never wait for any of this.

## Kinds

`budget` is critical when all is spent.

| kind | severity | told when | sentence | what to do |
|---|---|---|---|---|
"""


def page() -> str:
    """The page as Markdown."""
    rows = (
        f"| `{name}` | {kind.severity} | {kind.when} | {kind.sentence} | {_advice(name, kind.advice)} |\n"
        for name, kind in KINDS.items()
    )
    return _HEAD + "".join(rows)


def _advice(name: str, advice: str) -> str:
    return "as the cause demands: capacity, GPU types, a worker that crashes" if name == "stuck" else advice
