"""A user without a customer: which one may be the user's, by what evidence, or that one is missing.

Taking over a customer by an unverified or ambiguous address would hand somebody another person's billing: whatever
is not plain is for a person, with the reason.
"""

import msgspec

from counterfoil.core.creating import obstacle, own_name
from counterfoil.core.finding import Candidate, Finding, Kind, Repair, State, told
from counterfoil.core.link import Address, Link
from counterfoil.core.news import UserBody
from counterfoil.core.policy import Adopt, LinkBack, Policy

_GIVEN_AND_NAMED = "the mapping file gives it to one user, and Clerk's metadata of another names it"


def named_in(user: UserBody, policy: Policy) -> str | None:
    """What Clerk holds in the place where we write."""
    return own_name(user, policy) if policy.link_back is not LinkBack.OFF else None


def named_anywhere(user: UserBody, policy: Policy) -> str | None:
    """The customer that Clerk's metadata names: where we write, or in the other place, which is evidence too."""
    return named_in(user, policy) or user.link_back or user.private_name


def as_link(user: UserBody, known: Link | None = None) -> Link:
    """The link that a wanted user would have."""
    return Link(
        subject_id=user.subject_id,
        source_version=user.version,
        fields=user.fields,
        link_back=user.link_back,
        private_name=user.private_name,
        address=user.address,
        eligible=user.eligible,
        wanted=True,
        asked=known is not None and known.asked,
        refused_email=known.refused_email if known is not None else None,
    )


def without(state: State, user: UserBody, policy: Policy) -> list[Finding]:
    """No customer names the user: one may be adopted, or one is to be made."""
    if state.mapped:
        return [_adopted_by_map(state, state.mapped)]
    missing = _missing(state, user, policy)
    named = named_anywhere(user, policy)
    if named is not None and state.mapped is None and policy.adopt is not Adopt.NEVER:
        by_name = _by_name(state, named, missing)
        if by_name is not None:
            return [_unless_held(state, each) for each in by_name]
    if state.mapped is None and policy.adopt is not Adopt.NEVER and missing:
        by_email = [_by_email(state, user, each, policy) for each in _free(state)]
        if by_email:
            return [_unless_held(state, each) for each in by_email]
    return missing


def _unless_held(state: State, found: Finding) -> Finding:
    """What our database holds otherwise, people have moved: to adopt by a rule would hide what they meant."""
    if found.kind is not Kind.UNCLAIMED or found.repair is None:
        return found
    claim = next((each for each in state.candidates if each.customer.customer_id == found.customer_id), None)
    why = None
    if claim is not None and claim.held_by is not None:
        why = f"the database holds it for {claim.held_by}"
    elif state.held is not None and state.held.customer_id != found.customer_id:
        why = f"the database holds {state.held.customer_id} for the user, which is there and names somebody else"
    return msgspec.structs.replace(found, repair=None, why=f"{found.why}; {why}") if why is not None else found


def _missing(state: State, user: UserBody, policy: Policy) -> list[Finding]:
    if obstacle(as_link(user, state.link), policy) is not None:
        return []
    why, repair = "no customer names this user", Repair.CREATE
    if user.mapping_error is not None:
        return [Finding(kind=Kind.MISSING, subject_id=state.subject_id, why=f"{why}; {user.mapping_error}")]
    if policy.adopt is Adopt.VERIFIED_EMAIL and user.address is Address.CARRIED and state.elsewhere:
        why = f"{why}; {', '.join(state.elsewhere)} has the user's address, and names another user"
        return [Finding(kind=Kind.MISSING, subject_id=state.subject_id, why=why)]
    held = state.link.customer_id if state.link is not None else None
    evidence = {"database": held} if held is not None else {}
    if state.held is not None:
        # People have moved it: to make another would hide what they meant.
        whose = "nobody" if state.held.owner is None else "another user"
        why = f"{why}; the database holds {held}, which is there and names {whose}"
        return [Finding(kind=Kind.MISSING, subject_id=state.subject_id, why=why, evidence=evidence)]
    return [Finding(kind=Kind.MISSING, subject_id=state.subject_id, repair=repair, why=why, evidence=evidence)]


