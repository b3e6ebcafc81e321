// The generated stubs against a live server: create, subscribe with a cut and a resume, answer a client tool.

import { deepStrictEqual, notStrictEqual, ok, strictEqual } from "node:assert/strict";
import { after, before, test } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { CursorSchema, type Cursor } from "@chatd/contract/chatd/v1/chat_pb.js";
import { ChatService, SubscribeUntil } from "@chatd/contract/chatd/v1/chat_service_pb.js";
import { CompactionOutcome, type ChatEvent } from "@chatd/contract/chatd/v1/event_pb.js";
import { Role, ToolExecutor, UserMessageSchema } from "@chatd/contract/chatd/v1/message_pb.js";

import { startServer, type Server } from "./server.js";

type Chats = Client<typeof ChatService>;

let server: Server;
let chats: Chats;

before(async () => {
  server = await startServer();
  chats = client(server.key);
});

after(async () => {
  await server.stop();
});

function client(key: string): Chats {
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
  return createClient(ChatService, createGrpcTransport({ baseUrl: server.baseUrl, interceptors: [authorize] }));
}

function say(text: string): MessageInitShape<typeof UserMessageSchema> {
  return { parts: [{ kind: { case: "text", value: { text } } }] };
}

/** Follow a chat until it has settled; `see` may throw to cut the stream. */
async function follow(
  chatId: string,
  resumeFrom: Cursor | undefined,
  until: SubscribeUntil,
  see: (event: ChatEvent, cursor: Cursor) => void,
): Promise<void> {
  const cut = new AbortController();
  const request = { chatId, until, ...(resumeFrom === undefined ? {} : { resumeFrom }) };
  try {
    for await (const response of chats.subscribe(request, { signal: cut.signal })) {
      if (response.event !== undefined && response.cursor !== undefined) see(response.event, response.cursor);
    }
  } finally {
    cut.abort();
  }
}

class Cut extends Error {}

test("a stream that is cut in the middle of the text resumes without a gap or a duplicate", async () => {
  const created = await chats.createChat({ model: "sandbox/echo", message: say("!text 40 80/s") });
  const chatId = created.chat?.chatId ?? "";
  let shown = "";
  let pieces = 0;
  let last: Cursor | undefined;
  const see = (event: ChatEvent, cursor: Cursor) => {
    last = cursor;
    if (event.event.case !== "messagePart") return;
    pieces += 1;
    if (event.event.value.piece.case === "text") shown += event.event.value.piece.value;
    if (pieces === 8) throw new Cut();
  };
  await follow(chatId, undefined, SubscribeUntil.SETTLED, see).catch((error: unknown) => {
    if (!(error instanceof Cut)) throw error;
  });
  strictEqual(pieces, 8);
  await follow(chatId, last, SubscribeUntil.SETTLED, see);

  const { messages } = await chats.listMessages({ chatId });
  const answer = messages.find((message) => message.role === Role.ASSISTANT);
  const text = answer?.parts.map((part) => (part.kind.case === "text" ? part.kind.value.text : "")).join("");
  ok(pieces > 9, `only ${pieces} pieces`);
  strictEqual(shown, text);
});

test("a client tool is asked for, answered, and the turn goes on", async () => {
  const created = await chats.createChat({
    model: "sandbox/echo",
    tools: [{ name: "add", description: "Add two numbers.", inputSchemaJson: '{"type":"object"}' }],
    message: say('!call add {"a": 2, "b": 3}\n!step\n!say Thank you.'),
  });
  const chatId = created.chat?.chatId ?? "";
  let callId = "";
  let last: Cursor | undefined;
  await follow(chatId, undefined, SubscribeUntil.ACTION_OR_SETTLED, (event, cursor) => {
    last = cursor;
    if (event.event.case === "actionRequired") {
      callId = event.event.value.action?.toolCalls[0]?.toolCallId ?? "";
    } else if (event.event.case === "snapshot") {
      callId = event.event.value.pendingAction?.toolCalls[0]?.toolCallId ?? "";
    }
  });
  ok(callId !== "", "no action was required");
  await chats.submitToolResults({
    chatId,
    results: [{ toolCallId: callId, output: { case: "outputJson", value: "5" } }],
  });
  await follow(chatId, last, SubscribeUntil.SETTLED, () => undefined);

  const { messages } = await chats.listMessages({ chatId });
  const results = messages.flatMap((message) => message.parts.map((part) => part.kind));
  const result = results.find((kind) => kind.case === "toolResult");
  ok(result?.case === "toolResult");
  strictEqual(result.value.executor, ToolExecutor.CLIENT);
  strictEqual(result.value.output.value, "5");
  const spoken = results.findLast((kind) => kind.case === "text");
  strictEqual(spoken?.case === "text" ? spoken.value.text : "", "Thank you.");
});

