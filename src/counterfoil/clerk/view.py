"""What the settings make of a user, as a value that another process can be told."""

import msgspec

from counterfoil.clerk.body import View
from counterfoil.core.eligibility import Eligibility
from counterfoil.own_code import load_function


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A `View`, with the user's own functions by their names (``package.module:function``)."""

    domains: tuple[str, ...] = ()
    metadata: tuple[str, str] | None = None
    eligible: str | None = None
    mirror: frozenset[str]
    mapping: str | None = None
    own_keys: frozenset[str]

    def view(self) -> View:
        """Load the functions, and return what bodies are read with.

        Raises:
            ConfigurationError: there is no such function.
        """
        return View(
            eligibility=Eligibility(
                domains=self.domains,
                metadata=self.metadata,
                function=load_function("COUNTERFOIL_ELIGIBLE", self.eligible) if self.eligible else None,
            ),
            mirror=self.mirror,
            mapping=load_function("COUNTERFOIL_MAPPING", self.mapping) if self.mapping else None,
            own_keys=self.own_keys,
        )
