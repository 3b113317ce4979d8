"""Stand-ins for Clerk, Stripe and Svix that behave as the real ones are documented to, faults included.

For tests, demonstrations and offline work. Imports nothing of the rest of the product.
"""

from counterfoil.sandbox.clerk import ClerkSettings
from counterfoil.sandbox.courier import Courier
from counterfoil.sandbox.faults import Fault, Faults, Outage
from counterfoil.sandbox.http import serve
from counterfoil.sandbox.messages import Answer, Reply, Request
from counterfoil.sandbox.sandbox import Sandbox, SandboxSettings
from counterfoil.sandbox.storm import Player, Storm
from counterfoil.sandbox.stripe import StripeSettings
from counterfoil.sandbox.svix import SvixSettings
from counterfoil.sandbox.verdict import Rules, Verdict

__all__ = [
    "Answer",
    "ClerkSettings",
    "Courier",
    "Fault",
    "Faults",
    "Outage",
    "Player",
    "Reply",
    "Request",
    "Rules",
    "Sandbox",
    "SandboxSettings",
    "Storm",
    "StripeSettings",
    "SvixSettings",
    "Verdict",
    "serve",
]
