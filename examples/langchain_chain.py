"""A LangChain chain over many rows: `python examples/langchain_chain.py`. Needs langchain-core, and neither key nor network.

headrace does what `chain.batch` does not: it follows the provider's limits, tries again, keeps every answer, and goes on
where it was interrupted.
"""

import tempfile
from pathlib import Path
from typing import Any

from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable

import headrace as hr

ROWS = [
    {"id": "r1", "text": "The room was quiet and clean."},
    {"id": "r2", "text": "Cold breakfast, and nobody at the desk."},
    {"id": "r3", "text": "Fine."},
]


def chain_of() -> Runnable[Any, str]:
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer with one word."), ("human", "How is this guest? {text}")]
    )
    model = FakeListChatModel(responses=["good"])  # ChatOpenAI(model="gpt-5-nano", max_retries=0) in its place
    return prompt | model | StrOutputParser()


def main() -> None:
    chain = chain_of()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        # With a name and a version, an answer is kept: change the version when the chain changes.
        mood = hr.Map(chain.ainvoke, name="mood", version="1", endpoint="openai:gpt-5-nano")
        run = hr.run(mood, ROWS, key="id", store=store)
        print([(outcome.key, outcome.value) for outcome in run])
        again = hr.run(mood, ROWS, key="id", store=store)
        print("asked again:", sum(not outcome.cached for outcome in again))
        # Without an async side, or where a step waits for something of its own: in threads.
        print(hr.run(chain.invoke, ROWS, key="id", store=store).ok)


if __name__ == "__main__":
    main()
