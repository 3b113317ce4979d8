"""The loops round the core: intake, workers, catch-up, sweep and walk."""
