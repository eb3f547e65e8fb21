"""The OpenAI SDK as it is used by hand: one client, its own two retries, a semaphore, gather."""

import asyncio
import importlib
from typing import Any

from flow_control.gather import gathered, job, tell

openai: Any = importlib.import_module("openai")


async def main() -> None:
    told = job()
    client = openai.AsyncOpenAI(base_url=told["url"], api_key="none")

    async def ask(prompt: str) -> str | None:
        made = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])
        found: str | None = made.choices[0].message.content
        return found

    tell(await gathered(ask, told["prompts"], told["in_flight"], told["cap_s"]), openai.__version__)


asyncio.run(main())
