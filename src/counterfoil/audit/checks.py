"""What must still be so, right before a line of a plan is carried out; and what is then asked of its link."""

from collections.abc import Sequence
from typing import Any

import msgspec

from counterfoil.audit.patience import insistently
from counterfoil.billing.listing import CustomerLister
from counterfoil.billing.stripe import StripeApi
from counterfoil.core.claims import as_link, named_anywhere, named_in
from counterfoil.core.customer import Customer, difference, wanted_fields
from counterfoil.core.finding import Finding, Kind, Repair
from counterfoil.core.link import Address, Fields, Order
from counterfoil.core.news import CustomerSeen, UserBody
from counterfoil.core.policy import OnDeletion, Policy
from counterfoil.upstream.gate import BULK


class Checked(msgspec.Struct, kw_only=True):
    """One line, checked. ``reason``: why it is not to be done; ``already``: it is so by now."""

    reason: str | None = None
    already: bool = False
    customers: list[CustomerSeen] = []
    applied: Fields | None = None
    replaces: str | None = None
    deletes: int = 0
    """How many customers it deletes, with those that an earlier run has deleted."""


def _no(reason: str, *, already: bool = False) -> Checked:
    return Checked(reason=reason, already=already)


class Checks:
    """Looks again. ``left``: how many customers may still be deleted."""

    def __init__(self, stripe: StripeApi, lister: CustomerLister, policy: Policy, left: int) -> None:
        self._stripe = stripe
        self._lister = lister
        self._policy = policy
        self.left = left

    async def check(self, finding: Finding, user: UserBody | None, before: int) -> Checked:
        """Check one line.

        Args:
            finding: the line.
            user: as Clerk shows it now; ``None``: there is none.
            before: customers that an earlier run was about to delete for it, and counted; they are not for others,
                for a call of a run that was killed may still take effect.

        Raises:
            UpstreamError: Stripe cannot be asked.
        """
        if (user is None) != (finding.kind is Kind.ORPHAN):
            return _no("the user is gone meanwhile" if user is None else "the user is there")
        if user is not None:
            told = self._check_user(finding, user)
            if told is not None:
                return told
        held = finding.evidence.get("database") if finding.kind is Kind.MISSING else None
        for customer_id in filter(None, [held, finding.named if finding.repair is Repair.CREATE else None]):
            if not (await self._look(customer_id)).gone:
                return _no(f"{customer_id} is there, and does not name the user: for a person")
        # The link may hold a customer that is gone: written anew, it is missed.
        named_is_gone = finding.kind is Kind.FOREIGN and finding.repair is Repair.CREATE
        anew = held is not None or named_is_gone or finding.kind is Kind.UNCLAIMED
        checked = Checked(applied=Fields() if anew else finding.fields, replaces=finding.named)
        if finding.customer_id is not None and user is not None:
            reason = await self._check_customer(finding, user, finding.customer_id, checked)
            if reason is not None:
                return reason
        # All are looked at before one is counted: a line that is skipped takes nothing of what may be deleted.
        looks = [await self._look(each, thoroughly=True) for each in finding.retire]
        unpaid = _unpaid(finding)
        for now in looks:
            mine = not now.gone and now.owner == finding.subject_id
            if mine and any(each.live for each in now.subscriptions or ()):
                return _no(f"{now.customer_id} has a live subscription")
            if mine and now.attached and now.customer_id in unpaid and not await self._is_unpaid(now.customer_id):
                return _no(f"{now.customer_id} has paid since the audit")
        for now in looks:
            self._retire(finding, now, before, checked)
        if finding.retire and not checked.customers:
            return _no("it was dealt with", already=True)
        return checked

    def _check_user(self, finding: Finding, user: UserBody) -> Checked | None:
        named = named_in(user, self._policy)
        if finding.kind is Kind.FOREIGN:
            named = named or named_anywhere(user, self._policy)
        if finding.repair is Repair.LINK and named == finding.customer_id:
            return _no("Clerk's metadata names the customer by now", already=True)
        replaces = finding.repair in {Repair.LINK, Repair.CREATE} or finding.named is not None
        if replaces and named not in {None, finding.named, finding.customer_id}:
            return _no("Clerk's metadata has changed meanwhile")
        if finding.kind is Kind.FOREIGN and named is None:
            return _no("Clerk's metadata has changed meanwhile")
        anywhere = named_anywhere(user, self._policy)
        moved = user.version != finding.version and anywhere != finding.named
        if finding.kind is Kind.DUPLICATE and moved and anywhere in finding.retire:
            return _no("Clerk's metadata names one that is to go by now")
        updates = finding.repair is Repair.UPDATE and finding.fields is not None
        if updates and difference(wanted_fields(as_link(user)), finding.fields) == Fields():
            return _no("the user has the customer's values by now")
        return None

    async def _check_customer(
        self, finding: Finding, user: UserBody, customer_id: str, checked: Checked
    ) -> Checked | None:
        """The customer that stays, is written to, or is adopted."""
        now = await self._look(customer_id)
        if now.gone:
            return _no(f"{customer_id} is gone")
        adopts = finding.kind is Kind.UNCLAIMED
        if now.owner != finding.subject_id and not (adopts and now.owner is None):
            return _no(f"{customer_id} names another user, or none")
        if finding.repair is Repair.RECONCILE:
            return None if now.archived else _no(f"{customer_id} is not archived any more", already=True)
        if now.archived and finding.repair in {Repair.RETIRE, Repair.ADOPT}:
            return _no(f"{customer_id} is archived")
        if adopts and now.owner is None:
            reason = await self._check_evidence(finding, user, customer_id)
            if reason is not None:
                return reason
        # A person may have moved it to the user after the scan that met it: who does not know it makes another.
        order = Order.NONE
        if finding.repair in {Repair.RETIRE, Repair.ADOPT}:
            order = Order.ADOPT if now.owner is None else Order.KEEP
        checked.customers = [*checked.customers, _sighting(finding, now, order)]
        return None

    async def _check_evidence(self, finding: Finding, user: UserBody, customer_id: str) -> Checked | None:
        """What ties the user to a customer that names nobody; a person's mapping file stands as it is."""
        by, named = finding.evidence.get("by"), named_anywhere(user, self._policy)
        if by == "clerk" and named != customer_id:
            return _no("Clerk's metadata has changed meanwhile")
        if by != "email":
            return None
        if named not in {None, customer_id}:
            return _no("Clerk's metadata names another customer by now")
        carried, email = str(finding.evidence.get("email", "")), user.fields.email or ""
        if user.address is not Address.CARRIED or email.lower() != carried.lower():
            return _no("the user has another address by now, or it is not verified")
        found: set[str] = set()
        for spelling in dict.fromkeys((carried, email)):
            seen = await insistently(lambda spelling=spelling: self._stripe.with_email(spelling, BULK))  # type: ignore[misc]
            found.update(each.customer_id for each in seen if not each.archived)
        if customer_id not in found:
            return _no(f"{customer_id} has another address by now")
        return _no("another customer has this address by now") if len(found) > 1 else None

    def _retire(self, finding: Finding, now: Customer, before: int, checked: Checked) -> None:
        """A customer that is to go: how, and what of the allowance it takes."""
        counted = checked.deletes < before
        if now.gone and counted:
            checked.deletes += 1
            return  # an earlier run did it
        if now.gone or now.owner != finding.subject_id:
            return
        allowed = counted or self.left > 0
        delete = now.attached is False and allowed and self._policy.on_deletion is not OnDeletion.ARCHIVE
        self.left -= delete and not counted
        checked.deletes += delete
        order = Order.DELETE if delete else Order.ARCHIVE
        checked.customers = [*checked.customers, _sighting(finding, now, order)]

    async def _is_unpaid(self, customer_id: str) -> bool:
        """What a key may not read by now is not known to be so."""
        return await insistently(lambda: self._lister.paid(customer_id)) is False

    async def _look(self, customer_id: str, *, thoroughly: bool = False) -> Customer:
        return await insistently(
            lambda: self._stripe.inspect(customer_id, BULK, thoroughly=thoroughly, subscriptions=thoroughly)
        )


def _unpaid(finding: Finding) -> set[str]:
    """The customers of a duplicate of which the keeper's choice supposes that they have paid nothing."""
    claimants: Sequence[dict[str, Any]] = finding.evidence.get("customers", ())
    return {str(each["customer"]) for each in claimants if each.get("paid") is False}


def _sighting(finding: Finding, seen: Customer, order: Order) -> CustomerSeen:
    return CustomerSeen(
        subject_id=str(finding.subject_id),
        customer_id=seen.customer_id,
        created=0,
        mark=seen.mark,
        archived=seen.archived,
        order=order,
    )
