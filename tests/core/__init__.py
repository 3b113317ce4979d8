"""Tests of the pure rules: what news does to a link, what a link needs next, and what came of it."""
