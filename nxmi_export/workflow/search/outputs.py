"""The files that one search leaves: where they are, and whether they may be written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nxmi_export.errors import OutputError
from nxmi_export.latency import LatencyTable
from nxmi_export.output_files import output_errors
from nxmi_export.workflow.search.request import SearchRequest

__all__ = ["Outputs"]


@dataclass(frozen=True)
class Outputs:
    """The folder of a search and what is in it."""

    folder: Path

    @property
    def result(self) -> Path:
        """Everything that is known of the finished search; written last."""
        return self.folder / "search.json"

    @property
    def journal(self) -> Path:
        """One JSON line for every score, written as it is known; what --resume continues."""
        return self.folder / "search.jsonl"

    @property
    def latency(self) -> Path:
        """The latency table, where there is one; a resumed search reads the one that it made."""
        return self.folder / "latency.json"

    @property
    def ranked(self) -> Path:
        """The folder of recipes, 01.yaml being the best."""
        return self.folder / "ranked"

    @property
    def chart(self) -> Path:
        """Size, and latency, against what it costs."""
        return self.folder / "pareto.svg"

    @property
    def page(self) -> Path:
        """All of it for a reader."""
        return self.folder / "search.html"

    @contextmanager
    def in_folder(self) -> Iterator[None]:
        """Have the folder while the block runs; what was made for it and stays empty goes.

        Raises OutputError where there is none and none can be made.
        """
        made: list[Path] = []
        try:
            made += (each for each in (self.folder, *self.folder.parents) if not each.exists())
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                self.folder,
                expected="a folder for the search, in a writable place",
                found="a file"
                if isinstance(error, FileExistsError)
                else error.strerror or str(error),
                remedy="choose another with -o",
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # it has files in it
                for each in made:  # the innermost first
                    each.rmdir()

    def check(self, request: SearchRequest) -> None:
        """Refuse, before any work, a folder that is taken; raises OutputError."""
        self._check_kinds()
        if not request.overwrite:
            self._check_unused(request)
        self._check_ranked(request)

    def begin(self, request: SearchRequest, table: LatencyTable | None) -> None:
        """Forget an earlier search unless it is to be resumed, and keep `table`.

        The result goes first, so that no folder ever claims to be finished and is not; recipes and
        pictures of another search go too. The table may have been read from the file that it is
        written to, which therefore never goes.
        """
        with output_errors(self.folder):
            self.result.unlink(missing_ok=True)
            if not request.resume:
                # In the folder of recipes is nothing else, as `check` has seen.
                recipes = self.ranked.iterdir() if self.ranked.exists() else ()
                for path in (*recipes, self.page, self.chart, self.journal):
                    path.unlink(missing_ok=True)
        if table is not None:
            table.write(self.latency)
        elif not request.resume:
            self.latency.unlink(missing_ok=True)

    @property
    def has_search(self) -> bool:
        """Whether a finished search or an unfinished one is in the folder."""
        return self.result.exists() or self.journal.exists()

    def is_ours(self, folder: Path) -> bool:
        """Whether `folder` is one of ranked recipes, which another search may replace."""
        return all(path.suffix == ".yaml" and path.is_file() for path in folder.iterdir())

    def _check_kinds(self) -> None:
        for path in (self.result, self.journal, self.latency, self.chart, self.page):
            if path.is_dir():
                raise OutputError(
                    path,
                    expected="a file to overwrite or an unused name",
                    found="a folder",
                    remedy="choose another folder with -o",
                )

    def _check_ranked(self, request: SearchRequest) -> None:
        """Before the search and not after it; recipes may be somebody's, whatever wrote them."""
        if not self.ranked.exists():
            return
        if not self.ranked.is_dir() or not self.is_ours(self.ranked):
            raise OutputError(
                self.ranked,
                expected="recipes of an earlier search or an unused name",
                found="a folder of other files" if self.ranked.is_dir() else "a file",
                remedy="choose another folder with -o, or delete it yourself",
            )
        if any(self.ranked.iterdir()) and not (request.overwrite or request.resume):
            raise OutputError(
                self.folder,
                expected="a folder without a search in it",
                found=f"recipes in {self.ranked.name}",
                remedy="choose another with -o, or pass --overwrite to replace them",
            )

    def _check_unused(self, request: SearchRequest) -> None:
        # Times of a search whose budget nothing kept are there for another one to begin with.
        for path in (self.chart, self.page, self.latency):
            is_table = path == self.latency and request.latency and LatencyTable.is_at(path)
            if path.exists() and not self.has_search and not is_table:
                raise OutputError(
                    path,
                    expected="an unused name, in a folder without a search in it",
                    found="a folder" if path.is_dir() else "a file",
                    remedy="choose another folder with -o"
                    + ("" if path.is_dir() else ", or pass --overwrite to replace it"),
                )
        if self.result.exists():
            raise OutputError(
                self.folder,
                expected="a folder without a search in it",
                found="a finished one",
                remedy="choose another with -o, or pass --overwrite to replace it",
            )
        if self.journal.exists() and not request.resume:
            raise OutputError(
                self.folder,
                expected="a folder without a search in it",
                found="an unfinished one",
                remedy="pass --resume to continue it, or --overwrite to start anew",
            )
