"""Data sets of machine faults: those of RMIS (FISHER paper) and SIREN (ECHO paper), and two more, one module each.

``find_corpus(name)`` returns a data set, ``download.download`` downloads it, ``convert.prepare`` writes its manifest.
The manifest has the attributes ``class_<class>_modality_<modality>_channel_<channel>``, the group (RMIS's ``ori``), and
the official split if there is one. Sound files of RMIS's views are named and sorted as in RMIS, so that its random
splits are the same.
"""

from system.corpora.faults import cwru, iica, iiee, mafaulda, mfpt, mimii, pu, sdust, umged, wtpg
from system.corpora.faults.base import FaultCorpus
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


def find_corpus(name: str) -> FaultCorpus:
    """Data set by name.

    Args:
        name: key of ``CORPORA``.

    Raises:
        WheeltapperError: unknown name; the message lists all names.
    """
    if name not in CORPORA:
        raise WheeltapperError(f"corpus: expected one of {', '.join(CORPORA)}, found {name!r}")
    return CORPORA[name]


def listing() -> list[tuple[str, ...]]:
    """A table of all data sets with a head."""
    head = ("name", "signal", "Hz", "classes", "views", "licence", "fetched", "source")
    return [head, *map(_row, CORPORA.values())]


def _row(corpus: FaultCorpus) -> tuple[str, ...]:
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
