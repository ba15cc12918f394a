"""Ask the outcomes of every sample of an audit in pandas and in SQL.

`samples.parquet` has a row per model, seed, attack, eps and test sample: its label, the prediction under attack and the
distance that the attack went. Install the readers by `pip install pandas duckdb`.
"""

from pathlib import Path

import duckdb
import pandas as pd

from redqubit import audit

if __name__ == "__main__":
    page = audit(
        "hybrid", "iris", out=Path("runs", "iris"), seeds=[0], eps=[0.1, 0.2], epochs=10, attacks=["fgsm", "pgd"]
    )
    file = page.with_name("samples.parquet")

    samples = pd.read_parquet(file)
    samples["right"] = (samples.label == samples.prediction).astype(float)
    by_attack = samples.groupby(["model", "attack", "eps"]).right.mean().reset_index()
    print(f"in pandas:\n{by_attack.to_string(index=False)}")

    by_attack = duckdb.sql(f"""
        SELECT model, attack, eps, avg((label = prediction)::INT) AS "right"
        FROM '{file}' GROUP BY ALL ORDER BY ALL
    """).df()
    print(f"in SQL:\n{by_attack.to_string(index=False)}")

    between = duckdb.sql(f"""
        SELECT model, eps, label, count(*) AS n
        FROM '{file}' AS pgd JOIN '{file}' AS fgsm USING (model, seed, eps, index, label)
        WHERE pgd.attack = 'pgd' AND fgsm.attack = 'fgsm' AND pgd.prediction <> label AND fgsm.prediction = label
        GROUP BY ALL ORDER BY ALL
    """).df()
    print(f"samples that PGD fools and FGSM does not, by class:\n{between.to_string(index=False)}")
