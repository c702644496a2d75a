"""Real English text of four kinds, dealt out so that nothing that is judged was seen before.

The archive has snippets of movie reviews, tweets, and, sentence by sentence, newspaper editorials and customers'
reviews. Editorials and customers' reviews of even number are kept whole: these are the long documents. All other
sentences are shuffled once and cut into four parts, and so are the documents into two:

| part | for |
|---|---|
| `tuning` sentences and documents | settings are chosen on these |
| `report` sentences and documents | what is reported, and nothing else |
| two pools of calibration sentences | draws of tuning and of reporting |
"""

import io
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks.quantize import packages

ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS = ("movieReviewSnippets", "tweets")
DOCUMENTS = ("nytEditorialSnippets", "amazonReviewSnippets")
SHORTEST = 60  # words of a long document
EVALUATION, TUNING = 1500, 500  # sentences to judge by
FIRST_TUNING_DRAW = 1000  # draws from this number on are for tuning


class Snippet(NamedTuple):
    """The number of a document and of the sentence in it (0 where sources number sentences only), and the sentence."""

    document: int
    place: int
    text: str


@dataclass(frozen=True)
class Corpus:
    """All text, dealt out."""

    report: list[str]
    report_documents: list[str]
    tuning: list[str]
    tuning_documents: list[str]
    report_pool: list[str]
    tuning_pool: list[str]

    def calibration(self, draw: int, count: int = 1500) -> list[str]:
        """Sentences of a draw, all different; draws from `FIRST_TUNING_DRAW` on come from the tuning pool."""
        pool = self.tuning_pool if draw >= FIRST_TUNING_DRAW else self.report_pool
        chosen = np.random.default_rng((draw, 1)).choice(len(pool), count, replace=False)
        return [pool[i] for i in chosen]


def of_all_lengths(sentences: Sequence[str], joined: float = 0.5) -> list[str]:
    """The sentences, a share of them joined to passages of two to eleven.

    What is rounded for single sentences alone is far from the original on long texts.
    """
    rng = np.random.default_rng(len(sentences))
    whole = len(sentences) - round(joined * len(sentences))
    texts, rest = list(sentences[:whole]), list(sentences[whole:])
    while rest:
        length = int(rng.integers(2, 12))
        texts.append(" ".join(rest[:length]))
        rest = rest[length:]
    return texts


def _snippets(archive: tarfile.TarFile, source: str) -> Iterator[Snippet]:
    file = archive.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
    assert file is not None
    for line in io.TextIOWrapper(file, encoding="utf-8"):
        label, _, text = line.rstrip("\r\n").split("\t")
        document, _, place = label.partition("_")
        yield Snippet(int(document), int(place or 0), " ".join(text.split()))


@cache
def corpus() -> Corpus:
    """Fetch, read and deal out; the same for every seed."""
    sentences: dict[str, None] = {}  # a set that keeps its order
    documents: list[str] = []
    with (
        zipfile.ZipFile(packages.fetch(packages.SENTENCES)) as outer,
        tarfile.open(fileobj=io.BytesIO(outer.read(ARCHIVE))) as archive,
    ):
        for source in SNIPPETS:
            sentences.update((snippet.text, None) for snippet in _snippets(archive, source))
        for source in DOCUMENTS:
            whole: dict[int, list[str]] = {}
            for snippet in sorted(_snippets(archive, source)):
                if snippet.document % 2:
                    sentences[snippet.text] = None
                else:
                    whole.setdefault(snippet.document, []).append(snippet.text)
            documents += [" ".join(parts) for parts in whole.values()]
    long = [text for text in documents if len(text.split()) >= SHORTEST]
    rng = np.random.default_rng(0)
    pool = [list(sentences)[i] for i in rng.permutation(len(sentences))]
    long = [long[i] for i in rng.permutation(len(long))]
    third, first = len(long) // 3, EVALUATION + TUNING
    half = (first + len(pool)) // 2
    return Corpus(pool[:EVALUATION], long[third:], pool[EVALUATION:first], long[:third], pool[first:half], pool[half:])
