"""One tree of errors. Every error says what to do next by its verdict, so no caller inspects types.

HeadraceError
  UsageError            a word, template, type or model that cannot work         status 2
    MissingKey          no API key in the environment
    MissingExtra        an optional package is not installed
  InputError            a source that is not there or cannot be read             status 2
  OutputError           a result file or report that cannot be written           status 2
  StoreError            the store cannot be opened or written                    status 2
    RunIsLive           another process is on this run
  CallError             one call to a model or function failed
    Transient           5xx, reset, broken or cut body                           retry
      AttemptTimeout    no answer within the attempt's time                      retry
    Unreachable         nothing answers at the address                           back off
    Throttled           429: slow down                                           back off
    Overloaded          503, 529: the provider is overloaded                     back off
    Unsupported         a way to tell the answer's type that this model lacks    retry, in another way
    Rejected            400 and its kin: this request will never do              fail the item
      ContextTooLong    the prompt is larger than the model's context            fail the item
      Filtered          a content filter stopped the prompt or the answer        fail the item
      LargerThanLimit   alone more than a limit allows in its whole window       fail the item
    Credentials         401, 403                                                 stop the run
    Untrusted           a certificate that nobody here trusts                    stop the run
    ModelNotFound       404                                                      stop the run
    QuotaExhausted      credit or quota is gone                                  stop the run
    BudgetSpent         the user's own budget has no room for another call       stop the run
    SystemicFailure     nothing but failures, or more than the user allows       stop the run
  ItemError             this item cannot become a request                        fail the item
    RepeatedKey         an earlier item had the same key                         fail the item
  AnswerError           the reply is not the value that was asked for            fail the item
    Truncated           cut off at the maximum output
    Refusal             the model declined
  FunctionError         a user's function raised                                 fail the item
    WorkerDied          the process that worked on it died                       fail the item
  PageError             a page that could not be fetched                         fail the item, or retry
  DocumentError         a document that could not be read                        fail the item
  Stopped               the run stops before this call began                     leave the item pending
"""

from enum import Enum
from typing import ClassVar

from headrace.core.call import Reply
from headrace.core.limits import End, Hints

INTERNAL = "internal"
"""The kind of what nobody raised on purpose: a fault of headrace's own."""


class Verdict(Enum):
    """What is done about an error."""

    RETRY = "retry"
    """Try again a few times: the fault may be this call's alone."""
    BACK_OFF = "back off"
    """Wait for the endpoint, then try again: not the item's fault, so not counted against it."""
    FAIL_ITEM = "fail the item"
    STOP_RUN = "stop the run"
    LEAVE_PENDING = "leave pending"


class HeadraceError(Exception):
    """Anything headrace raises on purpose: `message` says what and where, `hint` what to do, `kind` where the page of
    errors explains it."""

    kind: ClassVar[str] = "error"
    verdict: ClassVar[Verdict] = Verdict.STOP_RUN
    exit_status: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.attempts = 0
        """Calls sent before it was raised."""
        self.reply: Reply | None = None
        """What came and was paid for, where it was not what was asked for."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class UsageError(HeadraceError):
    kind = "usage"


class MissingKey(UsageError):
    kind = "missing-key"


class MissingExtra(UsageError):
    kind = "missing-extra"


class InputError(HeadraceError):
    kind = "input"


class OutputError(HeadraceError):
    kind = "output"


class StoreError(HeadraceError):
    kind = "store"


class RunIsLive(StoreError):
    kind = "run-is-live"


class CallError(HeadraceError):
    """A call failed. `status` is the HTTP status, `hints` what the answer said about limits."""

    kind = "call"
    end: ClassVar[End] = End.IGNORED
    """What it tells flow control."""
    verdict = Verdict.FAIL_ITEM
    exit_status = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        hints: Hints | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.hints = hints or (None if retry_after_s is None else Hints(retry_after_s=retry_after_s))

    @property
    def retry_after_s(self) -> float | None:
        return self.hints.retry_after_s if self.hints is not None else None


class Transient(CallError):
    kind = "transient"
    verdict = Verdict.RETRY
    end = End.FAILED


class AttemptTimeout(Transient):
    kind = "timeout"


class Unsupported(CallError):
    """The next attempt tells the answer's type in another way."""

    kind = "unsupported"
    verdict = Verdict.RETRY


class Unreachable(CallError):
    kind = "unreachable"
    verdict = Verdict.BACK_OFF
    end = End.FAILED


class Throttled(CallError):
    kind = "throttled"
    verdict = Verdict.BACK_OFF
    end = End.THROTTLED


class Overloaded(CallError):
    kind = "overloaded"
    verdict = Verdict.BACK_OFF
    end = End.OVERLOADED


class Rejected(CallError):
    kind = "rejected"


class ContextTooLong(Rejected):
    kind = "context-too-long"


class Filtered(Rejected):
    kind = "filtered"


class LargerThanLimit(Rejected):
    kind = "larger-than-limit"


class Credentials(CallError):
    kind = "credentials"
    verdict = Verdict.STOP_RUN


class Untrusted(CallError):
    kind = "untrusted"
    verdict = Verdict.STOP_RUN


class ModelNotFound(CallError):
    kind = "model-not-found"
    verdict = Verdict.STOP_RUN


class QuotaExhausted(CallError):
    kind = "quota-exhausted"
    verdict = Verdict.STOP_RUN


class BudgetSpent(CallError):
    kind = "budget-spent"
    verdict = Verdict.STOP_RUN


class SystemicFailure(CallError):
    kind = "systemic-failure"
    verdict = Verdict.STOP_RUN


class ItemError(HeadraceError):
    kind = "item"
    verdict = Verdict.FAIL_ITEM


class RepeatedKey(ItemError):
    kind = "repeated-key"


class AnswerError(HeadraceError):
    """The reply is no value of the type asked for; `raw` is the text that came."""

    kind = "answer"
    verdict = Verdict.FAIL_ITEM

    def __init__(self, message: str, *, hint: str = "", raw: str = "") -> None:
        super().__init__(message, hint=hint)
        self.raw = raw


class Truncated(AnswerError):
    kind = "truncated"


class Refusal(AnswerError):
    kind = "refusal"


class FunctionError(HeadraceError):
    kind = "function"
    verdict = Verdict.FAIL_ITEM


class WorkerDied(FunctionError):
    kind = "worker-died"


class PageError(CallError):
    """A page could not be fetched. It tells flow control nothing: the next page is another server's."""

    kind = "page"


class DocumentError(HeadraceError):
    kind = "document"
    verdict = Verdict.FAIL_ITEM


class Stopped(HeadraceError):
    kind = "stopped"
    verdict = Verdict.LEAVE_PENDING


def spoken(seconds: float) -> str:
    """A wait in words, as sentences and hints name it."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
