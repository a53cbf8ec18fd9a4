"""Names, addresses and places that forms and examples are filled with, and that no author has."""

import re
import unicodedata

# Words for nothing; as a whole name, place or half of a name.
_NOTHING = (
    r"placeholder|example|test|todo|tbd|tba|x{3,}|none|null|unknown|anonymous|nowhere|lorem|ipsum|asdf|qwerty|foo"
)
# A whole name, or either half of one; folded, so that only letters, digits and single spaces are left.
_NAME = (
    r"(?:j|jane|janie|john|johnny|joe) doe|joe bloggs|(?:\w+ )?mustermann|foo bar|lorem ipsum|rehearsal|demonstration"
    r"|nobody|(?:your |my |the |author )?(?:first ?|last ?|full ?|sur|fore|given ?|family ?)?name|author(?: \w)?"
)
# Words that name the field of a form rather than a place; a place that consists of them alone is none.
_FIELDS = {
    *("university", "institute", "institution", "company", "organisation", "organization", "affiliation"),
    *("department", "laboratory", "lab", "city", "town", "country", "location", "name", "your", "my", "and", "of"),
}
# Parts of a place that is none.
_PLACE = (
    r"example|placeholder|nowhere|demonstration institute|lorem ipsum|todo|tbd|anytown|musterstadt"
    r"|(?:your|my|some) (?:university|institut\w*|company|organi[sz]ation|affiliation|department|lab\w*|city|country)"
)
_DOMAIN = (
    r"(?:.*\.)?(?:(?:example|domain|foo|nowhere|test|university|institut(?:e|ion)|company|(?:your|my)[\w-]+)"
    r"\.(?:org|com|net|edu|tld)|example\.[\w.-]+|example|test|invalid|local|localhost|tld)"
)
_LOCAL = (
    r"(?:your|my)?[._-]?(?:first|last|sur|fore|full|user)?[._-]?name(?:[._-]?(?:last|sur)?name)?|first[._-]?last|someone"
    r"|(?:your|my)[._-]?(?:e-?mail|address)|nobody|rehearsal|placeholder|j(?:ane|ohn|oe)?[._-]?doe|todo|x{3,}|foo"
)


def is_name(first: str, last: str) -> bool:
    """Whether a first and a last name, or one of them, stand for no person."""
    parts = (first, last, f"{first} {last}")
    return any(re.fullmatch(f"{_NOTHING}|{_NAME}", _fold(text)) for text in parts)


def is_address(email: str) -> bool:
    """Whether an e-mail address belongs to nobody."""
    local, _, domain = email.strip().casefold().rpartition("@")
    return bool(re.fullmatch(_DOMAIN, domain) or re.fullmatch(_LOCAL, local))


def is_url(url: str) -> bool:
    """Whether a web address is one of those that examples use."""
    host = re.match(r"https?://([^/:?#]+)", url.strip().casefold())
    return host is not None and re.fullmatch(_DOMAIN, host[1]) is not None


def is_place(text: str) -> bool:
    """Whether an institution, a department or a location is no real one."""
    folded = _fold(text)
    words = set(folded.split())
    return bool(words) and bool(
        words <= _FIELDS or re.fullmatch(_NOTHING, folded) or re.search(rf"\b(?:{_PLACE})\b", folded)
    )


def _fold(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
