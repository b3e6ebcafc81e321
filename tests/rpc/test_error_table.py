"""The error table: every reason of the contract has a row, and every status is packed alike."""

import grpc
import pytest
from google.rpc import (  # type: ignore[import-untyped]  # ships no types
    error_details_pb2,
    status_pb2,
)

from chatd.v1 import error_pb2
from chatd_server.domain import refusal
from chatd_server.domain.chat import Status
from chatd_server.domain.limits import ERROR_DETAILS_BYTES_MAX
from chatd_server.domain.refusal import (
    CursorAhead,
    CursorExpired,
    DatabaseUnavailable,
    InvalidRequest,
    ModelNotFound,
    Refused,
    Unavailable,
    Violation,
)
from chatd_server.rpc.edge import errors
from scripts.errors_page import SOURCE, TARGET, page, values_of

DETAIL_TYPES = {
    "BadRequest",
    "PreconditionFailure",
    "QuotaFailure",
    "RetryInfo",
    "ResourceInfo",
}


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    """Return a class and everything below it."""
    return {kind}.union(*(subclasses(it) for it in kind.__subclasses__()))


def made(kind: type[Exception]) -> Exception:
    """Return one exception of a kind, with long words."""
    long = "ä\u0000 " * 4000
    if issubclass(kind, errors.MessageTooLarge):
        return kind(long)
    if issubclass(kind, InvalidRequest):
        return kind(*(Violation(f"parts[{index}]", long) for index in range(500)))
    if issubclass(kind, refusal.WrongStatus):
        return kind(Status.RUNNING, long)
    if issubclass(kind, CursorExpired | CursorAhead):
        return kind(long, 5, 9)
    return kind(long)


ALL = sorted(
    (
        it
        for it in subclasses(Refused) | subclasses(Unavailable)
        if it not in {Refused, refusal.NotFound, refusal._CursorOutOfRange}
    ),
    key=lambda it: it.__name__,
)


@pytest.mark.parametrize("kind", ALL, ids=lambda it: it.__name__)
def test_every_refusal_has_a_row_and_fits_the_metadata(kind: type[Exception]) -> None:
    """One ErrorInfo, at most one other detail, at most 4 KiB, whatever the words are."""
    failure = errors.failure_of(made(kind))
    assert failure is not None
    assert failure.code is not grpc.StatusCode.INTERNAL
    assert len(failure.details) <= ERROR_DETAILS_BYTES_MAX
    assert len(failure.message.encode()) <= errors.MESSAGE_BYTES_MAX
    status = status_pb2.Status.FromString(failure.details)
    assert (status.code, status.message) == (failure.code.value[0], failure.message)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "chatd"
    assert f"ERROR_REASON_{info.reason}" in error_pb2.ErrorReason.DESCRIPTOR.values_by_name
    others = [it.TypeName().removeprefix("google.rpc.") for it in status.details[1:]]
    assert len(others) <= 1
    assert set(others) <= DETAIL_TYPES


def test_every_reason_of_the_contract_is_raised_or_named_as_not_raised_yet() -> None:
    """A reason that nothing can raise would be a promise that is not kept."""
    raised = {getattr(it, "reason", "") for it in ALL} | {errors.INTERNAL_REASON}
    promised = {
        name.removeprefix("ERROR_REASON_")
        for name, value in error_pb2.ErrorReason.items()
        if value != 0
    }
    assert raised | errors.NEVER_RAISED_YET == promised
    assert not raised & errors.NEVER_RAISED_YET


def test_the_status_of_each_reason_is_the_one_that_the_contract_says() -> None:
    """The comment of a reason begins with its status; the table agrees."""
    promised = {
        name: comment.partition(".")[0]
        for name, comment in values_of(SOURCE.read_text(encoding="utf-8"), "ErrorReason")
    }
    found = {errors.INTERNAL_REASON: "INTERNAL"}
    for kind in ALL:
        failure = errors.failure_of(made(kind))
        assert failure is not None
        found[kind.reason] = failure.code.name  # type: ignore[attr-defined]  # Refused and Unavailable have one
    assert found == {name: promised[name] for name in found}


def test_violations_that_do_not_fit_are_counted() -> None:
    """500 violations: the first ones whole, then how many more there are."""
    refused = InvalidRequest(*(Violation(f"f{it}", "is wrong") for it in range(500)))
    failure = errors.failure_of(refused)
    assert failure is not None
    status = status_pb2.Status.FromString(failure.details)
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    told = len(bad.field_violations) - 1
    assert bad.field_violations[0].field == "f0"
    assert bad.field_violations[-1].description == f"and {500 - told} more violations"
    assert told > 50


def test_retry_info_says_when_to_come_back() -> None:
    """Without a RetryInfo clients would not retry UNAVAILABLE, or all would retry at once."""
    failure = errors.failure_of(DatabaseUnavailable("the disk is full"))
    assert failure is not None
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(failure.details).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1000


def test_an_unknown_model_names_some_that_exist() -> None:
    """The reader need not look for a list."""
    refused = ModelNotFound(Violation("model", "no"), models=("sandbox/echo", "a/b"))
    failure = errors.failure_of(refused)
    assert failure is not None
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(failure.details).details[0].Unpack(info)
    assert info.metadata["models"] == "sandbox/echo, a/b"


def test_a_defect_is_no_refusal() -> None:
    """An exception that is not in the table is INTERNAL, with an id and nothing of the defect."""
    assert errors.failure_of(ZeroDivisionError("secret")) is None
    failure = errors.internal_failure("abc123")
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "abc123" in failure.message


def test_the_page_of_errors_is_fresh() -> None:
    """docs/errors.md says what the contract says today; `make docs` writes it."""
    assert TARGET.read_text(encoding="utf-8") == page()
