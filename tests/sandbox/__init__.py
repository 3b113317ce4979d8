"""Tests of the stand-ins: they must behave as the real services are documented to."""
