"""What a user of Counterfoil might write: filters and mappings, good and bad ones."""

from typing import Any


def pays(user: dict[str, Any]) -> bool:
    """Only those on a plan."""
    return user["public_metadata"].get("plan") is not None


def cannot_tell(user: dict[str, Any]) -> bool:
    """A filter with a bug."""
    raise LookupError("no such plan")


def billing(user: dict[str, Any]) -> dict[str, Any]:
    """A mapping with everything."""
    plan = user["public_metadata"].get("plan")
    return {
        "email": user["private_metadata"].get("billing_email"),
        "name": user["first_name"],
        "description": f"{user['first_name']} of {user['public_metadata'].get('company', 'nowhere')}",
        "metadata": {"user": user["id"][:12]} | ({"plan": plan} if plan else {}),
    }


def needs_a_company(user: dict[str, Any]) -> dict[str, Any]:
    """A mapping that does not expect everything."""
    return {"name": user["public_metadata"]["company"], "email": user["email_addresses"][0]["email_address"]}


def takes_our_key(user: dict[str, Any]) -> dict[str, Any]:
    """A mapping that would take a customer away from its user."""
    return {"metadata": {"clerkUserId": "user_other"}}
