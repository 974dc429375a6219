"""Collects what the tests found into one table: printed at the end, and written to build-check/zoo.md."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "harness")]

HEAD = ("model", "family", "form", "nodes", "operators", "max error", "status")
ROWS = []


class Record:
    """One line of the table; what a test does not get to fill in stays as it is here."""

    def __init__(self, model, family, form, nodes=0, operators=(), error=None, status="failed"):
        self.model, self.family, self.form = model, family, form
        self.nodes, self.operators, self.error, self.status = nodes, operators, error, status

    def cells(self):
        error = "" if self.error is None else f"{self.error:.1e}"
        return (self.model, self.family, self.form, str(self.nodes), " ".join(self.operators),
                error, self.status)


@pytest.fixture
def record(request):
    rows = []

    def begin(model, family, form):
        rows.append(Record(model, family, form))
        return rows[-1]

    yield begin
    # workers run in processes of their own: what they report travels with the test
    request.node.user_properties += [("zoo", vars(row)) for row in rows]


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        ROWS.extend(Record(**row) for name, row in report.user_properties if name == "zoo")


def pytest_terminal_summary(terminalreporter):
    if not ROWS:
        return
    from store import FOLDER

    ROWS.sort(key=lambda row: (row.family, row.model, row.form))
    lines = [HEAD, ("---",) * len(HEAD), *(row.cells() for row in ROWS)]
    path = FOLDER.parent / "zoo.md"
    path.write_text("".join(f"| {' | '.join(cells)} |\n" for cells in lines))
    terminalreporter.section(f"the zoo (with operators: {path})")
    for row in ROWS:
        model, family, form, nodes, _, error, status = row.cells()
        terminalreporter.write_line(
            f"{model:28} {family:20} {form:20} {nodes:>5} nodes, {len(row.operators):3} operators"
            f"  {error:8} {status}"
        )
    passed = [row for row in ROWS if row.status == "passed"]
    terminalreporter.write_line(
        f"{len(passed)} of {len(ROWS)} configurations, {len({r.model for r in passed})} "
        f"architectures, {len({o for r in passed for o in r.operators})} operators"
    )
