"""What never shows in an error, an event or a log."""

from __future__ import annotations

import pytest

from ryla_tasks.jobs.redact import redacted

SECRETS = [
    "Authorization: Bearer rpa_ABCDEFGH12345678",
    "authorization:topsecretvalue",
    "key=rpa_topsecretvalue123",
    "hf_topsecretvalue123",
    "AKIATOPSECRET1234567",
    "https://bucket.example/in.png?X-Amz-Signature=topsecretvalue",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_left_out(secret: str) -> None:
    shown = redacted(f"it failed with {secret} at step 3")
    assert shown.startswith("it failed with ")
    assert shown.endswith("at step 3")
    for part in ("topsecret", "TOPSECRET", "rpa_ABC"):
        assert part not in shown


def test_ordinary_words_stay() -> None:
    text = "node 3 (KSampler): expected a bearer of good news, sk-learn and hf_x are fine"
    assert redacted("node 3 (KSampler): value_not_in_list") == "node 3 (KSampler): value_not_in_list"
    assert "KSampler" in redacted(text)
