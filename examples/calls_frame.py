"""Phone calls in a pandas frame, insights in another: `python examples/calls_frame.py`. Needs pandas, and neither key nor
network."""

import tempfile
from pathlib import Path

import pandas as pd

from headrace.apps.calls import analyse

CALLS = Path(__file__).with_name("calls.csv")


def main() -> None:
    calls = pd.read_csv(CALLS)
    with tempfile.TemporaryDirectory() as folder:
        report = analyse(calls.head(20), model="sim:", key="id", store=Path(folder) / "store.db", progress=False)
    insights = pd.DataFrame(report.rows()).set_index("key")
    print(insights["analysis_success"].sum(), "of", len(insights), "understood;", report.run.calls, "calls were paid")
    print(insights.groupby("category")["score"].mean().round(1).to_string())
    joined = calls.join(insights[["topic", "sentiment"]], on="id", how="inner")
    print(joined[["id", "agent", "topic", "sentiment"]].head(3).to_string(index=False))


if __name__ == "__main__":
    main()
