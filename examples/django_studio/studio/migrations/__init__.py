"""The studio's tables."""
