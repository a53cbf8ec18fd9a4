"""The years of DCASE Challenge Task 2 as data: ``years/<year>.yaml``, read and checked."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from system.corpora.year_files import YEARS, known_years
from system.errors import WheeltapperError

Section = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_{}][A-Za-z0-9_{}.-]*$")]
PhaseName = Literal["dev", "eval"]
PartName = Literal["dev", "train", "test"]
PARTS: tuple[PartName, ...] = ("dev", "train", "test")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(_Strict):
    """A machine of one phase: sections (ids in 2020), clip length in s or None, whether names tell attributes."""

    sections: tuple[Section, ...] = Field(min_length=1)
    seconds: float | None = Field(gt=0)
    attributes: bool


class Part(_Strict):
    """A Zenodo record: one zip per machine, unpacked into ``folder``; ``names`` are exceptions to the pattern."""

    record: int = Field(gt=0)
    folder: FileName
    name: FileName
    names: dict[str, FileName] = {}
    md5: dict[str, Md5] = {}
    bytes: dict[str, int] = {}


class Defect(_Strict):
    """A published truth list that is known to be wrong for some machines.

    ``sign`` tells how to recognise it. ``index``: the number in the labelled name differs from that in the anonymous
    name, which the corrected list does not do.
    """

    machines: tuple[str, ...]
    sign: Literal["index"]
    reason: str


class Archive(_Strict):
    """One zip to fetch; md5 and size in bytes are None where they are not known."""

    part: PartName
    machine: str
    record: int
    name: str
    folder: str
    md5: str | None
    bytes: int | None


class Year(_Strict):
    """One year of the challenge.

    ``layout`` is the family of file names (see ``names``), ``rule`` the year whose official score applies, ``rate`` in
    Hz, ``truth_record`` the Zenodo record of the truth where there is one.
    """

    year: int
    layout: Literal["id", "domain", "section"]
    rule: Literal[2020, 2021, 2022]
    rate: int = Field(gt=0)
    channels: Literal[1, 2]
    licence: str
    truth_record: int | None = None
    machines: dict[PhaseName, dict[str, Machine]]
    archives: dict[PartName, Part]
    defects: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Year":
        if set(self.machines) != {"dev", "eval"}:
            raise ValueError("machines: expected dev and eval")
        if set(self.archives) != set(PARTS):
            raise ValueError(f"archives: expected {', '.join(PARTS)}")
        for name, part in self.archives.items():
            known = self.machines[_phase(name)]
            for table in (part.names, part.md5, part.bytes):
                unknown = set(table) - set(known)
                if unknown:
                    raise ValueError(f"archives.{name}: unknown machine {', '.join(sorted(unknown))}")
        return self

    @property
    def dev(self) -> dict[str, Machine]:
        """Development machines: their test clips are labelled."""
        return self.machines["dev"]

    @property
    def eval(self) -> dict[str, Machine]:
        """Evaluation machines: their test clips are anonymous."""
        return self.machines["eval"]

    def select(self, machines: list[str] | None = None, parts: tuple[str, ...] = PARTS) -> list[Archive]:
        """The zips of some machines (all where None) and parts, in the order of the year file.

        Raises WheeltapperError for an unknown machine or part.
        """
        known = list(dict.fromkeys([*self.dev, *self.eval]))
        _require("machine", machines or [], known, self.year)
        _require("part", parts, PARTS, self.year)
        found = [
            self._archive(part, machine)
            for part in PARTS
            if part in parts
            for machine in self.machines[_phase(part)]
            if machines is None or machine in machines
        ]
        if not found:
            asked = f"{', '.join(machines or []) or 'no machine'} in {', '.join(parts) or 'no part'}"
            raise WheeltapperError(f"{self.year}: expected at least one zip, found none for {asked}")
        return found

    def _archive(self, part: PartName, machine: str) -> Archive:
        entry = self.archives[part]
        name = entry.names.get(machine, entry.name.replace("{machine}", machine))
        return Archive(
            part=part,
            machine=machine,
            record=entry.record,
            name=name,
            folder=entry.folder,
            md5=entry.md5.get(machine),
            bytes=entry.bytes.get(machine),
        )


@lru_cache(maxsize=32)
def load_year(year: int) -> Year:
    """Reads and checks ``years/<year>.yaml``.

    Raises WheeltapperError for a year without a file (listing those there are) and for a damaged file.
    """
    if year not in known_years():
        raise WheeltapperError(
            f"year: expected one of {', '.join(str(known) for known in known_years())}, found {year!r}"
        )
    return read_year(YEARS / f"{year}.yaml")


def read_year(path: Path) -> Year:
    """Reads and checks a year file; WheeltapperError names the first key that is wrong."""
    try:
        found = Year.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise WheeltapperError(f"{path}: expected a year file, found nothing") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WheeltapperError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "file"
        raise WheeltapperError(f"{path}: {where}: {first['msg']}, found {str(first['input'])[:80]}") from error
    if path.stem.isdigit() and found.year != int(path.stem):
        raise WheeltapperError(f"{path}: year: expected {path.stem}, found {found.year}")
    return found


def _phase(part: str) -> PhaseName:
    return "dev" if part == "dev" else "eval"


def _require(kind: str, names, known, year: int) -> None:
    for name in names:
        if name not in known:
            raise WheeltapperError(f"{kind}: expected one of {', '.join(known)} ({year}), found {name!r}")
