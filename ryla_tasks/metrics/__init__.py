"""The Prometheus exporter: what the whole fleet does, read from Redis, so that it is counted once (`ryla metrics`)."""
