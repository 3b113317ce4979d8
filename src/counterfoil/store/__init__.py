"""The database: one row per user, a journal, and what is pinned. Plain functions of a connection."""
