"""What the tables of results have for columns, and how their means are made.

RMIS and its multi split: FISHER paper, sections 4 and 5.4, tables 1, 3 and 5. SIREN: ECHO paper, section 4, table 2;
its mean of fault classification is over five figures, because MaFaulDa has two.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from system.leaderboard.table import Figure


@dataclass(frozen=True)
class Task:
    """Columns that have a mean of their own; ``about``: how each of its figures is made."""

    name: str
    label: str
    about: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Board:
    """A benchmark's table: the score is the mean of the tasks' means.

    Args:
        name: as results have it. label: of the score. lead: what it asks, for readers. rule: the score in words.
    """

    name: str
    title: str
    label: str
    lead: str
    rule: str
    tasks: tuple[Task, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for task in self.tasks for figure in task.figures)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(figure.name for figure in self.figures)


_CHALLENGES = {
    2020: "6 kinds of machines, each copy of a machine on its own",
    2021: "7 kinds of machines; from here on also under operating conditions hardly known from training",
    2022: "7 kinds of machines, conditions changing within the test",
    2023: "14 kinds of machines, other ones for development than for evaluation",
    2024: "16 kinds of machines",
    2025: "15 kinds of machines",
}

_YEARS = tuple(Figure("ad", f"dcase{year}", str(year), text) for year, text in _CHALLENGES.items())

_FAULTS = {
    "iica": ("IICA", "compressed air, by sound: three set-ups, each leaking or not", 6),
    "iiee": ("IIEE", "electric engine, by sound: good, broken or under heavy load", 3),
    "wtpg": ("WTPG", "planetary gearbox of a wind turbine, by vibration", 5),
    "mafaulda_sound": ("MaFaulDa sound", "rotating shaft and its bearings, by microphone", 10),
    "mafaulda_vib": ("MaFaulDa vibration", "the same runs, by accelerometers", 10),
    "sdust_bearing": ("SDUST bearing", "bearing with faults of three places and sizes, by vibration", 10),
    "sdust_gear": ("SDUST gear", "planetary gearbox, by vibration", 7),
    "umged_sound": ("UMGED sound", "eleven degrees of a gear's eccentricity, by sound", 11),
    "umged_vib": ("UMGED vibration", "the same runs, by vibration", 11),
    "umged_vol": ("UMGED voltage", "the same runs, by the motor's voltage", 11),
    "umged_cur": ("UMGED current", "the same runs, by the motor's current", 11),
    "pu_vib": ("PU vibration", "bearing healthy, or its inner or outer ring damaged, by vibration", 3),
    "pu_cur": ("PU current", "the same runs, by the motor's current", 3),
}


def _faults(left_out: Collection[str] = ()) -> Iterable[Figure]:
    """The RMIS data sets of fault diagnosis."""
    for name, (label, text, classes) in _FAULTS.items():
        if name not in left_out:
            yield Figure("fd", name, label, f"{text}; {classes} classes", 100.0 / classes)


def _area(chance: float) -> float:
    """Area of who guesses: chance up to the end point, which is 100 % and weighs 1/60 in Simpson's rule of 21."""
    return chance + (100.0 - chance) / 60.0


RMIS = Board(
    "rmis",
    "RMIS: how well encoders know machines that they were never trained on",
    "RMIS score",
    "An encoder turns a recording into a list of numbers, and stays as it is; the nearest known recordings then say "
    "whether something is wrong, and what. RMIS (Representation of M5 Industrial Signals) asks this of 19 data sets of "
    "sound, vibration, voltage and current.",
    "RMIS score: mean of the two task means, so that six and thirteen data sets weigh the same.",
    (
        Task(
            "ad",
            "Anomaly detection",
            "Six years of DCASE Task 2: is this machine's sound abnormal, when only normal sounds are known? Areas "
            "under the ROC curve (AUC, and pAUC at few false alarms), averaged as that year's challenge did, over its "
            "development and its evaluation machines.",
            _YEARS,
        ),
        Task(
            "fd",
            "Fault diagnosis",
            "Which fault is it? Macro accuracy, the mean over the classes of how many of each are recognised, by five "
            "nearest neighbours; mean of ten random splits of the recordings, half of them for training (UMGED: four "
            "fifths). IIEE has a split of its own.",
            tuple(_faults()),
        ),
    ),
)

RMIS_MULTISPLIT = Board(
    "rmis-multisplit",
    "RMIS fault diagnosis with little and with much to learn from",
    "mean area",
    "Fault diagnosis as RMIS has it, frozen encoders and five nearest neighbours, with 5 % to 95 % of the recordings "
    "for training in steps of 5 %. A figure is the area under the curve of macro accuracy over that share.",
    "Mean area: mean over the twelve data sets that have no split of their own.",
    (
        Task(
            "fd",
            "Area under the curve",
            "Macro accuracy, each point the mean of ten random splits, from guessing at no training data to 100 % at "
            "the end; Simpson's rule.",
            tuple(replace(figure, chance=_area(figure.chance)) for figure in _faults(["iiee"])),
        ),
    ),
)

SIREN = Board(
    "siren",
    "SIREN: how well encoders know machines that they were never trained on",
    "SIREN mean",
    "An encoder turns a recording into a list of numbers, and stays as it is; the nearest known recordings then say "
    "whether something is wrong, and what. SIREN asks this of ten data sets of sound and vibration.",
    "SIREN mean: mean of the two task means. MaFaulDa has two figures, which count like two data sets.",
    (
        Task(
            "ad",
            "Anomaly detection",
            "Six years of DCASE Task 2: is this machine's sound abnormal, when only normal sounds are known? One mean "
            "over the AUC and pAUC values of all machines, sections and operating conditions, harmonic (2020: "
            "arithmetic).",
            _YEARS,
        ),
        Task(
            "fd",
            "Fault classification",
            "Which fault is it? Accuracy, the share of recordings that five nearest neighbours name correctly.",
            (
                Figure("fd", "iiee", "IIEE", "electric engine, by sound, a split of its own; 3 classes", 100.0 / 3),
                Figure("fd", "iica", "IICA", "leaks of compressed air, by sound, five folds; 3 classes", 100.0 / 3),
                Figure(
                    "fd", "cwru", "CWRU", "bearings, by vibration, each recording left out in turn; 10 classes", 10.0
                ),
                Figure(
                    "fd",
                    "mafaulda_vib",
                    "MaFaulDa vibration",
                    "rotating shaft and its bearings, by six accelerometers and the tachometer together, each "
                    "recording left out in turn; 10 classes",
                    10.0,
                ),
                Figure("fd", "mafaulda_sound", "MaFaulDa sound", "the same runs, by microphone; 10 classes", 10.0),
            ),
        ),
    ),
)

BOARDS = {board.name: board for board in (RMIS, RMIS_MULTISPLIT, SIREN)}
