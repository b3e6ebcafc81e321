"""Every limit that a user can meet: its name, its value, its unit and its reason."""

import msgspec

KIB = 1024
MIB = 1024 * KIB


class Limit(msgspec.Struct, frozen=True):
    """One limit, as GetServerInfo and the docs publish it."""

    name: str
    value: int
    unit: str
    reason: str


REQUEST_BYTES_MAX = 3 * MIB
"""Below grpc's own 4 MiB: our error names the limit, grpc's does not."""
REQUEST_VALUES_MAX = 4096
"""Fields and items of one request. The other limits allow at most 2,252; a million take seconds to
decode and to check."""
LIST_ITEMS_MAX = 256
"""Items of a list in a request, where the contract does not set another number."""
RESPONSE_BYTES_MAX = MIB
"""Any event fits a client with default limits, with room for four in a page."""
USER_MESSAGE_BYTES_MAX = 512 * KIB
"""Inline parts of a user's message. More travels as files: a message must fit one event."""
PARTS_MAX = 256
TEXT_SLICE_BYTES_MAX = 256 * KIB
"""Longest text delta. Without a limit slices reached 20 MB, which clients refuse by default."""
TOOL_RESULT_BYTES_MAX = 512 * KIB
"""Longer results are cut with a note, live and committed alike."""
ANSWER_BYTES_MAX = 768 * KIB
"""A model's answer; beyond it the attempt fails with output_too_large."""
ANSWER_PARTS_MAX = 2000
"""Parts of an answer. Each costs microseconds whenever the message is shown: all that fit into
ANSWER_BYTES_MAX would block the event loop for half a second."""
RESULTS_MESSAGE_BYTES_MAX = 768 * KIB
"""Results of one tool message. A batch that gives more is committed as several, so that any
committed message fits one event."""
TOOL_BATCH_BYTES_MAX = 16 * MIB
"""Results of one batch of tools, or of one action. They are committed together and are in memory
until then."""
CALLS_PER_ANSWER_MAX = 256
"""Calls of one answer that are run or handed to the client; calls that the provider executed do not
count. One SubmitToolResults takes this number of results, and a snapshot that shows all of them as
pending is one response."""
CLIENT_RESULT_ROOM_BYTES = TOOL_BATCH_BYTES_MAX // CALLS_PER_ANSWER_MAX
"""Room that a client's result always has, however large the results before it were, so that each
call can be answered. A longer result is cut to what is left of TOOL_BATCH_BYTES_MAX."""
EVENT_PAYLOAD_BYTES_MAX = 16 * KIB
"""Arguments of calls that `action_required` and a snapshot show. What other payloads hold has its
own limits: the largest, a full queue in the widest characters, has 42 KiB."""
SUMMARY_SHOWN_BYTES_MAX = 12 * KIB
"""Summary that `compaction_finished` shows: with a long error it stays below
EVENT_PAYLOAD_BYTES_MAX. The message has all of it."""
ERROR_DETAILS_BYTES_MAX = 4 * KIB
"""Above 8 KiB of metadata peers refuse some responses, and the status is lost."""
QUEUE_LENGTH_MAX = 50
FAMILY_DEPTH_MAX = 1
"""Levels of children below a root chat."""
CLIENT_TOOLS_MAX = 128
CLIENT_TOOLS_BYTES_MAX = 512 * KIB
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
PAGE_BYTES_MAX = 2 * MIB
"""A limit on the number of items does not protect against large messages."""
STEPS_PER_TURN_MAX = 1200
"""The default of Coder's chatd, too."""
PAUSES_IN_A_ROW_MAX = 10
"""Answers in a row that the vendor only paused. Without a limit such a turn would never end."""
ATTEMPTS_MAX = 25
"""Attempts of one step, the first included: with the delays below about 19 minutes of outage."""
RETRY_FIRST_SECONDS = 1.0
RETRY_LAST_SECONDS = 60.0
RESTARTS_MAX = 5
"""How often a vendor may restart one answer; the next restart fails the attempt."""
RESCUES_MAX = 5
"""Rescues in a row without progress; the next one fails the turn with worker_lost."""
SUBSCRIBERS_PER_CHAT_MAX = 2000
STREAMS_PER_OWNER_MAX = 20_000
WATCHERS_PER_OWNER_MAX = 2_000
REQUEST_WAIT_SECONDS_MAX = 20
"""How long a call may wait for its request. A client library sends both at once: this is the time
that a slow network takes for one request of REQUEST_BYTES_MAX."""
WAITING_CALLS_PER_CONNECTION_MAX = 1_000
"""Calls of one connection whose request has not come: the caller is not known yet."""
WAITING_CALLS_MAX = 5_000
"""The same for all connections: about 70 MB, 13 KB each."""
WATCHES_PER_CONNECTION_MAX = 100
"""Health watches need no key. A client library opens one for each connection and service; a proxy
sends the watches of many clients over one connection."""
WATCHES_MAX = 2_000
"""Health watches of one server: about 25 MB, 13 KB each."""
TOOL_CANCEL_SECONDS_MAX = 5
"""A tool that ignores its cancellation is abandoned after this time (outcome unknown)."""
FORK_BYTES_MAX = 32 * MIB
"""Messages of one fork: they are in memory, and written in one commit, for which others wait."""
FORK_MESSAGES_MAX = 10_000
"""The same for many small ones: each takes a row, an event and about 50 us."""
REQUEST_ID_HOURS = 24
COMPACTIONS_PER_TURN_MAX = 3
"""Compactions of one turn, failed ones included."""
ACTION_TIMEOUT_SECONDS = 300.0
"""Default of `action_timeout`: how long a chat waits for the results of its client."""

