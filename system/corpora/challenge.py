"""Facts about the years of DCASE Challenge Task 2, read from ``years/<year>.yaml`` and checked."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from system.checked_yaml import Strict, read_checked
from system.corpora.year_files import known_years, year_path
from system.errors import WheeltapperError

Section = Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")]
Md5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_{}][A-Za-z0-9_{}.-]*$")]
PhaseName = Literal["dev", "eval"]
SUBSETS: tuple[PhaseName, ...] = ("dev", "eval")
PartName = Literal["dev", "train", "test"]
PARTS: tuple[PartName, ...] = ("dev", "train", "test")


class Machine(Strict):
    """A machine of the development or evaluation data."""

    sections: tuple[Section, ...] = Field(min_length=1)  # ids in 2020
    seconds: float | None = Field(gt=0)  # length of a clip, None if unknown
    attributes: bool  # whether file names contain attributes


class Part(Strict):
    """A Zenodo record with one zip per machine."""

    record: int = Field(gt=0)
    folder: FileName  # folder to unpack into
    name: FileName  # file name with the placeholder {machine}
    names: dict[str, FileName] = {}  # machine to file name, for exceptions
    md5: dict[str, Md5] = {}
    bytes: dict[str, int] = {}


class Defect(Strict):
    """A published list of the ground truth that is wrong for some machines.

    ``sign`` says how it is recognised. ``index``: the number in the labelled name differs from the number in the
    anonymous name; in the corrected list they are equal.
    """

    machines: tuple[str, ...]
    sign: Literal["index"]
    reason: str


class Archive(Strict):
    """A zip to download; md5 and size in bytes are None if unknown."""

    part: PartName
    machine: str
    record: int
    name: str
    folder: str
    md5: str | None
    bytes: int | None


class Year(Strict):
    """One year of the challenge."""

    year: int
    layout: Literal["id", "domain", "section"]  # form of file names, see ``names``
    rule: Literal[2020, 2021, 2022]  # year whose official score applies
    rate: int = Field(gt=0)  # Hz
    channels: Literal[1, 2]
    licence: str
    truth_record: int | None = None  # Zenodo record of the ground truth
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
        """Development machines, whose test clips are labelled."""
        return self.machines["dev"]

    @property
    def eval(self) -> dict[str, Machine]:
        """Evaluation machines, whose test clips are anonymous."""
        return self.machines["eval"]

    @property
    def first_shot(self) -> bool:
        """Whether the evaluation machines are other ones than the development machines, as in every year since 2023."""
        return not set(self.dev) & set(self.eval)

    def select(self, machines: list[str] | None = None, parts: tuple[str, ...] = PARTS) -> list[Archive]:
        """Selects zips, in the order of the year file.

        Args:
            machines: names of machines; None for all.
            parts: any of ``PARTS``.

        Raises:
            WheeltapperError: unknown machine or part, or no zip selected.
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


def load_year(year: int) -> Year:
    """Reads and checks ``years/<year>.yaml``.

    Raises:
        WheeltapperError: no file for this year (the message lists the known years), or an invalid file.
    """
    if year not in known_years():
        raise WheeltapperError(
            f"year: expected one of {', '.join(str(known) for known in known_years())}, found {year!r}"
        )
    return _read_once(year_path(year))


def first_shot_years() -> list[int]:
    """Years whose evaluation machines are not among their development machines: of them packages can be told."""
    return [year for year in known_years() if load_year(year).first_shot]


def rule_of_year(year: int) -> int:
    """The rule of the official score in a year, a key of ``metrics.RULES``; WheeltapperError as of ``load_year``."""
    return load_year(year).rule


def read_year(path: Path) -> Year:
    """Reads and checks a year file; WheeltapperError names the first key that is wrong."""
    found = read_checked(path, Year, "a year file")
    if path.stem.isdigit() and found.year != int(path.stem):
        raise WheeltapperError(f"{path}: year: expected {path.stem}, found {found.year}")
    return found


_read_once = lru_cache(maxsize=32)(read_year)


def _phase(part: str) -> PhaseName:
    return "dev" if part == "dev" else "eval"


def _require(kind: str, names, known, year: int) -> None:
    for name in names:
        if name not in known:
            raise WheeltapperError(f"{kind}: expected one of {', '.join(known)} ({year}), found {name!r}")
