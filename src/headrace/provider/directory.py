"""The providers that a model's name may begin with: one row each. Knows no keys, only where they are looked for.

A server that speaks OpenAI's Chat Completions is a row of data; `openai:NAME` with a base URL reaches any other. Sources:
the providers' own pages on their API, on structured outputs, and on how they count against limits.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from headrace.core.errors import UsageError
from headrace.provider.chat import Chat
from headrace.provider.dialect import Dialect, Means
from headrace.provider.fit import ANY, GROQ, OPENAI, Fit

Speaks = Literal["chat", "responses", "messages", "gemini"]
_SCHEMA = (Means.SCHEMA, Means.OBJECT, Means.PROMPT)
_OBJECT = (Means.OBJECT, Means.PROMPT)


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    title: str
    base_url: str = ""
    """Up to and including the version; empty where it has to be told."""
    keys: tuple[str, ...] = ()
    """Environment variables that may hold the key, the first that does counts."""
    needs_key: bool = True
    """At its own address. A server somewhere else may want none."""
    address: str = ""
    """The environment variable that may hold another base URL."""
    cut: tuple[str, ...] = ()
    """What another base URL may end in although the dialect says it."""
    speaks: Speaks = "chat"
    key_header: str = "Authorization"
    fit: Fit = ANY
    """What its schemas may hold."""
    means: tuple[Means, ...] = _SCHEMA
    """How it is made to answer in a type, the best first; the next where one is refused."""
    max_tokens: str = "max_tokens"
    """What it calls the most tokens an answer may have."""
    charged: Literal["admission", "usage"] = "usage"
    cached_free: bool = False
    """Whether cached tokens do not count against its limits."""
    warms: bool = False
    """Whether its prompt cache has nothing before a first answer began: the others wait for that."""
    family: str = ""
    """Shares limits with the provider of this name."""
    headers: Mapping[str, str] = {}

    def auth(self, key: str) -> dict[str, str]:
        """The header that carries the key."""
        return {self.key_header: f"Bearer {key}" if self.key_header == "Authorization" else key}

    def dialect(self) -> Dialect:
        if self.speaks == "messages":
            from headrace.provider.messages import Messages  # noqa: PLC0415 - only who asks there needs it

            return Messages()
        if self.speaks == "gemini":
            from headrace.provider.gemini import GenerateContent  # noqa: PLC0415 - as above

            return GenerateContent()
        if self.speaks == "responses":
            from headrace.provider.responses import Responses  # noqa: PLC0415 - as above

            return Responses(fit=self.fit)
        return Chat(fit=self.fit)


def _here(title: str, port: int, *, keys: tuple[str, ...] = (), **more: str) -> Provider:
    """A server on this machine."""
    url = f"http://127.0.0.1:{port}/v1"
    return Provider(title=title, base_url=url, keys=keys, needs_key=False, address=more.get("address", ""))


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        title="OpenAI Chat Completions, or any server that speaks them", base_url="https://api.openai.com/v1",
        keys=("OPENAI_API_KEY",), address="OPENAI_BASE_URL", fit=OPENAI, max_tokens="max_completion_tokens",
        charged="admission",
    ),
    "openai-responses": Provider(
        title="OpenAI Responses", base_url="https://api.openai.com/v1", keys=("OPENAI_API_KEY",),
        address="OPENAI_BASE_URL", speaks="responses", fit=OPENAI, max_tokens="max_output_tokens", charged="admission",
        family="openai",
    ),
    "azure": Provider(
        title="Azure OpenAI, by the deployment's name", keys=("AZURE_OPENAI_API_KEY",), address="AZURE_OPENAI_ENDPOINT",
        cut=("/v1", "/openai"), key_header="api-key", fit=OPENAI, max_tokens="max_completion_tokens", charged="admission",
    ),
    "anthropic": Provider(
        title="Anthropic", base_url="https://api.anthropic.com", keys=("ANTHROPIC_API_KEY",),
        address="ANTHROPIC_BASE_URL", cut=("/v1",), speaks="messages", key_header="x-api-key",
        means=(Means.SCHEMA, Means.TOOL, Means.PROMPT), cached_free=True, warms=True,
        headers={"anthropic-version": "2023-06-01"},
    ),
    "gemini": Provider(
        title="Google Gemini", base_url="https://generativelanguage.googleapis.com/v1beta",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"), address="GOOGLE_GEMINI_BASE_URL", speaks="gemini",
        key_header="x-goog-api-key", max_tokens="maxOutputTokens",
    ),
    "cerebras": Provider(
        title="Cerebras", base_url="https://api.cerebras.ai/v1", keys=("CEREBRAS_API_KEY",), fit=OPENAI,
        max_tokens="max_completion_tokens",
    ),
    "cohere": Provider(
        title="Cohere", base_url="https://api.cohere.ai/compatibility/v1", keys=("COHERE_API_KEY", "CO_API_KEY"), fit=OPENAI
    ),
    "deepinfra": Provider(
        title="DeepInfra", base_url="https://api.deepinfra.com/v1/openai", keys=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN")
    ),
    "deepseek": Provider(
        title="DeepSeek", base_url="https://api.deepseek.com", keys=("DEEPSEEK_API_KEY",), means=_OBJECT
    ),
    "fireworks": Provider(
        title="Fireworks", base_url="https://api.fireworks.ai/inference/v1", keys=("FIREWORKS_API_KEY",)
    ),
    "groq": Provider(
        title="Groq", base_url="https://api.groq.com/openai/v1", keys=("GROQ_API_KEY",), fit=GROQ,
        max_tokens="max_completion_tokens", cached_free=True,
    ),
    "huggingface": Provider(
        title="Hugging Face", base_url="https://router.huggingface.co/v1", keys=("HF_TOKEN",)
    ),
    "mistral": Provider(
        title="Mistral", base_url="https://api.mistral.ai/v1", keys=("MISTRAL_API_KEY",)
    ),
    "moonshot": Provider(
        title="Moonshot", base_url="https://api.moonshot.ai/v1", keys=("MOONSHOT_API_KEY",), means=_OBJECT
    ),
    "nvidia": Provider(
        title="NVIDIA", base_url="https://integrate.api.nvidia.com/v1", keys=("NVIDIA_API_KEY",)
    ),
    "openrouter": Provider(
        title="OpenRouter", base_url="https://openrouter.ai/api/v1", keys=("OPENROUTER_API_KEY",), fit=OPENAI
    ),
    "perplexity": Provider(
        title="Perplexity", base_url="https://api.perplexity.ai", keys=("PERPLEXITY_API_KEY",),
        means=(Means.SCHEMA, Means.PROMPT),
    ),
    "sambanova": Provider(
        title="SambaNova", base_url="https://api.sambanova.ai/v1", keys=("SAMBANOVA_API_KEY",)
    ),
    "together": Provider(
        title="Together", base_url="https://api.together.xyz/v1", keys=("TOGETHER_API_KEY",)
    ),
    "xai": Provider(
        title="xAI", base_url="https://api.x.ai/v1", keys=("XAI_API_KEY",), fit=OPENAI
    ),
    "llamacpp": _here("llama.cpp's server on this machine", 8080, keys=("LLAMA_API_KEY",)),
    "lmstudio": _here("LM Studio on this machine", 1234),
    "ollama": _here("Ollama on this machine", 11434, address="OLLAMA_BASE_URL"),
    "sglang": _here("SGLang on this machine", 30000),
    "vllm": _here("vLLM on this machine", 8000, keys=("VLLM_API_KEY",)),
}  # fmt: skip


def provider_of(scheme: str) -> Provider:
    """Raises UsageError for a name that is none."""
    found = PROVIDERS.get(scheme)
    if found is None:
        raise UsageError(f"There is no provider {scheme!r}.", hint=f"There are: {', '.join(PROVIDERS)}.")
    return found
