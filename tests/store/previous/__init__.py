"""What the previous release asks of the database, frozen: see `record`."""
