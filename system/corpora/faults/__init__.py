"""The data sets of RMIS (FISHER paper) and SIREN (ECHO paper), and two more: a module each, one way to use them all.

``find(name)`` gives a data set, ``download.download`` fetches it, ``convert.prepare`` makes a manifest of it. What the
manifest says: the attributes ``class_<class>_modality_<modality>_channel_<channel>``, the group (RMIS's ``ori``), the
split where there is an official one. Sound files of RMIS's views are named and sorted as RMIS's own, so that its random
splits are the same.
"""

from system.corpora.faults import cwru, iica, iiee, mafaulda, mfpt, mimii, pu, sdust, umged, wtpg
from system.corpora.faults.base import Corpus
from system.errors import WheeltapperError

CORPORA = {
    corpus.name: corpus
    for corpus in (
        iica.CORPUS,
        iiee.CORPUS,
        wtpg.CORPUS,
        *mafaulda.CORPORA,
        *sdust.CORPORA,
        *umged.CORPORA,
        *pu.CORPORA,
        cwru.CORPUS,
        mfpt.CORPUS,
        mimii.CORPUS,
    )
}


def find(name: str) -> Corpus:
    """A data set by its name; WheeltapperError listing all where there is none of that name."""
    if name not in CORPORA:
        raise WheeltapperError(f"corpus: expected one of {', '.join(CORPORA)}, found {name!r}")
    return CORPORA[name]


def listing() -> list[tuple[str, ...]]:
    """A table of all data sets with a head."""
    head = ("name", "signal", "Hz", "classes", "views", "licence", "fetched", "source")
    return [head, *map(_row, CORPORA.values())]


def _row(corpus: Corpus) -> tuple[str, ...]:
    return (
        corpus.name,
        corpus.modality,
        str(corpus.rate or "as recorded"),
        "/".join(str(len(view.classes)) for view in corpus.views.values()),
        "/".join(corpus.views),
        corpus.licence or "not stated",
        "yes" if corpus.downloads or corpus.zenodo else "by hand",
        corpus.source,
    )