PUBLISHED = (
    Limit("request_bytes", REQUEST_BYTES_MAX, "bytes", "one request, below grpc's own limit"),
    Limit("request_values", REQUEST_VALUES_MAX, "values", "fields and items of one request"),
    Limit("list_items", LIST_ITEMS_MAX, "items", "a list of a request, if no other limit is less"),
    Limit("response_bytes", RESPONSE_BYTES_MAX, "bytes", "one response of a stream"),
    Limit("user_message_bytes", USER_MESSAGE_BYTES_MAX, "bytes", "inline parts of one message"),
    Limit("parts_per_message", PARTS_MAX, "parts", "parts of one message"),
    Limit("answer_bytes", ANSWER_BYTES_MAX, "bytes", "one answer of a model"),
    Limit("parts_per_answer", ANSWER_PARTS_MAX, "parts", "one answer of a model"),
    Limit("tool_result_bytes", TOOL_RESULT_BYTES_MAX, "bytes", "one result; longer ones are cut"),
    Limit("tool_batch_bytes", TOOL_BATCH_BYTES_MAX, "bytes", "all results of one step"),
    Limit("client_result_room_bytes", CLIENT_RESULT_ROOM_BYTES, "bytes", "never cut of a result"),
    Limit("calls_per_answer", CALLS_PER_ANSWER_MAX, "calls", "calls of one answer that are run"),
    Limit("queue_length", QUEUE_LENGTH_MAX, "messages", "queued messages of one chat"),
    Limit("client_tools", CLIENT_TOOLS_MAX, "tools", "client tools of one chat"),
    Limit("client_tools_bytes", CLIENT_TOOLS_BYTES_MAX, "bytes", "names, descriptions, schemas"),
    Limit("page_size", PAGE_SIZE_MAX, "items", "one page of a list"),
    Limit("page_bytes", PAGE_BYTES_MAX, "bytes", "one page of a list"),
    Limit("steps_per_turn", STEPS_PER_TURN_MAX, "steps", "default of TurnOptions.max_steps"),
    Limit(
        "compactions_per_turn",
        COMPACTIONS_PER_TURN_MAX,
        "calls",
        "summaries that one turn asks for by itself, failed ones included",
    ),
    Limit("attempts", ATTEMPTS_MAX, "calls", "calls of one step before the turn fails"),
    Limit("subscribers_per_chat", SUBSCRIBERS_PER_CHAT_MAX, "streams", "open streams of one chat"),
    Limit("streams_per_owner", STREAMS_PER_OWNER_MAX, "streams", "open streams of one owner"),
    Limit("watches_per_owner", WATCHERS_PER_OWNER_MAX, "streams", "open WatchChats of one owner"),
    Limit(
        "request_wait_seconds",
        REQUEST_WAIT_SECONDS_MAX,
        "seconds",
        "from the start of a call to its request",
    ),
    Limit(
        "waiting_calls_per_connection",
        WAITING_CALLS_PER_CONNECTION_MAX,
        "calls",
        "calls of one connection whose request has not come",
    ),
    Limit(
        "waiting_calls",
        WAITING_CALLS_MAX,
        "calls",
        "calls of one server whose request has not come",
    ),
    Limit(
        "watches_per_connection",
        WATCHES_PER_CONNECTION_MAX,
        "streams",
        "health watches of one connection, which need no key",
    ),
    Limit("watches", WATCHES_MAX, "streams", "health watches of one server"),
    Limit("family_depth", FAMILY_DEPTH_MAX, "levels", "children below a root chat"),
    Limit("fork_bytes", FORK_BYTES_MAX, "bytes", "history that one fork copies"),
    Limit("fork_messages", FORK_MESSAGES_MAX, "messages", "history that one fork copies"),
    Limit("request_id_hours", REQUEST_ID_HOURS, "hours", "how long a response is kept"),
)
