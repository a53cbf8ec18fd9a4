"""Names, addresses and places that forms and examples are filled with, and that no author has."""

import re
import unicodedata

# Words for nothing; as a whole name, place or half of a name.
_NOTHING = (
    r"placeholder|example|test|todo|tb[acd]|x{2,}|none|null|unknown|anonymous|nowhere|lorem|ipsum|asdf|qwerty|foo"
    r"|string|fixme|change ?me|fill in(?: .*)?|insert .*"
    r"|to be (?:filled|announced|added|confirmed|defined|determined)\b.*"
)
# A whole name, or either half of one; folded, so that only letters, digits and single spaces are left.
_NAME = (
    r"(?:j|jane|janie|john|johnny|joe) doe|joe bloggs|john q public|(?:\w+ )?muster(?:mann|frau)|foo bar|bar foo"
    r"|lorem ipsum|rehearsal|demonstration|nobody|author(?: \w)?|(?:test|sample|dummy) (?:user|author|name)|dummy dummy"
    r"|(?:your |my |the |author )?(?:first ?|last ?|full ?|sur|fore|given ?|family ?)?name"
    r"|(?:first|given) (?:last|family)"
    r"|(?:vor|nach|familien)name|prénom|prenom|apellidos?|cognome|sobrenome|voornaam|achternaam|имя|фамилия"
    r"|姓名|名前|氏名|苗字|名 姓"
)
# Words for nothing that people are called too.
_SURNAMES = r"foo|todo|test|null|none|name|author|nobody|sample|dummy|nom|nome|given"
# Words that name the field of a form rather than a place; a place that consists of them alone is none.
_FIELDS = {
    *("university", "institute", "institution", "company", "organisation", "organization", "affiliation"),
    *("department", "laboratory", "lab", "city", "town", "state", "country", "location", "name", "your", "my", "and"),
    *("of", "universität", "universitat", "hochschule", "institut", "abteilung", "firma", "ort", "stadt", "land"),
    *("université", "universite", "entreprise", "département", "ville", "pays", "universidad", "empresa", "instituto"),
    *("ciudad", "país", "pais", "università", "universidade", "azienda", "città", "paese", "cidade"),
    *("大学", "学校", "机构", "单位", "部门", "城市", "国家", "所属", "機関", "住所", "都市", "国"),
}
_REAL = {"city university", "university city", "state university", "state college", "company town"}
_ANY = r"universit\w*|institut\w*|school|college|company|organi[sz]ation|laborator\w*|lab|city|town|department"
# Parts of a place that is none.
_PLACE = (
    r"example|placeholder|nowhere|demonstration institute|lorem ipsum|anytown|musterstadt|mustermann"
    r"|(?:your|my|some) (?:university|institut\w*|company|organi[sz]ation|affiliation|department|lab\w*|city|country)"
)
# Whole places that are none.
_WHOLE = (
    rf"somewhere|any(?:where|town)(?: usa)?|x+(?: y+)?|muster(?:firma|haus)?(?: gmbh)?|(?:todo|tb[acd])\b(?! lab).*"
    rf"|(?:test|sample|dummy|foo|foobar|x+|xyz|abc) (?:{_ANY}|inc|gmbh|ltd)|anonymous (?:{_ANY})"
    rf"|(?:{_ANY}|école|ecole) (?:of )?(?:x+|xyz|abc|something|anonymous)|某(?:大学|公司|研究所)"
    r"|(?:none|unknown)(?: (?:none|unknown))+"
)
_OWN = r"(?:your|my)-?(?:domain|company|firm|uni\w*|institut\w*|lab|org\w*|school|site|website|e-?mail)|your[\w-]+"
_DOMAIN = (
    rf"(?:.*\.)?(?:(?:example|domain|foo|nowhere|test|university|institut(?:e|ion)|company|{_OWN})"
    r"\.(?:org|com|net|edu|tld)|(?:example|beispiel|exemple|ejemplo|esempio|exemplo|mustermann|musterfirma|dummy)\.[\w.-]+"
    r"|example|test|invalid|local|localhost|localdomain|tld)"
)
_LOCAL = (
    r"(?:your|my)?[._-]?(?:first|last|sur|fore|full|user)?[._-]?name(?:[._-]?(?:last|sur)?name)?|first[._-]?last|someone"
    r"|(?:your|my)[._-]?(?:e-?mail|address)|nobody|rehearsal|placeholder|j(?:ane|ohn|oe)?[._-]?doe|x{3,}|anonymous"
    r"|vorname[._-]?nachname|prenom[._-]?nom|nombre[._-]?apellidos?|nome[._-]?(?:cognome|sobrenome)|no-?reply"
    r"|(?:max|erika)[._-]?muster(?:mann|frau)|change-?me"
)
# Addresses whose halves could each be real.
_ADDRESS = (
    r"foo@(?:foo|bar|baz)\.[\w.-]+|[a-z]@[a-z]\.[a-z]+|e?mail@(?:e?mail|address|provider|host)\.\w+"
    r"|(abc|admin|dummy|none|null|sample|test|todo|user|\d+)@\1\.\w+"
)
_BRACKETS = re.compile(r"[<\[{].*[>\]}]")
_NOT_APPLICABLE = re.compile(r"n\s*[/.]\s*a\s*\.?")


def is_name(first: str, last: str) -> bool:
    """Whether a first and a last name, or one of them, stand for no person."""
    if is_doubtful_name(first, last):
        return False
    parts = (first, last, f"{first} {last}")
    return _is_blank(first) or _is_blank(last) or any(_is_nobody(text) for text in parts)


def is_doubtful_name(first: str, last: str) -> bool:
    """Whether a last name, written as a name beside the first name of a person, is a word of forms too."""
    known = re.fullmatch(_SURNAMES, _fold(last)) is not None and last.strip().istitle()
    return known and bool(_fold(first)) and not (_is_blank(first) or _is_nobody(first) or _is_word(f"{first} {last}"))


def is_address(email: str) -> bool:
    """Whether an e-mail address belongs to nobody."""
    address = email.strip().casefold()
    local, _, domain = address.rpartition("@")
    return bool(re.fullmatch(_DOMAIN, domain) or re.fullmatch(_LOCAL, local) or re.fullmatch(_ADDRESS, address))


def is_url(url: str) -> bool:
    """Whether a web address is one of those that examples use."""
    host = re.match(r"https?://([^/:?#]+)", url.strip().casefold())
    return host is not None and re.fullmatch(_DOMAIN, host[1]) is not None


def is_place(text: str) -> bool:
    """Whether an institution, a department or a location is no real one."""
    if _is_blank(text):
        return True
    folded = _fold(text)
    words = set(folded.split())
    return bool(words) and bool(
        (words <= _FIELDS and folded not in _REAL)
        or re.fullmatch(f"{_NOTHING}|{_WHOLE}", folded)
        or re.search(rf"\b(?:{_PLACE})\b", folded)
    )


def _is_nobody(text: str) -> bool:
    return re.fullmatch(f"{_NOTHING}|{_NAME}", _fold(text)) is not None


def _is_word(text: str) -> bool:
    return re.fullmatch(_NAME, _fold(text)) is not None


def _is_blank(text: str) -> bool:
    """Whether a text that is not empty has no letter, is a form's field in brackets, or says that there is none."""
    bare = text.strip().casefold()
    return bool(bare) and bool(
        not any(letter.isalpha() for letter in bare) or _BRACKETS.fullmatch(bare) or _NOT_APPLICABLE.fullmatch(bare)
    )


def _fold(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
