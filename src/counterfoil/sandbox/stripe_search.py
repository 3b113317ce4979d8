"""Stripe's customer search: an index that trails behind the truth, and its small query language."""

from __future__ import annotations

import re
from collections import deque

from counterfoil.sandbox.stripe_objects import Customer

_CLAUSE = re.compile(
    r"""\s*(?:(?P<field>email|name|phone)|metadata\[(?P<quote>['"])(?P<key>.+?)(?P=quote)\])"""
    r"""\s*:\s*(?P<mark>['"])(?P<value>(?:\\.|(?!(?P=mark)).)*)(?P=mark)\s*""",
)
_AND = re.compile(r"and\b|AND\b")

Term = tuple[str, str]


class QueryError(ValueError):
    """A query that the search cannot read."""


def parse(query: str) -> list[Term]:
    """`email:'a'`, `name:'b'`, `phone:'c'`, `metadata['k']:'v'`, joined by AND. Backslashes escape quotes."""
    terms: list[Term] = []
    rest = query
    while True:
        clause = _CLAUSE.match(rest)
        if clause is None:
            raise QueryError(f"We were unable to parse your search query: {query}")
        name = clause["field"] or f"metadata:{clause['key']}"
        terms.append((name, re.sub(r"\\(.)", r"\1", clause["value"])))
        rest = rest[clause.end() :]
        if not rest:
            return terms
        joint = _AND.match(rest)
        if joint is None:
            raise QueryError(f"We were unable to parse your search query: {query}")
        rest = rest[joint.end() :]


def _terms(customer: Customer) -> frozenset[Term]:
    if customer.deleted:
        return frozenset()
    terms = {(f"metadata:{key}", value) for key, value in customer.metadata.items()}
    for name in ("email", "name", "phone"):
        value = getattr(customer, name)
        if value is not None:
            # Stripe matches these without regard to case.
            terms.add((name, value.lower()))
    return frozenset(terms)


class SearchIndex:
    """What search can see: every change, `lag` seconds late."""

    def __init__(self, lag: float) -> None:
        self.lag = lag
        self._coming: deque[tuple[float, str, frozenset[Term]]] = deque()
        self._terms: dict[str, frozenset[Term]] = {}
        self._found: dict[Term, dict[str, None]] = {}

    def changed(self, now: float, customer: Customer) -> None:
        """Note a change that is to be seen later."""
        self._coming.append((now, customer.id, _terms(customer)))

    def find(self, now: float, terms: list[Term]) -> list[str]:
        """Ids that matched all terms `lag` seconds ago."""
        while self._coming and self._coming[0][0] + self.lag <= now:
            _, identifier, current = self._coming.popleft()
            self._replace(identifier, current)
        folded = [(name, value if name.startswith("metadata:") else value.lower()) for name, value in terms]
        sets = [self._found.get(term, {}) for term in folded]
        smallest = min(sets, key=len)
        return [identifier for identifier in smallest if all(identifier in found for found in sets)]

    def _replace(self, identifier: str, current: frozenset[Term]) -> None:
        for term in self._terms.pop(identifier, frozenset()) - current:
            found = self._found[term]
            found.pop(identifier, None)
            if not found:
                del self._found[term]
        if current:
            self._terms[identifier] = current
            for term in current:
                self._found.setdefault(term, {})[identifier] = None
