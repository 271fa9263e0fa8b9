"""A request's body: read within its limit, parsed, and refused in one line where it is not what it should be."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

ONE, MANY = '{"text": "…"}', '{"texts": ["…", "…"]}'
"""What the routes expect, for their errors."""

_LINGER_SECONDS = 2.0


async def read_json(request: Request, limit: int, expected: str) -> Any:
    """The body, of at most `limit` bytes. Raises `HTTPException` where it is no JSON; `expected` is for its message.

    Unlike pydantic's parser and orjson, Python's own reads the lone surrogates that cut texts may have.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "send JSON with the header Content-Type: application/json")
    body = await _read_body(request, limit)
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON in UTF-8 ({error}); send {expected}") from None


async def _read_body(request: Request, limit: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    body = bytearray()
    try:
        if int(announced) <= limit:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    break
            else:
                return bytes(body)
        if "expect" not in request.headers:
            # A client that is still sending would not see the answer: the connection would be reset under it.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    async for _ in request.stream():
                        pass
    except ClientDisconnect:
        raise HTTPException(400, "the body did not arrive whole") from None
    detail = f"the body is larger than {limit} bytes; send fewer texts at a time"
    raise HTTPException(413, detail, {"Connection": "close"})


def one_text(value: Any) -> str:
    """The text of a body. Raises `HTTPException` where there is none."""
    if not isinstance(value, dict) or "text" not in value:
        raise HTTPException(422, f"expected a JSON object with text: {ONE}")
    text = value["text"]
    if not isinstance(text, str):
        raise HTTPException(422, "text is not a string")
    return text


def many_texts(value: Any) -> Sequence[str]:
    """The texts of a body. Raises `HTTPException` naming the first that is none."""
    if not isinstance(value, dict) or "texts" not in value:
        raise HTTPException(422, f"expected a JSON object with texts: {MANY}")
    texts = value["texts"]
    if not isinstance(texts, list):
        raise HTTPException(422, "texts is not a list")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise HTTPException(422, f"texts[{place}] is not a string")
    return texts
