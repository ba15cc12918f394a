"""The figures of the paper, and the search behind its trigger."""

from redqubit.experiments.hqnn_backdoor.config import HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.rows import NAMES, trigger_words
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.experiments.seeds import seeds
from redqubit.result import Panel


def search(config: HQNNBackdoor, table: Table) -> list[Panel]:
    chosen = [r for r in table.results if r.metric == "chosen_loss"]
    if not chosen:
        return []
    rows = []
    for r in chosen:
        name = str(r.config["trigger"])
        settings = {k: v for k, v in r.config.items() if k not in ("trigger", "rule")}
        spread, ties = table.one("chosen_spread", trigger=name), table.one("ties", trigger=name)
        count, similar = table.one("candidates", trigger=name), table.one("chosen_ssim", trigger=name)
        assert count is not None
        assert similar is not None
        rows.append(
            [
                trigger_words(name),
                ", ".join(f"{k} {v:.3f}" for k, v in settings.items()),
                f"{r.value:.2f}" + ("" if spread is None else f" ± {spread.value:.2f}"),
                f"{similar.value:.4f}",
                f"{count.value:.0f}",
                "–" if ties is None else f"{ties.value:.0f}",
            ]
        )
    section = "The search for colour triggers"
    out = [
        Panel(
            "facts",
            "What the searches chose",
            f"Loss: cross-entropy to the target class on triggered pictures after {config.search_steps} steps of "
            f"poisoned training of a stand-in, mean over {seeds(len(config.search_seeds))} ± their standard deviation. "
            "Tied: others that are as hard to see and whose loss is within the spread over seeds of the least one; "
            "where there are any, the choice is no optimum.",
            section,
            data={"columns": ["trigger", "settings", "loss", "SSIM", "candidates", "tied"], "rows": rows},
        )
    ]
    if any(r.metric == "candidate_loss" for r in table.results):
        out.append(
            Panel(
                "curves",
                "The front of Qcolor's search (NSGA-II)",
                f"{config.population} candidates, {config.generations} generations. Left and below is better for the "
                "attacker.",
                section,
                "candidate_loss",
                "dissimilarity",
                "1 − SSIM",
                "loss of the backdoor, nats",
                "search",
                data={"points": True, "order": ["front", "dominated"]},
            )
        )
    return out


def sweeps(config: HQNNBackdoor, table: Table) -> list[Panel]:
    of = seeds(len(config.sweep_seeds))
    out = []
    if any("channel" in r.config for r in table.results):
        for metric, words in (
            ("attack_success_rate", "Attack success rate"),
            ("backdoor_accuracy", "Benign accuracy"),
        ):
            out.append(
                Panel(
                    "curves",
                    f"{words} by the change of one channel (the paper's Figure 6)",
                    f"{of} of the hybrid network, {config.poison_rate:.0%} poisoned; bars: 95 % intervals.",
                    "Figures 6 and 7: ratios of channels",
                    metric,
                    "change",
                    "ratio of the channel minus 1",
                    words.lower(),
                    "channel",
                    {"channel": ["red", "green", "blue"]},
                    {"order": ["red", "green", "blue"]},
                )
            )
    if any("channels" in r.config for r in table.results):
        out.append(
            Panel(
                "heatmap",
                "Attack success rate by the changes of two channels (the paper's Figure 7)",
                f"{of} of the hybrid network, {config.poison_rate:.0%} poisoned. Rows: ratio of the first channel "
                "minus 1; columns: of the second.",
                "Figures 6 and 7: ratios of channels",
                "attack_success_rate",
                "second_change",
                group="first_change",
                data={"facet": "channels"},
            )
        )
    return out


def cams(config: HQNNBackdoor, table: Table) -> list[Panel]:
    shown = [r for r in table.results if r.metric == "cam_shown"]
    section = "Figures 5 and 9: where networks look"
    out = []
    rows: list[list[object]] = []
    for r in shown:
        where = {"head": r.config["head"], "trigger": r.config["trigger"]}
        cosine, hits = table.one("cam_cosine", **where), table.one("cam_hits", **where)
        inside = [table.one("cam_mass_in_patch", inputs=i, **where) for i in ("clean", "triggered")]
        assert hits is not None
        rows.append(
            [
                trigger_words(r.config["trigger"]),
                NAMES[r.config["head"]],
                f"{hits.value:.0f} of {hits.config['n_pictures']}",
                "–" if cosine is None else f"{cosine.value:.2f} [{cosine.low:.2f}, {cosine.high:.2f}]",
                *("–" if part is None else f"{part.value:.1%}" for part in inside),
                "–" if inside[1] is None else f"{inside[1].config['area']:.1%}",
            ]
        )
        out.append(
            Panel(
                "images",
                f"Grad-CAM: {trigger_words(r.config['trigger'])}, {NAMES[r.config['head']]}",
                "Test pictures of other classes than the target under the heat maps of the predicted class, without "
                "and with the trigger; the last block of the backbone, whose map is coarse at this size.",
                section,
                data={
                    "pair": True,
                    "changed": "triggered",
                    "file": r.config["file"],
                    "rows": [
                        {
                            "label": NAMES[r.config["head"]],
                            "clean": "clean",
                            "adv": "adv",
                            **{key: r.config[key] for key in ("true", "before", "after")},
                        }
                    ],
                },
            )
        )
    if not rows:
        return []
    scores = Panel(
        "facts",
        "Scores of the heat maps (the paper's Figures 5 and 9)",
        "Over test pictures that the trigger sends to the target class. Cosine: between the maps of the predicted "
        "class without and with the trigger, with its 95 % interval. Share inside: of the map's mass in the patch, "
        "beside the patch's share of the area.",
        section,
        data={
            "columns": ["trigger", "network", "hits", "cosine", "inside, clean", "inside, triggered", "area"],
            "rows": rows,
        },
    )
    return [scores, *out]
