"""A report holds everything it shows, escapes what it is given, and says the numbers of the results."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t

from redqubit.errors import UsageError
from redqubit.report import build
from redqubit.report.tables import label, merged, number, t975, tables
from redqubit.result import Finding, Flag, Panel, Result, Summary, append, save_summary

EPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
MODELS = {"dressed QNN": 1.0, "quanvolution, ansatz 14": 1.5, "classical twin": 0.8, "<script>alert(1)</script>": 2.2}
ATTACKS = {"FGSM": 0.5, "PGD": 1.0, "MIM": 0.9, "gaussian noise": 0.05, "random search": 0.6}

DRAWING = "\n".join(
    f"q{i}: ──RY(x{i})──" + "─●───" * i + "─X─" + f"──RY(w{2 * i})──RZ(w{2 * i + 1})──" * 4 + "┤ <Z>" for i in range(4)
)


def wilson(k: int, n: int) -> tuple[float, float]:
    z, p = float(norm.ppf(0.975)), k / n
    centre, half = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def proportion(cell: str, metric: str, p: float, config: dict[str, Any], n: int = 300, **more: Any) -> Result:
    k = round(p * n)
    low, high = wilson(k, n)
    return Result("audit", cell, metric, k / n, config, low, high, k, n, **more)


def synthetic_results(models: dict[str, float] = MODELS) -> list[Result]:
    found = []
    for i, (model, strength) in enumerate(models.items()):
        for j, (attack, power) in enumerate(ATTACKS.items()):
            for eps in EPS:
                p = 0.08 + 0.86 * float(np.exp(-((eps * 7 * power / strength) ** 1.4)))
                odd = attack == "FGSM" and model == "dressed QNN" and eps == 0.3
                found.append(
                    proportion(
                        f"{model} {attack}", "robust_accuracy", p, {"model": model, "attack": attack, "eps": eps},
                        reported=0.62 if eps == 0.1 and attack == "PGD" and i < 2 else None,
                        flags=("stronger-than-iterative",) if odd else (), seed=0, seconds=3.4 * j, version="0.1.0",
                    )
                )  # fmt: skip
        for seed in range(5):
            for metric, value in {"accuracy": 0.94, "attack_success_rate": 0.71}.items():
                p = value - 0.02 * i + 0.01 * np.sin(7 * seed + i)
                found.append(proportion(f"{model} s{seed}", metric, p, {"model": model}, seed=seed, seconds=12.5))
            found.append(Result("audit", f"{model} s{seed}", "median_distance", 0.03 * strength, {"model": model}))
        for j, other in enumerate(models):
            p = 0.8 if i == j else 0.25 + 0.1 * ((3 * i + j) % 4)
            config = {"source": model, "target": other}
            found.append(proportion(f"transfer {model} {other}", "transfer_rate", p, config, seed=0))
    return found


def examples(folder: Path) -> None:
    """Write pictures and features in the schema of an "images" panel."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    ring = np.exp(-((np.hypot(x - 3.5, y - 3.5) - 2.5) ** 2))
    grey = np.stack([np.clip(ring * s, 0, 1)[None] for s in (0.6, 0.8, 0.9, 1.0, 0.7)])
    colour = np.stack([np.stack([ring, x / 7, y / 7])] * 3)
    features = draw.uniform(0, 1, (4, 9))
    arrays = {"grey": grey, "colour": colour, "features": features}
    (folder / "artifacts").mkdir()
    noisy = {f"{k}_adv": np.clip(a + 0.1 * np.sign(draw.normal(size=a.shape)), 0, 1) for k, a in arrays.items()}
    np.savez(folder / "artifacts" / "examples.npz", **arrays, **noisy)


def image_row(array: str, title: str, n: int) -> dict[str, Any]:
    return {
        "clean": array, "adv": f"{array}_adv", "label": title,
        "true": ["3"] * n, "before": ["3"] * n, "after": ["8", "3", "0", "8", "8"][:n],
    }  # fmt: skip


