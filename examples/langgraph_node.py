"""A LangGraph node that fans out through headrace: `python examples/langgraph_node.py`. Needs langgraph, and neither key
nor network.

A node may have a thousand rows to ask about: headrace asks as fast as the provider allows, and the graph goes on with
all answers. In a plain node it is `hr.run(...)` instead of `await hr.arun(...)`.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs] - its types are its own

import headrace as hr

QUESTION = hr.Ask("How is this guest?\n\n{text}", returns="mood: good|bad", model="sim:")


class State(TypedDict):
    rows: list[dict[str, str]]
    store: Path
    moods: NotRequired[list[str]]
    summary: NotRequired[str]


async def judge(state: State) -> dict[str, list[str]]:
    """One node, many calls; those that failed are left out here, and asked again when the graph runs again."""
    run = await hr.arun(QUESTION, state["rows"], key="id", name="guests", store=state["store"], progress=False)
    return {"moods": [outcome.value["mood"] for outcome in run if outcome.value is not None]}


def summarise(state: State) -> dict[str, str]:
    moods = state.get("moods", [])
    return {"summary": f"{moods.count('good')} of {len(moods)} guests are happy."}


def graph() -> Any:
    made: Any = StateGraph(State)  # its own types are deeper than an example
    made.add_node("judge", judge)
    made.add_node("summarise", summarise)
    made.add_edge(START, "judge")
    made.add_edge("judge", "summarise")
    made.add_edge("summarise", END)
    return made.compile()


def main() -> None:
    rows = [{"id": str(number), "text": f"Guest {number} was here."} for number in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        state = asyncio.run(graph().ainvoke({"rows": rows, "store": Path(folder) / "store.db"}))
    print(state["summary"])


if __name__ == "__main__":
    main()
