"""Seats of machines far away: ledger and budget, deadlines, retries, failover, and a local sampler to fall back on."""
