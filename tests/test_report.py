"""A report holds everything it shows, escapes what it is given, and says the numbers of the results."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from redqubit.errors import UsageError
from redqubit.report import build
from redqubit.report.tables import label, merged, number, t975, tables
from redqubit.result import Flag, Panel, Result, Summary, append, save_summary
from redqubit.storage.arrays import save_arrays
from synthetic_run import EPS, image_row, proportion, store, synthetic_results, synthetic_run


class Seen(HTMLParser):
    """What a browser would load or run, and what it would show."""

    VOID = frozenset({"meta", "img", "link", "br", "hr", "input", "source"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} has a handler"
            if name in ("src", "href", "xlink:href", "data", "srcset", "action", "poster"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def shown(self) -> str:
        return re.sub(r"[ \n\t]+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic_run(tmp_path_factory.mktemp("report") / "run")
    assert build(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Seen:
    return Seen((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_loads_nothing_and_runs_nothing(run: Path, page: Seen) -> None:
    assert page.loads
    for target in page.loads:
        assert target.startswith(("data:image/png;base64,", "#"))
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    html = (run / "report.html").read_text()
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert "default-src 'none'" in html


def test_the_page_is_well_formed_and_its_references_are_there_once(page: Seen) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {target[1:] for target in page.loads if target.startswith("#")} <= set(page.ids)


def test_what_users_name_is_shown_as_text(run: Path, page: Seen) -> None:
    assert page.shown.count("<script>alert(1)</script>") > 10
    assert "name: <b>&amp;" in page.shown
    assert "<script" not in (run / "report.md").read_text().replace("\\<script", "")


def test_the_parts_come_in_their_order(page: Seen) -> None:
    order = [
        "Red-team audit", "✓ Holds", "✗ Fails", "? Unclear", "· Note", "What this does not show", "Only test samples",
        "rests on n = 300", "Figure 1.", "Figure 2.", "Table 1.", "Nothing was measured",
        "1 failed, 1 gave a warning, 100 passed",
        "✗ Failed", "A gradient-free attack is stronger", "! Warnings", "✓ 100 passed", "finite-logits-0",
        "our 95\xa0% interval",
        "18,432,000", "redqubit audit --config", "torch = 2.6", "experiment: audit",
    ]  # fmt: skip
    body = page.shown[page.shown.index("How to run it again") :]  # after the table of contents
    places = [body.find(text) for text in ["Verdict", *order[1:]]]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("format_", ["html", "md"])
def test_every_format_says_the_numbers_of_the_results(format_: str, run: Path, page: Seen) -> None:
    text = page.shown if format_ == "html" else (run / "report.md").read_text()
    for result in synthetic_results():
        if result.metric == "robust_accuracy":
            assert result.low is not None
            assert result.high is not None
            shown = f"{100 * result.value:.1f}", f"[{100 * result.low:.1f}, {100 * result.high:.1f}]"
            failed = {"model": "dressed QNN", "attack": "PGD"}.items() <= result.config.items() and result.config["eps"]
            dagger = "†" if result.flags or failed else ""
            count = f"{result.k}/300"
            words = (shown[0] + dagger, shown[1], count if format_ == "html" else f"({count})")
            assert " ".join(words) in text.replace(" †", "†")
    assert "62.0\xa0%" in text


def test_json_holds_the_numbers_as_fractions(run: Path) -> None:
    report = json.loads((run / "report.json").read_text())
    first = report["panels"][0]
    assert first["name"] == "Figure 1"
    stored = {(r.config["model"], r.config["eps"]): r for r in synthetic_results() if r.config.get("attack") == "PGD"}
    assert len(first["tables"][0]["entries"]) == len(stored) == 40
    for entry in first["tables"][0]["entries"]:
        result = stored[entry["model"], entry["eps"]]
        assert (entry["value"], entry["low"], entry["k"]) == (result.value, result.low, result.k)
    assert len(report["checks"]) == 102
    assert report["n_results"] == len(synthetic_results())
    assert [p["entry"]["reported"] for p in report["published"]] == [0.62, 0.62]


def test_the_same_run_gives_the_same_bytes(run: Path) -> None:
    names = ("report.html", "report.md", "report.json")
    before = [(run / name).read_bytes() for name in names]
    build(run)
    assert [(run / name).read_bytes() for name in names] == before


def test_many_lines_get_plots_of_their_own(tmp_path: Path) -> None:
    models = {f"model {i}": 1 + i / 5 for i in range(12)}
    store(tmp_path, [r for r in synthetic_results(models) if r.config.get("attack") == "PGD"])
    panel = Panel("curves", "Many", metric="robust_accuracy", x="eps", group="model")
    save_summary(tmp_path / "summary.json", Summary("t", panels=(panel,)))
    html = build(tmp_path).read_text()
    assert html.count('class="plot"') == 12
    assert Seen(html).open == []


def test_results_alone_make_a_report(tmp_path: Path) -> None:
    store(tmp_path, synthetic_results())
    text = Seen(build(tmp_path).read_text()).shown
    assert "has not written its summary" in text
    assert "The first 200 of 276 results" in text
    assert "80.0\xa0%" not in text or "transfer rate" in text


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "summary.json", "results.jsonl"])
def test_any_single_file_makes_a_report(name: str, tmp_path: Path) -> None:
    synthetic_run(tmp_path / "whole")
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    page = Seen(build(tmp_path / "part").read_text())
    assert page.open == []
    if name == "summary.json":
        assert page.shown.count("Nothing was measured for this yet.") == 9  # all but "pre" and "facts"
    json.loads((tmp_path / "part" / "report.json").read_text())


def test_numbers_that_are_not_finite_are_said(tmp_path: Path) -> None:
    rows = [Result("e", "c", "loss", v, {"m": n}) for n, v in [("a", float("nan")), ("b", float("inf")), ("c", 1.0)]]
    append(tmp_path / "results.jsonl", rows)
    panels = tuple(Panel(kind, "t", metric="loss", group="m") for kind in ("table", "heatmap", "curves"))
    save_summary(tmp_path / "summary.json", Summary("t", panels=panels))
    text = Seen(build(tmp_path).read_text()).shown
    assert "undefined" in text
    assert "∞" in text
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert [e["value"] for e in report["panels"][0]["tables"][0]["entries"]] == [None, None, 1.0]


def test_points_are_not_joined_and_their_numbers_are_listed(tmp_path: Path) -> None:
    places = {"front": (0.001, 0.01, 0.02), "dominated": (0.005, 0.015, 0.03, 0.04)}
    rows = [
        Result("e", "search", "loss", 3 - 50 * x + (search == "dominated"), {"search": search, "dissimilarity": x})
        for search, at in places.items()
        for x in at
    ]
    append(tmp_path / "results.jsonl", rows)
    panels = tuple(
        Panel("curves", "Candidates", metric="loss", x="dissimilarity", group="search", data={"points": points})
        for points in (True, False)
    )
    save_summary(tmp_path / "summary.json", Summary("t", panels=panels))
    html = build(tmp_path).read_text()
    points, joined = (re.findall(r"<svg.*?</svg>", part, re.DOTALL) for part in html.split("<figure")[1:3])
    colours = {f"var(--c{i})" for i in (1, 2)}

    def lines(svg: str) -> list[str]:
        """Paths in a colour of a row that have a stroke and several corners, and are no outline of a marker."""
        paths = re.findall(r"<path[^>]*>", re.sub(r"<defs>.*?</defs>", "", svg, flags=re.DOTALL))
        return [
            path for path in paths if any(f"stroke: {c}" in path for c in colours) and " L " in path.replace("\n", " ")
        ]

    assert len(lines(joined[0])) == 2, "a line a row"
    assert lines(points[0]) == []
    assert len(re.findall(r"<use [^>]*var\(--c[12]\)", points[0])) == len(rows), "a marker a point"
    assert [svg.count("M0,7H34") for svg in points[1:]] == [0, 0], "a legend of markers without lines"
    text = Seen(html).shown
    assert "front 0.001 2.95 front 0.01 2.5 front 0.02 2 dominated 0.005 3.75" in text, "a point a row"
    assert "| front | 0.001 | 2.95 |" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", "{"), ("run.json", "{"), ("run.json", "[]"), ("config.yaml", "\udcff"), ("results.jsonl", "x\n"),
     ("artifacts/examples.npz", "x")],
)  # fmt: skip
def test_a_damaged_file_is_named(name: str, content: str, tmp_path: Path) -> None:
    folder = synthetic_run(tmp_path / "run")
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"damaged|as the run wrote it") as caught:
        build(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def test_pickled_or_missing_arrays_are_refused(tmp_path: Path) -> None:
    folder = synthetic_run(tmp_path / "run")
    np.savez(folder / "artifacts" / "examples.npz", grey=np.array([{}], dtype=object), grey_adv=np.zeros(1))
    with pytest.raises(UsageError, match=r"damaged|as the run wrote it"):
        build(folder)
    save_arrays(folder / "artifacts" / "examples.npz", other=np.zeros(1))
    with pytest.raises(UsageError, match=r"damaged|as the run wrote it"):
        build(folder)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_run_folder_is_refused(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "other")
    with pytest.raises(UsageError, match="must be the folder of a run"):
        build(tmp_path / "other")


def test_a_check_that_failed_stamps_the_numbers_of_its_attack(tmp_path: Path) -> None:
    attacks = ("fgsm", "pgd", "worst_case")
    store(
        tmp_path,
        [
            Result("audit", m, "robust_accuracy", 0.5 + i / 100 + 10 * eps, {"model": m, "attack": a, "eps": eps})
            for i, (m, a) in enumerate((m, a) for m in "ab" for a in attacks)
            for eps in (0.0, 0.01)
        ],
    )
    panel = Panel("table", "t", metric="robust_accuracy", x="model", group="attack", where={"eps": 0.01})
    flags = (
        Flag("masked", "fail", "m", subject="a / pgd"),
        Flag("fine", "ok", "f", subject="b / pgd"),
        Flag("odd", "fail", "o", subject="b"),
    )
    save_summary(tmp_path / "summary.json", Summary("t", panels=(panel,), flags=flags))
    rows = [row for row in build(tmp_path).with_suffix(".md").read_text().splitlines() if row.startswith("| ")]
    stamped = {row.split(" | ")[0].strip("| "): ["†" in cell for cell in row.split(" | ")[1:]] for row in rows}
    assert [stamped[a] for a in attacks] == [[False, False], [True, False], [True, False]]


def test_pictures_come_from_the_artifacts_alone(tmp_path: Path) -> None:
    folder = synthetic_run(tmp_path / "run")
    (folder / "artifacts" / "examples.npz").rename(tmp_path / "examples.npz")
    data = {"file": "../../examples.npz", "rows": [image_row("grey", "x", 1)]}
    save_summary(folder / "summary.json", Summary("t", panels=(Panel("images", "i", data=data),)))
    assert "Nothing was measured for this yet." in build(folder).read_text()


def test_the_t_quantiles_are_those_of_scipy() -> None:
    for degrees in range(1, 200):
        assert t975(degrees) == pytest.approx(t.ppf(0.975, degrees), abs=2e-4)


def test_merged_results_have_the_t_interval_of_scipy() -> None:
    values = [0.61, 0.65, 0.58, 0.7]
    entry = merged([Result("e", f"c{s}", "loss", v, {"seed": s, "m": "a"}, seed=s) for s, v in enumerate(values)])
    low, high = t.interval(0.95, 3, loc=np.mean(values), scale=np.std(values, ddof=1) / 2)
    assert (entry.value, entry.low, entry.high) == pytest.approx((np.mean(values), low, high), abs=1e-4)
    assert entry.draws == 4
    assert entry.over == ()
    proportions = [proportion(f"c{s}", "accuracy", p, {"m": "a", "eps": s}) for s, p in enumerate([0.9, 1.0])]
    entry = merged(proportions)
    assert (entry.k, entry.n, entry.high) == (570, 600, 1.0)
    assert entry.over == ("eps",)


def test_a_single_result_keeps_its_own_interval() -> None:
    result = proportion("c", "accuracy", 0.8, {})
    entry = merged([result])
    assert (entry.low, entry.high, entry.k, entry.n, entry.draws) == (result.low, result.high, 240, 300, 1)


def test_tables_choose_sort_and_split_as_the_panel_says() -> None:
    found = synthetic_results()[::-1]
    panel = Panel("table", "t", metric="robust_accuracy", group="attack", x="eps", where={"eps": 0.1},
                  data={"facet": "model", "order": ["MIM", "PGD", "classical twin"]})  # fmt: skip
    split = tables(panel, found)
    assert split[0].facet == "classical twin"
    assert len(split) == 4
    assert split[0].rows[:2] == ("MIM", "PGD")
    assert split[0].columns == (0.1,)
    assert tables(Panel("curves", "t", metric="robust_accuracy", x="eps"), found)[0].columns == EPS
    assert tables(Panel("table", "t", metric="accuracy", group="no such key"), found) == []
    assert tables(Panel("table", "t", group="metric", where={"seed": 4}), found)[0].rows == (
        "attack_success_rate",
        "accuracy",
    )


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.12345, True, "12.3"), (-0.05, True, "−5.0"), (0.0003, False, "0.0003"), (1234567.0, False, "1,234,567"),
        (12345.6, False, "12,346"), (3.14159, False, "3.142"), (2.0, False, "2"), (None, True, "–"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_a_reader(value: float | None, percent: bool, text: str) -> None:
    assert number(value, percent=percent) == text


def test_values_of_any_type_are_written_for_a_reader() -> None:
    assert label({"a_b": [1, 0.5, True], "c": None}) == "a b = 1, 0.5, yes; c = none"
