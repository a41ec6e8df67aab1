"""From prepared records to batches of arrays."""
