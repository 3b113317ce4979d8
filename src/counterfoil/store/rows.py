"""Links to rows and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from counterfoil.core.link import Deletion, Doubt, Fields, Lane, Link, ParkReason

COLUMNS = Link.__struct_fields__
COLUMN_LIST = ", ".join(COLUMNS)
_encoder = msgspec.json.Encoder()
_decode_fields = msgspec.json.Decoder(Fields).decode


def to_row(link: Link) -> dict[str, Any]:
    """The parameters of a statement, one per column."""
    row = {name: getattr(link, name) for name in COLUMNS}
    row["wanted"] = int(link.wanted)
    row["sighted"] = int(link.sighted)
    row["fields"] = _json(link.fields)
    row["applied"] = _json(link.applied)
    row["intent_params"] = _json(link.intent_params)
    for name in ("deletion", "must_confirm", "lane"):
        row[name] = int(row[name])
    row["parked"] = str(link.parked) if link.parked is not None else None
    return row


def to_link(row: Sequence[Any]) -> Link:
    """A link from a row selected with `COLUMN_LIST`."""
    values: Mapping[str, Any] = dict(zip(COLUMNS, row, strict=True))
    return Link(
        **{
            **values,
            "wanted": bool(values["wanted"]),
            "sighted": bool(values["sighted"]),
            "fields": _fields(values["fields"]),
            "applied": _fields(values["applied"]),
            "intent_params": _fields(values["intent_params"]),
            "deletion": Deletion(values["deletion"]),
            "must_confirm": Doubt(values["must_confirm"]),
            "lane": Lane(values["lane"]),
            "parked": ParkReason(values["parked"]) if values["parked"] is not None else None,
        }
    )


def _json(fields: Fields | None) -> str | None:
    return None if fields is None else _encoder.encode(fields).decode()


def _fields(text: str | None) -> Fields | None:
    return None if text is None else _decode_fields(text)
