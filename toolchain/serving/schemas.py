"""The shapes of requests and answers, as OpenAPI shows them."""

from typing import Any

from pydantic import BaseModel, Field


class OneText(BaseModel):
    """A text."""

    text: str


class ManyTexts(BaseModel):
    """Texts."""

    texts: list[str]


class Answer(BaseModel):
    """`confidence` is the label's own probability; `unknown` of the `tokens` are not in the vocabulary."""

    label: str
    confidence: float
    probabilities: dict[str, float]
    tokens: int
    unknown: int


class Answers(BaseModel):
    """One answer a text, in order."""

    answers: list[Answer]


class Word(BaseModel):
    """A token as the model reads it, and what it adds to the label's log-odds: above 0 for the label, below against."""

    word: str
    share: float


class Piece(BaseModel):
    """A run of the text with the share of the token it is; null for what the model does not read."""

    text: str
    share: float | None


class Explained(Answer):
    """`start`, the log-odds before the first token, and all shares together are the log-odds of `confidence`."""

    text: str
    start: float
    words: list[Word]
    pieces: list[Piece]


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class Readiness(BaseModel):
    """Requests are welcome. `waiting` texts have no answer yet; `bundle` is the SHA-256 of the bundle's manifest."""

    status: str = Field(examples=["ready"])
    waiting: int
    bundle: str


class Error(BaseModel):
    """Every error: one line that says what is wrong."""

    detail: str


RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body is not JSON in UTF-8, or it did not arrive whole."},
    413: {"model": Error, "description": "The body is too large."},
    415: {"model": Error, "description": "The Content-Type is not application/json."},
    422: {"model": Error, "description": "Not the JSON described here, a blank text, or more than the limits."},
    500: {"model": Error, "description": "The service failed; its log says why."},
    503: {"model": Error, "description": "Too many texts wait.", "headers": RETRY_AFTER},
}
NO_EXPLANATIONS: dict[int | str, dict[str, Any]] = {
    404: {"model": Error, "description": "The bundle that is served has no form that explains."}
}