def synthetic_summary() -> Summary:
    robust: dict[str, Any] = {"metric": "robust_accuracy", "x": "eps", "x_label": "budget ε (L∞, inputs in [0, 1])"}
    ok = [
        Flag(f"finite-logits-{i % 4}", "ok", "All logits are finite.", {"n": 300}, f"model {i} / PGD")
        for i in range(100)
    ]
    return Summary(
        title="Red-team audit of three quantum classifiers on digits",
        subtitle="Digits 0 to 9, 8 × 8 pixels, 300 test samples; attacked with five methods at ten budgets.",
        source="El Maouaki, Marchisio, Said, Shafique, Bennai, RobQuNNs, 2024",
        findings=(
            Finding(
                "The quanvolutional model keeps more accuracy under PGD at ε = 0.1 than its classical twin.",
                "holds", "84.3 % against 61.0 %, n = 300, paired McNemar p = 0.002, Holm over 4 comparisons.",
                "“robust against all attacks” (Table 3)",
            ),
            Finding(
                "The dressed QNN is not robust: random search finds what FGSM does not.", "fails",
                "At ε = 0.3, FGSM leaves 55.0 % and random search 31.3 % (n = 300).",
            ),
            Finding("Whether noise helps cannot be told from 300 samples.", "unclear", "2.1 points, p = 0.4"),
            Finding("Names given by the user, such as <script>alert(1)</script>, are shown as text."),
        ),
        panels=(
            Panel("curves", "Robust accuracy of each model under PGD", section="Evasion", group="model",
                  caption="Accuracy on the test set after projected gradient descent of 40 steps.",
                  where={"attack": "PGD"}, data={"chance": 0.1}, **robust),
            Panel("curves", "Every attack on every model", section="Evasion", group="attack",
                  caption="The weakest line of a plot is what counts; Gaussian noise is the control.",
                  data={"chance": 0.1, "facet": "model"}, **robust),
            Panel("curves", "Attacks on the dressed QNN", section="Evasion", group="attack",
                  where={"model": "dressed QNN"}, **robust),
            Panel("images", "Adversarial examples", section="Evasion", caption="PGD at ε = 0.1.",
                  data={"file": "examples.npz", "rows": [image_row("grey", "dressed QNN, PGD, ε = 0.1", 5),
                        image_row("colour", "quanvolution, PGD, ε = 0.1", 3), image_row("features", "tabular", 4)]}),
            Panel("heatmap", "Transfer of adversarial examples", section="Transfer", metric="transfer_rate",
                  group="source", x="target", x_label="evaluated on",
                  caption="Share of examples made on the model of the row that fool the model of the column."),
            Panel("heatmap", "Distances", section="Transfer", metric="median_distance", group="model", x="metric"),
            Panel("table", "All models over five seeds", section="Accuracy", group="model", x="metric",
                  caption="Accuracy and success rate in percent; distance in data units.",
                  where={"experiment": "audit"}, data={"order": ["accuracy", "attack_success_rate"]}),
            Panel("curves", "Accuracy by model", section="Accuracy", metric="accuracy", x="model"),
            Panel("pre", "The circuit of the dressed QNN", section="Models", data={"text": DRAWING}),
            Panel("facts", "The models", section="Models", data={
                "columns": ["model", "qubits", "weights", "data re-uploaded", "learning rate"],
                "rows": [[m, 4, 1234 * (i + 1), i % 2 == 0, 0.01 / (i + 1)] for i, m in enumerate(MODELS)]}),
            Panel("table", "Not there", section="Models", metric="nothing", group="model"),
        ),
        flags=(
            *ok,
            Flag("gradient-masking", "fail", "A gradient-free attack is stronger than PGD, so the gradients mislead.",
                 {"random_search": 0.313, "pgd": 0.55, "n": 300}, "dressed QNN / PGD"),
            Flag("chance-not-reached", "warning", "At the largest budget the accuracy is above chance.",
                 {"accuracy": 0.21, "chance": 0.1}, "<script>alert(1)</script> / random search"),
        ),
        cost={"circuit_evaluations": 18_432_000, "peak_memory": "1.2 GB"},
        rerun="redqubit audit --config runs/digits/config.yaml --set pgd.eps=0.1 --out runs/digits-again --seeds 0 1 2",
        limits=("Only test samples of one data set were attacked.",),
    )  # fmt: skip


def store(folder: Path, results: list[Result]) -> None:
    by_cell: dict[str, list[Result]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    for cell in by_cell.values():
        append(folder / "results.jsonl", cell)


def synthetic_run(folder: Path) -> Path:
    """Write a run folder that has one of everything."""
    folder.mkdir(parents=True)
    store(folder, synthetic_results())
    save_summary(folder / "summary.json", synthetic_summary())
    (folder / "config.yaml").write_text("# experiment: audit\npgd:\n  eps: 0.1\nname: <b>&amp;\n")
    about = {"experiment": "audit", "started": "2025-01-01T12:00:00+00:00", "device": "cpu",
             "versions": {"redqubit": "0.1.0", "torch": "2.6"}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    examples(folder)
    return folder


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
        "✗ Failed", "gradient-masking", "! Warnings", "✓ 100 passed", "finite-logits-0", "our 95\xa0% interval",
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
            dagger = "†" if result.flags else ""
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


def test_twenty_thousand_results_take_seconds(tmp_path: Path) -> None:
    found = [
        proportion(f"c{i}", "accuracy", 0.5, {"model": f"m{m}", "eps": e / 10}, seed=i)
        for i in range(200)
        for m in range(10)
        for e in range(10)
    ]
    assert len(found) == 20_000
    store(tmp_path, found)
    panels = tuple(Panel(kind, "t", metric="accuracy", group="model", x="eps") for kind in ("curves", "table"))
    save_summary(tmp_path / "summary.json", Summary("t", panels=panels))
    began = time.perf_counter()
    build(tmp_path)
    assert time.perf_counter() - began < 15


@pytest.mark.parametrize(
    ("name", "content"),
    [("summary.json", "{"), ("run.json", "{"), ("run.json", "[]"), ("config.yaml", "\udcff"), ("results.jsonl", "x\n"),
     ("artifacts/examples.npz", "x")],
)  # fmt: skip
def test_a_damaged_file_is_named(name: str, content: str, tmp_path: Path) -> None:
    folder = synthetic_run(tmp_path / "run")
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match="damaged") as caught:
        build(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def test_pickled_or_missing_arrays_are_refused(tmp_path: Path) -> None:
    folder = synthetic_run(tmp_path / "run")
    np.savez(folder / "artifacts" / "examples.npz", grey=np.array([{}], dtype=object), grey_adv=np.zeros(1))
    with pytest.raises(UsageError, match="damaged"):
        build(folder)
    np.savez(folder / "artifacts" / "examples.npz", other=np.zeros(1))
    with pytest.raises(UsageError, match="damaged"):
        build(folder)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_what_is_no_run_folder_is_refused(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "other")
    with pytest.raises(UsageError, match="must be the folder of a run"):
        build(tmp_path / "other")


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
