"""The licences under which a model may be published, given those of the parts that it was trained with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mmmos.errors import LicenseError

NON_COMMERCIAL = ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "other")
"""The hub's names of licences that forbid commercial use; as "other" the card has "non-commercial"."""

SHARE_ALIKE = ("cc-by-nc-sa-4.0",)
"""The same terms again, which the licence of NISQA v2 asks for."""

LICENSES = ("mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", *NON_COMMERCIAL)
"""The hub's names of licences that a model can have."""


@dataclass(frozen=True)
class Terms:
    """The restriction that a part puts on a model that was trained with it."""

    source: str  # the part and its licence, for messages
    allowed: tuple[str, ...]  # licences of such a model; none: it must not be published


TERMS = {
    "muq": Terms("MuQ (CC BY-NC 4.0)", NON_COMMERCIAL),
    "nisqa": Terms("NISQA v2 (CC BY-NC-SA 4.0)", SHARE_ALIKE),
    "m2d": Terms("M2D (NTT's evaluation licence)", ()),
    "lite": Terms("the heads of lite (non-commercial)", NON_COMMERCIAL),
}
"""Name of an encoder or model -> its terms; those of other names allow every licence."""


def check_terms(license_name: str, parts: Collection[str]) -> None:
    """Raise `LicenseError` for a licence that the licences of the parts forbid, and for an unknown one."""
    if license_name not in LICENSES:
        raise LicenseError(f"the licence {license_name!r} is not one of {', '.join(LICENSES)}")
    for terms in (TERMS[name] for name in TERMS if name in parts):
        if not terms.allowed:
            raise LicenseError(
                f"the model was trained with {terms.source}, which forbids redistribution: it must not be published"
            )
        if license_name not in terms.allowed:
            raise LicenseError(
                f"the model was trained with {terms.source}, which forbids the licence {license_name};"
                f" possible: {', '.join(terms.allowed)}"
            )


def allows_commercial_use(license_name: str) -> bool:
    """Whether a licence of `LICENSES` allows commercial use."""
    return license_name not in NON_COMMERCIAL
