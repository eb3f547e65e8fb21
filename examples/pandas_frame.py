"""A pandas frame in, a pandas frame out: `python examples/pandas_frame.py`. Needs pandas, and neither key nor network."""

import tempfile
from pathlib import Path

import pandas as pd

import headrace as hr


def main() -> None:
    frame = pd.DataFrame(
        {
            "id": ["r1", "r2", "r3"],
            "text": ["The room was quiet.", None, "Cold breakfast."],
            "day": pd.to_datetime(["2024-02-03", "2024-02-03", "2024-02-04"]),
        }
    )
    ask = hr.Ask("How is the guest of {day}?\n\n{text}", returns="mood: good|bad, score: float 0..1", model="sim:")
    with tempfile.TemporaryDirectory() as folder:
        run = hr.run(ask, frame, key="id", store=Path(folder) / "store.db")
        answers = run.to_pandas()  # columns keep their types; rows keep their order, failed ones too
        print(answers.dtypes["day"], list(answers.columns))
        print(answers.groupby("day")["score"].mean().size, "days")
        frame["mood"] = answers["mood"].to_numpy()  # beside what was there
        print(frame[["id", "mood"]].to_string(index=False))


if __name__ == "__main__":
    main()