test("a context is compacted on request, and people see no summary", async () => {
  const created = await chats.createChat({ model: "sandbox/echo", message: say("!say Hello.") });
  const chatId = created.chat?.chatId ?? "";
  await follow(chatId, undefined, SubscribeUntil.SETTLED, () => undefined);
  const compacted = await chats.compactChat({ chatId });
  ok((compacted.context?.usedTokens ?? 0n) > 0n);
  let outcome = CompactionOutcome.UNSPECIFIED;
  const before = create(CursorSchema, { sequence: compacted.sequence - 1n });
  await follow(chatId, before, SubscribeUntil.SETTLED, (event) => {
    if (event.event.case === "compactionFinished") outcome = event.event.value.outcome;
  });
  strictEqual(outcome, CompactionOutcome.DONE);
  const { messages } = await chats.listMessages({ chatId, omitModelMessages: true });
  strictEqual(messages.length, 2);
  strictEqual((await chats.regenerateTitle({ chatId })).chat?.title, "About !say Hello.");
});

test("queue, edit, retry, fork and the fields of a chat are one call each", async () => {
  const tool = { name: "look", inputSchemaJson: '{"type":"object"}' };
  const created = await chats.createChat({ model: "sandbox/echo", tools: [tool], message: say("!call look {}") });
  const chatId = created.chat?.chatId ?? "";
  const settled = () => follow(chatId, undefined, SubscribeUntil.ACTION_OR_SETTLED, () => undefined);
  await settled();
  for (const text of ["!say a", "!say b", "!say c"]) await chats.sendMessage({ chatId, message: say(text) });
  const ids = async () => (await chats.listQueuedMessages({ chatId })).queuedMessages.map((it) => it.messageId);
  const [a = "", b = "", c = ""] = await ids();
  await chats.reorderQueuedMessages({ chatId, messageIds: [c, a, b] });
  await chats.deleteQueuedMessage({ chatId, messageId: a });
  deepStrictEqual(await ids(), [c, b]);
  await chats.promoteQueuedMessage({ chatId, messageId: b });
  await settled();
  const { messages } = await chats.listMessages({ chatId });
  const users = messages.filter((message) => message.role === Role.USER).map((message) => message.messageId);
  deepStrictEqual(users.slice(1), [b, c]);

  const edited = await chats.editMessage({ chatId, messageId: b, message: say("!error auth") });
  notStrictEqual(edited.message?.messageId, b);
  await settled();
  const tried = await chats.retryTurn({ chatId });
  strictEqual(tried.chat?.lastError, undefined);
  await settled();

  const forked = await chats.forkChat({ chatId, messageId: users[0] ?? "", title: "fork" });
  deepStrictEqual(forked.chat?.forkedFrom?.chatId, chatId);
  const fork = { chatId: forked.chat?.chatId ?? "" };
  const named = await chats.updateChat({ ...fork, chat: { title: "new" }, updateMask: { paths: ["title"] } });
  strictEqual(named.chat?.title, "new");
  ok((await chats.archiveChat(fork)).chat?.archived);
  strictEqual((await chats.unarchiveChat(fork)).chat?.archived, false);
  const child = await chats.createChat({ parentChatId: fork.chatId, parentToolCallId: "call" });
  deepStrictEqual((await chats.listChats({ parentChatId: fork.chatId })).chats.map((it) => it.chatId), [child.chat?.chatId]);
  strictEqual((await chats.deleteChat(fork)).chatCount, 2);
  const gone = await chats.getChat(fork).then(() => undefined, (refused: unknown) => ConnectError.from(refused));
  strictEqual(gone?.code, Code.NotFound);
});

test("a wrong key is refused", async () => {
  const error = await client("chatd_wrong")
    .getChat({ chatId: "01890000-0000-7000-8000-000000000000" })
    .then(() => undefined, (refused: unknown) => ConnectError.from(refused));
  strictEqual(error?.code, Code.Unauthenticated);
});
