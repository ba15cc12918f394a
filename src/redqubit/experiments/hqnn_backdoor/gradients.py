"""Tables 2 and 3: numbers of parameters, and gradients of trained networks."""

from redqubit.experiments.hqnn_backdoor import published
from redqubit.experiments.hqnn_backdoor.config import HYBRID, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Panel


def gradients(config: HQNNBackdoor, table: Table) -> list[Panel]:
    main = config.sets[0]

    def ours(metric: str, layer: str, head: str) -> str:
        values = [
            r.value
            for r in table.results
            if r.metric == metric
            and r.config.get("layer", "") == layer
            and (r.config["data"], r.config["head"], r.config["backbone"]) == (main.name, head, main.backbones[0])
            and r.config["depth"] in (0, config.depth)
        ]
        if not values:
            return "–"
        low, high = min(values), max(values)
        if metric in ("n_weights", "n_parameters"):
            return f"{values[0]:,.0f}"
        return f"{sum(values) / len(values):.3g} ({low:.3g} to {high:.3g})"

    if ours("n_parameters", "", HYBRID) == "–":
        return []
    both = (HYBRID, TWIN)
    heads = [
        [
            layer,
            *(x for h in both for x in (ours("n_weights", layer, h), ours("gradient_norm", layer, h))),
            *(f"{norms[h][1]:g}" for h in both),
        ]
        for layer, norms in published.TABLE2.items()
    ]
    names = {
        "gradient_norm": "norm of the whole gradient",
        "mean_gradient": "mean",
        "largest_gradient": "largest",
        "smallest_gradient": "smallest",
    }
    numbers = published.TABLE3["n_parameters"]
    whole = [["parameters", *(ours("n_parameters", "", h) for h in both), *(f"{numbers[h]:,.0f}" for h in both)]]
    for metric, words in names.items():
        values = published.TABLE3[metric]
        whole.append([words, *(ours(metric, "total", h) for h in both), *(f"{values[h]:g}" for h in both)])
    caption = (
        "Gradient of the mean cross-entropy over 256 clean test pictures after training, mean over seeds and "
        "their span; the paper states neither batch nor time, on which these numbers depend. "
    )
    section = "Tables 2 and 3: parameters and gradients"
    return [
        Panel(
            "facts",
            "The head, layer by layer (the paper's Table 2)",
            caption + f"Weights without biases. FC1 has {main.backbones[0]}'s number of features.",
            section,
            data={
                "columns": [
                    "layer",
                    "hybrid weights",
                    "hybrid gradient norm",
                    "twin weights",
                    "twin gradient norm",
                    "published hybrid norm",
                    "published twin norm",
                ],
                "rows": heads,
            },
        ),
        Panel(
            "facts",
            "The whole network (the paper's Table 3)",
            caption + "With ResNet-18 our networks have exactly the published numbers of parameters.",
            section,
            data={
                "columns": ["quantity", "hybrid", "twin", "published hybrid", "published twin"],
                "rows": whole,
            },
        ),
    ]
