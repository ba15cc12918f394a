"""The figures and tables of defenses, for their own report and for that of an experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

from redqubit.defending.cells import ACCURACY, CLEAN, SUCCESS
from redqubit.defending.verdict import TITLES
from redqubit.result import Panel, Result

SHOWN = {"target": "the target", "other": "the smallest other"}


def panels(results: Sequence[Result]) -> list[Panel]:
    """Return what to show of the results of `defense_cells`; others among them are left alone."""
    own = [r for r in results if r.config.get("defense") in TITLES and "backdoor" in r.config]
    poisoned = sorted({r.config["model"] for r in own} - {CLEAN})
    draw = {"strip": _strip, "neural_cleanse": _cleanse, "fine_pruning": _pruning}
    return [
        panel
        for name, of in draw.items()
        if (mine := [r for r in own if r.config["defense"] == name])
        for panel in of(mine, poisoned)
    ]


def _families(results: Sequence[Result]) -> list[str]:
    return sorted({r.config["family"] for r in results if r.config["model"] != CLEAN})


def _where(name: str, **more: Any) -> Mapping[str, Any]:
    return {"defense": name, **more}


def _strip(results: Sequence[Result], poisoned: Sequence[str]) -> list[Panel]:
    section = TITLES["strip"]
    rates = ["strip_tpr", "strip_far", "strip_frr", "attack_success_rate"]
    return [
        Panel(
            "table",
            "AUROC of STRIP, by trigger",
            "How well the entropy under overlays tells triggered inputs from clean ones. Clean models are shown the "
            "same triggers: what they give is no detection. 50 % is chance.",
            section,
            "strip_auroc",
            "model",
            "",
            "",
            "trigger",
            _where("strip"),
            {"facet": "family", "order": [CLEAN], "unit": "%"},
        ),
        Panel(
            "table",
            "Alarms of STRIP on models with a backdoor",
            "tpr: triggered inputs found where 1 % of clean ones are; far and frr: triggered inputs that pass, and "
            "clean ones that do not, at STRIP's own threshold, the 1 % quantile of a normal distribution fitted to "
            "the defender's samples.",
            section,
            "",
            "metric",
            group="backdoor",
            where=_where("strip", model=poisoned, metric=rates),
            data={"facet": "family", "order": rates},
        ),
        *(
            Panel(
                "curves",
                f"Entropy under overlays, {family}",
                "Of models with a backdoor: a trigger that dominates keeps the entropy low.",
                section,
                "strip_entropy_share",
                "bits",
                "entropy (bits)",
                "share of inputs",
                "inputs",
                _where("strip", model=poisoned, family=family),
                {"facet": "backdoor"},
            )
            for family in _families(results)
        ),
    ]


def _cleanse(results: Sequence[Result], poisoned: Sequence[str]) -> list[Panel]:
    section = TITLES["neural_cleanse"]
    metrics = ["model_anomaly_index", "alarm_rate", "target_alarm_rate", "target_first_rate"]
    out = [
        Panel(
            "table",
            "Anomaly index of Neural Cleanse",
            "Of each model the median over restarts; alarm rate: restarts with an index above 2, and with the target "
            "class above 2; target first: restarts in which the target has the smallest mask for its spread. The clean "
            "models show how often there is an alarm without a cause.",
            section,
            "",
            "metric",
            group="backdoor",
            where=_where("neural_cleanse", metric=metrics),
            data={"facet": "family", "order": [CLEAN, *metrics]},
        ),
        Panel(
            "heatmap",
            "Size of the restored triggers",
            "L1 norm of the smallest mask that sends clean pictures to each class, in pixels. A backdoor shows as one "
            "class that is far smaller than the others.",
            section,
            "mask_norm",
            "label",
            "class",
            group="backdoor",
            where=_where("neural_cleanse"),
            data={"facet": "family", "order": [CLEAN]},
        ),
    ]
    shown: dict[str, list[Result]] = {}
    for r in results:
        if r.metric == "restored_norm":
            shown.setdefault(r.config["case"], []).append(r)
    for case, group in shown.items():
        cell = min(group, key=lambda r: r.config["seed"]).cell  # one seed stands for the others
        rows = [
            {
                "label": f"class {r.config['class_name']}, {SHOWN[r.config['shown']]} (L1 norm {r.value:.1f})",
                "clean": f"{r.config['shown']}_clean",
                "adv": f"{r.config['shown']}_adv",
                **{key: r.config[key] for key in ("true", "before", "after")},
            }
            for r in group
            if r.cell == cell
        ]
        seed = min(r.config["seed"] for r in group)
        caption = (
            f"Clean pictures with the trigger that Neural Cleanse restored for a class; seed {seed}, first restart."
        )
        data = {"file": f"{cell}.npz", "rows": rows, "changed": "with the restored trigger"}
        out.append(Panel("images", f"Restored triggers, {case}", caption, section, data=data))
    return out


def _pruning(results: Sequence[Result], poisoned: Sequence[str]) -> list[Panel]:
    section = TITLES["fine_pruning"]
    rankings = list(dict.fromkeys(r.config["ranking"] for r in results if "ranking" in r.config))
    return [
        *(
            Panel(
                "curves",
                f"Fine-Pruning by {ranking}, {family}",
                "Accuracy on clean pictures, and success of the trigger, after so many filters of the last convolution "
                "were set to 0.",
                section,
                "",
                "rate",
                "share of filters pruned",
                "share of pictures",
                "measure",
                _where("fine_pruning", ranking=ranking, family=family),
                {"facet": "backdoor", "order": [ACCURACY, SUCCESS]},
            )
            for family in _families(results)
            for ranking in rankings
        ),
        *(
            Panel(
                "table",
                title,
                caption,
                section,
                metric,
                "rate",
                "share of filters pruned",
                group="ranking",
                where=_where("fine_pruning"),
                data={"facet": "case", "order": rankings, "unit": "%"},
            )
            for metric, title, caption in (
                (
                    "fails",
                    "Where Fine-Pruning fails",
                    "Share of the models whose accuracy is within 5 points of the unpruned one and whose backdoor "
                    "succeeds in 50 % of cases or more.",
                ),
                (
                    "fails_by_paper",
                    "Where Fine-Pruning fails by the rule of the paper on hybrid networks",
                    "Share of the models whose backdoor succeeds more often than clean pictures are classified "
                    "rightly. A model that pruning has ruined counts too.",
                ),
            )
        ),
    ]
