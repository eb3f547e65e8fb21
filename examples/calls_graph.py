"""Phone calls in a LangGraph: `python examples/calls_graph.py`. Needs langgraph, and neither key nor network.

One node has a table of calls analysed, all of them at once as far as the provider allows; the next one decides what to do
with the report. In a graph that is invoked without an event loop, `analyse` takes the place of `await aanalyse`.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs] - its types are its own

from headrace.apps.calls import CallInsight, aanalyse, worst

CALLS = Path(__file__).with_name("calls.csv")


class State(TypedDict):
    table: Path
    store: Path
    insights: NotRequired[tuple[CallInsight, ...]]
    coaching: NotRequired[list[str]]


async def analyse_calls(state: State) -> dict[str, tuple[CallInsight, ...]]:
    report = await aanalyse(state["table"], model="sim:", key="id", store=state["store"], themes=False, progress=False)
    return {"insights": report.insights}


def plan_coaching(state: State) -> dict[str, list[str]]:
    return {"coaching": [f"{each.agent} listens again to {each.key}" for each in worst(state.get("insights", ()), 3)]}


def graph() -> Any:
    made: Any = StateGraph(State)  # its own types are deeper than an example
    made.add_node("analyse", analyse_calls)
    made.add_node("plan", plan_coaching)
    made.add_edge(START, "analyse")
    made.add_edge("analyse", "plan")
    made.add_edge("plan", END)
    return made.compile()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = asyncio.run(graph().ainvoke({"table": CALLS, "store": Path(folder) / "store.db"}))
    failed = [each.key for each in state["insights"] if not each.analysis_success]
    print(f"{len(state['insights'])} calls, without an insight: {', '.join(failed)}")
    print("\n".join(state["coaching"]))


if __name__ == "__main__":
    main()
