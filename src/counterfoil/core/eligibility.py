"""Who may get a customer: the filter. All parts that are set must hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from counterfoil.core.own import OwnFunction, admitted


@dataclass(frozen=True, slots=True, kw_only=True)
class Eligibility:
    """The filter.

    ``domains``: the primary address must be of one of them, in lower case; one that begins with a dot stands
    for its subdomains. ``metadata``: a key of the public metadata, and the value it must have.
    ``function``: the user's own.
    """

    domains: tuple[str, ...] = ()
    metadata: tuple[str, str] | None = None
    function: OwnFunction | None = None

    @property
    def is_open(self) -> bool:
        """Everybody is eligible."""
        return not self.domains and self.metadata is None and self.function is None

    def admits(
        self, email: str | None, value: Callable[[str], str | None], user: Callable[[], dict[str, Any]]
    ) -> bool:
        """Whether a user may get a customer.

        Args:
            email: the primary address.
            value: looks a key of the public metadata up.
            user: the user, as Clerk sent it.

        Raises:
            OwnFunctionFailed: the user's own function could not tell.
        """
        if self.domains and not self._of_a_domain(email):
            return False
        if self.metadata is not None and value(self.metadata[0]) != self.metadata[1]:
            return False
        return self.function is None or admitted(self.function, user())

    def _of_a_domain(self, email: str | None) -> bool:
        if email is None:
            return False
        domain = email.rpartition("@")[2].lower()
        return any(domain.endswith(each) if each.startswith(".") else domain == each for each in self.domains)
