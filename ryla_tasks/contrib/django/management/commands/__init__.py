"""ryla, ryla_worker, ryla_outbox."""