def _by_name(state: State, named: str, missing: list[Finding]) -> list[Finding] | None:
    """Clerk's metadata names a customer, and no customer names the user. ``None``: as if it named none."""
    foreign = Finding(
        kind=Kind.FOREIGN,
        subject_id=state.subject_id,
        named=named,
        why="Clerk's metadata holds something else than a customer's id under our key",
        evidence={"metadata": named},
    )
    replaced = msgspec.structs.replace
    if not named.startswith("cus_"):
        return [foreign]
    other = state.named
    if other is None:
        why = "Clerk's metadata names a customer that is not there: deleted, or of another mode or account"
        plain = missing and missing[0].repair is not None and not state.candidates
        return [replaced(foreign, why=why, repair=Repair.CREATE if plain else None)]
    if other.owner is not None:
        why = "Clerk's metadata names another user's customer, and the user has none"
        return [replaced(foreign, why=why, subscribed=other.live or 0)]
    if other.archived:
        return [replaced(foreign, why="Clerk's metadata names an archived customer")]
    claim = next((each for each in state.candidates if each.customer.customer_id == other.customer_id), None)
    rivals = claim.named_by if claim is not None else ()
    if claim is not None and claim.given_to is not None:
        return [
            Finding(
                kind=Kind.UNCLAIMED,
                customer_id=other.customer_id,
                why=_GIVEN_AND_NAMED,
                subscribed=other.live or 0,
                evidence={"by": "map", "users": sorted({*rivals, claim.given_to}), **told(other)},
            )
        ]
    return [
        Finding(
            kind=Kind.UNCLAIMED,
            subject_id=state.subject_id if len(rivals) < 2 else None,
            customer_id=other.customer_id,
            repair=Repair.ADOPT if len(rivals) < 2 else None,
            why="Clerk's metadata names it, and nobody else claims it"
            if len(rivals) < 2
            else "the metadata of several users names it",
            subscribed=other.live or 0,
            evidence={"by": "clerk", "users": list(rivals), **told(other)},
        )
    ]


def _adopted_by_map(state: State, customer_id: str) -> Finding:
    claim = next((each for each in state.candidates if each.customer.customer_id == customer_id), None)
    base = Finding(
        kind=Kind.UNCLAIMED,
        subject_id=state.subject_id,
        customer_id=customer_id,
        why="the mapping file gives it to the user",
        evidence={"by": "map"},
    )
    replaced = msgspec.structs.replace
    if claim is None:
        return replaced(base, why="the mapping file names a customer that is not there, or that another user has")
    if set(claim.named_by) - {state.subject_id}:
        others = sorted(set(claim.named_by) - {state.subject_id})
        return replaced(
            base,
            why=_GIVEN_AND_NAMED,
            evidence={"by": "map", "users": others},
        )
    seen = claim.customer
    return replaced(base, repair=Repair.ADOPT, subscribed=seen.live or 0, evidence={"by": "map", **told(seen)})


def _free(state: State) -> list[Candidate]:
    """Candidates that neither Clerk's metadata nor the mapping file speaks of."""
    return [each for each in state.candidates if not each.named_by and each.given_to is None]


def _by_email(state: State, user: UserBody, claim: Candidate, policy: Policy) -> Finding:
    """A customer with the user's address: adopted only where nothing is ambiguous, and the settings allow it."""
    seen = claim.customer
    several = len(_free(state)) > 1
    why, good = "it has the verified address of exactly one user, and is nobody's", False
    if len(claim.shared_with) > 1:
        why = "several users have its address: taking it could hand one the other's billing"
    elif several:
        why = "several customers have the user's address"
    elif state.elsewhere:
        why = "another user's customer has the same address"
    elif seen.mark is not None:
        why = "it was made by Counterfoil for somebody"
    elif user.address is not Address.CARRIED:
        why = "the user's address is not verified: anybody could have signed up with it"
    elif policy.adopt is not Adopt.VERIFIED_EMAIL:
        why += "; COUNTERFOIL_ADOPT=verified_email, or a line in a mapping file, adopts it"
    else:
        good = True
    return Finding(
        kind=Kind.UNCLAIMED,
        subject_id=state.subject_id if len(claim.shared_with) < 2 else None,
        customer_id=seen.customer_id,
        repair=Repair.ADOPT if good else None,
        why=why,
        subscribed=seen.live or 0,
        evidence={"by": "email", "users": list(claim.shared_with), **told(seen)},
    )
