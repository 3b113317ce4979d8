"""Counterfoil keeps exactly one Stripe customer matched to every Clerk user."""

__version__ = "0.1.0"
