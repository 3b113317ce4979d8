"""The audit: reads both sides, says how they differ, and has an approved plan carried out."""
