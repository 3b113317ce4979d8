"""Whole worlds by seed: everything goes wrong on virtual time, and the promises are checked."""
