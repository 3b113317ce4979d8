"""Stripe: the few calls on customers that are needed."""
