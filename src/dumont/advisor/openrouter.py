"""OpenRouter as the one that is asked: pydantic-ai over the chat-completions wire, bounded in bytes, tokens and time.

Importing this takes more than a second of processor time, so only the composition root does, and only with a key.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal, InvalidOperation

import httpx2
from openai import AsyncOpenAI
from pydantic_ai.direct import model_request
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, UnexpectedModelBehavior, UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openrouter import OpenRouterModel, OpenRouterModelSettings
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.openrouter import OpenRouterProvider

from dumont.advisor.llm import INSTRUCTIONS, OUTPUT_TOKENS_MAX, Answer, AskFailed
from dumont.advisor.note import Note
from dumont.advisor.workload import Workload

URL = "https://openrouter.ai/api/v1"
BODY_BYTES_MAX = 262_144
_STRUCTURED = ModelProfile(supports_json_schema_output=True)  # OpenRouter takes a schema for any model it routes to
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where the models are asked, and how long for. Prices are the most per million tokens to be routed to, in USD."""

    key: str
    url: str = URL
    timeout_s: float = 12.0
    prompt_price_max: int = 3
    completion_price_max: int = 15


class OpenRouter:
    """Asks models through OpenRouter. One HTTP request for each call; trying again is the caller's decision."""

    def __init__(self, service: Service) -> None:
        self._service = service
        transport = _Bounded(httpx2.AsyncHTTPTransport(retries=0))
        self._http = httpx2.AsyncClient(
            transport=transport, timeout=service.timeout_s, headers={"accept-encoding": "identity"}, trust_env=False
        )
        client = AsyncOpenAI(api_key=service.key, base_url=service.url, http_client=self._http, max_retries=0)
        self._provider = OpenRouterProvider(openai_client=client)

    async def __call__(self, model: str, text: str) -> Answer:
        """Ask one model once. Raises AskFailed."""
        try:
            async with asyncio.timeout(self._service.timeout_s):
                response = await model_request(
                    OpenRouterModel(model, provider=self._provider, profile=_STRUCTURED),
                    [ModelRequest(parts=[UserPromptPart(content=text)], instructions=INSTRUCTIONS)],
                    model_settings=self._settings(),
                    model_request_parameters=_parameters(),
                )
        except TimeoutError as slow:
            raise AskFailed(Note.AWAY, f"{model} did not answer in {self._service.timeout_s} s", free=False) from slow
        except ModelHTTPError as refused:
            raise _of_status(model, refused) from refused
        except UnexpectedModelBehavior as broken:
            raise AskFailed(Note.NONSENSE, f"{model}: {broken.message[:200]}", free=False) from broken
        except UserError as wrong:
            raise AskFailed(Note.REFUSED, f"{model}: {str(wrong)[:200]}", free=True) from wrong
        except (AgentRunError, httpx2.HTTPError) as failed:
            undecoded = isinstance(failed.__cause__, ValueError)  # a body that is no JSON
            raise AskFailed(
                Note.NONSENSE if undecoded else Note.AWAY, f"{model}: {str(failed)[:200]}", free=False
            ) from failed
        return Answer(_text(model, response), _cost_micros(response))

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    def _settings(self) -> OpenRouterModelSettings:
        return OpenRouterModelSettings(
            max_tokens=OUTPUT_TOKENS_MAX,
            temperature=0.0,
            timeout=self._service.timeout_s,
            openrouter_usage={"include": True},
            openrouter_provider={
                "data_collection": "deny",
                "max_price": {
                    "prompt": self._service.prompt_price_max,
                    "completion": self._service.completion_price_max,
                },
            },
        )


def _parameters() -> ModelRequestParameters:
    """No tools at all; the answer has to be an object of our schema."""
    wanted = OutputObjectDefinition(json_schema=Workload.model_json_schema(), name="workload", strict=False)
    return ModelRequestParameters(output_mode="native", output_object=wanted, allow_text_output=True)


def _text(model: str, response: ModelResponse) -> str:
    """The text of an answer. Tool calls are nothing that was offered: they are left where they are, and not run."""
    text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
    if not text.strip():
        raise AskFailed(Note.NONSENSE, f"{model} answered without text", free=False)
    return text


def _cost_micros(response: ModelResponse) -> int | None:
    """What the service says this call cost, in micro-US-dollars rounded up; None when it does not say."""
    cost = (response.provider_details or {}).get("cost")
    if cost is None:
        return None
    try:
        micros = int((Decimal(str(cost)) * 1_000_000).to_integral_value(rounding=ROUND_UP))
    except (InvalidOperation, ValueError):
        return None
    return micros if micros >= 0 else None


def _of_status(model: str, refused: ModelHTTPError) -> AskFailed:
    why = Note.BUSY if refused.status_code in _BUSY or refused.status_code >= 500 else Note.REFUSED
    return AskFailed(why, f"{model}: HTTP {refused.status_code}", free=True)


class _Bounded(httpx2.AsyncBaseTransport):
    """A transport whose responses end with an error once they are longer than any sensible answer."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream), "an async transport streams"
        response.stream = _Counted(response.stream, request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, request: httpx2.Request) -> None:
        self._inner = inner
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for part in self._inner:
            seen += len(part)
            if seen > BODY_BYTES_MAX:
                raise httpx2.ReadError(f"more than {BODY_BYTES_MAX} bytes of answer", request=self._request)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
