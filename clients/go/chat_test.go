// The generated stubs against a live server: create, subscribe with a cut and a resume, answer a client tool.
package chatd_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	chatdv1 "chatd.example/go/chatd/v1"
)

const model = "sandbox/echo"

func say(text string) *chatdv1.UserMessage {
	part := &chatdv1.UserPart{Kind: &chatdv1.UserPart_Text{Text: &chatdv1.UserText{Text: text}}}
	return &chatdv1.UserMessage{Parts: []*chatdv1.UserPart{part}}
}

// follow reads a stream to its end, or until see says that it is enough: then the stream is cut.
func follow(
	t *testing.T, s served, request *chatdv1.SubscribeRequest, see func(*chatdv1.SubscribeResponse) bool,
) {
	t.Helper()
	ctx, cut := context.WithCancel(s.context(t, s.key))
	defer cut()
	stream, err := s.chats.Subscribe(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if see(response) {
			return
		}
	}
}

func TestStreamThatIsCutResumesWithoutAGapOrADuplicate(t *testing.T) {
	s := serve(t)
	ctx := s.context(t, s.key)
	created, err := s.chats.CreateChat(ctx, &chatdv1.CreateChatRequest{Model: model, Message: say("!text 40 80/s")})
	if err != nil {
		t.Fatal(err)
	}
	request := &chatdv1.SubscribeRequest{
		ChatId: created.GetChat().GetChatId(),
		Until:  chatdv1.SubscribeUntil_SUBSCRIBE_UNTIL_SETTLED,
	}
	shown, pieces := "", 0
	see := func(response *chatdv1.SubscribeResponse) bool {
		request.ResumeFrom = response.GetCursor()
		part := response.GetEvent().GetMessagePart()
		if part == nil {
			return false
		}
		shown += part.GetText()
		pieces++
		return pieces == 8
	}
	follow(t, s, request, see)
	if pieces != 8 {
		t.Fatalf("cut after %d pieces, not after 8", pieces)
	}
	follow(t, s, request, see)

	if text := lastText(t, s, request.GetChatId()); shown != text {
		t.Fatalf("the stream showed %q, committed was %q", shown, text)
	}
	if pieces < 10 {
		t.Fatalf("only %d pieces", pieces)
	}
}

func TestClientToolIsAskedForAnsweredAndTheTurnGoesOn(t *testing.T) {
	s := serve(t)
	ctx := s.context(t, s.key)
	created, err := s.chats.CreateChat(ctx, &chatdv1.CreateChatRequest{
		Model:   model,
		Tools:   []*chatdv1.ToolDefinition{{Name: "add", InputSchemaJson: `{"type":"object"}`}},
		Message: say("!call add {\"a\": 2, \"b\": 3}\n!step\n!say Thank you."),
	})
	if err != nil {
		t.Fatal(err)
	}
	request := &chatdv1.SubscribeRequest{
		ChatId: created.GetChat().GetChatId(),
		Until:  chatdv1.SubscribeUntil_SUBSCRIBE_UNTIL_ACTION_OR_SETTLED,
	}
	var pending *chatdv1.PendingAction
	follow(t, s, request, func(response *chatdv1.SubscribeResponse) bool {
		request.ResumeFrom = response.GetCursor()
		if action := response.GetEvent().GetActionRequired().GetAction(); action != nil {
			pending = action
		}
		if action := response.GetEvent().GetSnapshot().GetPendingAction(); action != nil {
			pending = action
		}
		return false
	})
	if len(pending.GetToolCalls()) != 1 {
		t.Fatalf("one call was to be answered, not %v", pending)
	}
	_, err = s.chats.SubmitToolResults(ctx, &chatdv1.SubmitToolResultsRequest{
		ChatId: request.GetChatId(),
		Results: []*chatdv1.ToolResultInput{{
			ToolCallId: pending.GetToolCalls()[0].GetToolCallId(),
			Output:     &chatdv1.ToolResultInput_OutputJson{OutputJson: "5"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request.Until = chatdv1.SubscribeUntil_SUBSCRIBE_UNTIL_SETTLED
	follow(t, s, request, func(*chatdv1.SubscribeResponse) bool { return false })
	if text := lastText(t, s, request.GetChatId()); text != "Thank you." {
		t.Fatalf("the turn ended with %q", text)
	}
}

func TestContextIsCompactedOnRequestAndPeopleSeeNoSummary(t *testing.T) {
	s := serve(t)
	ctx := s.context(t, s.key)
	created, err := s.chats.CreateChat(ctx, &chatdv1.CreateChatRequest{Model: model, Message: say("!say Hello.")})
	if err != nil {
		t.Fatal(err)
	}
	request := &chatdv1.SubscribeRequest{
		ChatId: created.GetChat().GetChatId(),
		Until:  chatdv1.SubscribeUntil_SUBSCRIBE_UNTIL_SETTLED,
	}
	outcome := chatdv1.CompactionOutcome_COMPACTION_OUTCOME_UNSPECIFIED
	see := func(response *chatdv1.SubscribeResponse) bool {
		request.ResumeFrom = response.GetCursor()
		if finished := response.GetEvent().GetCompactionFinished(); finished != nil {
			outcome = finished.GetOutcome()
		}
		return false
	}
	follow(t, s, request, see)
	compacted, err := s.chats.CompactChat(ctx, &chatdv1.CompactChatRequest{ChatId: request.GetChatId()})
	if err != nil {
		t.Fatal(err)
	}
	if compacted.GetContext().GetUsedTokens() == 0 {
		t.Fatal("the chat does not say how full its context is")
	}
	follow(t, s, request, see)
	if outcome != chatdv1.CompactionOutcome_COMPACTION_OUTCOME_DONE {
		t.Fatalf("the compaction ended with %v", outcome)
	}
	page, err := s.chats.ListMessages(
		ctx, &chatdv1.ListMessagesRequest{ChatId: request.GetChatId(), OmitModelMessages: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	if len(page.GetMessages()) != 2 {
		t.Fatalf("people see %d messages, not 2", len(page.GetMessages()))
	}
	titled, err := s.chats.RegenerateTitle(
		ctx, &chatdv1.RegenerateTitleRequest{ChatId: request.GetChatId()},
	)
	if err != nil {
		t.Fatal(err)
	}
	if titled.GetChat().GetTitle() == "" {
		t.Fatal("the chat has no title")
	}
}

func TestQueueEditRetryForkAndFieldsAreOneCallEach(t *testing.T) {
	s := serve(t)
	ctx := s.context(t, s.key)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	created, err := s.chats.CreateChat(ctx, &chatdv1.CreateChatRequest{
		Model:   model,
		Tools:   []*chatdv1.ToolDefinition{{Name: "look", InputSchemaJson: `{"type":"object"}`}},
		Message: say("!call look {}"),
	})
	must(err)
	chatID := created.GetChat().GetChatId()
	settle := func() {
		until := chatdv1.SubscribeUntil_SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
		request := &chatdv1.SubscribeRequest{ChatId: chatID, Until: until}
		follow(t, s, request, func(*chatdv1.SubscribeResponse) bool { return false })
	}
	settle()
	for _, text := range []string{"!say a", "!say b", "!say c"} {
		_, err = s.chats.SendMessage(ctx, &chatdv1.SendMessageRequest{ChatId: chatID, Message: say(text)})
		must(err)
	}
	queue := func() []string {
		t.Helper()
		page, err := s.chats.ListQueuedMessages(ctx, &chatdv1.ListQueuedMessagesRequest{ChatId: chatID})
		must(err)
		ids := []string{}
		for _, message := range page.GetQueuedMessages() {
			ids = append(ids, message.GetMessageId())
		}
		return ids
	}
	ids := queue()
	order := []string{ids[2], ids[0], ids[1]}
	_, err = s.chats.ReorderQueuedMessages(ctx, &chatdv1.ReorderQueuedMessagesRequest{ChatId: chatID, MessageIds: order})
	must(err)
	_, err = s.chats.DeleteQueuedMessage(ctx, &chatdv1.DeleteQueuedMessageRequest{ChatId: chatID, MessageId: ids[0]})
	must(err)
	if left := queue(); !slices.Equal(left, []string{ids[2], ids[1]}) {
		t.Fatalf("the queue is %v", left)
	}
	_, err = s.chats.PromoteQueuedMessage(ctx, &chatdv1.PromoteQueuedMessageRequest{ChatId: chatID, MessageId: ids[1]})
	must(err)
	settle()

	edited, err := s.chats.EditMessage(ctx, &chatdv1.EditMessageRequest{
		ChatId: chatID, MessageId: ids[1], Message: say("!error auth"),
	})
	must(err)
	if edited.GetMessage().GetMessageId() == ids[1] {
		t.Fatal("the new message has the id of the old one")
	}
	settle()
	tried, err := s.chats.RetryTurn(ctx, &chatdv1.RetryTurnRequest{ChatId: chatID})
	must(err)
	if tried.GetChat().GetLastError() != nil {
		t.Fatal("the error is still there")
	}
	settle()

	forked, err := s.chats.ForkChat(ctx, &chatdv1.ForkChatRequest{
		ChatId: chatID, MessageId: edited.GetMessage().GetMessageId(), Title: proto.String("fork"),
	})
	must(err)
	if from := forked.GetChat().GetForkedFrom().GetChatId(); from != chatID {
		t.Fatalf("the fork is one of %q", from)
	}
	fork := forked.GetChat().GetChatId()
	named, err := s.chats.UpdateChat(ctx, &chatdv1.UpdateChatRequest{
		ChatId:     fork,
		Chat:       &chatdv1.Chat{Title: "new"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"title"}},
	})
	must(err)
	if title := named.GetChat().GetTitle(); title != "new" {
		t.Fatalf("the title is %q", title)
	}
	archived, err := s.chats.ArchiveChat(ctx, &chatdv1.ArchiveChatRequest{ChatId: fork})
	must(err)
	restored, err := s.chats.UnarchiveChat(ctx, &chatdv1.UnarchiveChatRequest{ChatId: fork})
	must(err)
	if !archived.GetChat().GetArchived() || restored.GetChat().GetArchived() {
		t.Fatal("the chat was not archived and restored")
	}
	_, err = s.chats.DeleteChat(ctx, &chatdv1.DeleteChatRequest{ChatId: fork})
	must(err)
	_, err = s.chats.GetChat(ctx, &chatdv1.GetChatRequest{ChatId: fork})
	if status.Code(err) != codes.NotFound {
		t.Fatalf("a deleted chat got %v", err)
	}
}

func TestWrongKeyIsRefused(t *testing.T) {
	s := serve(t)
	_, err := s.chats.ListChats(s.context(t, "chatd_wrong"), &chatdv1.ListChatsRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Fatalf("a wrong key got %v", err)
	}
}

// lastText returns the text of the newest answer, as ListMessages has it.
func lastText(t *testing.T, s served, chatID string) string {
	t.Helper()
	page, err := s.chats.ListMessages(s.context(t, s.key), &chatdv1.ListMessagesRequest{ChatId: chatID})
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, message := range page.GetMessages() {
		if message.GetRole() != chatdv1.Role_ROLE_ASSISTANT {
			continue
		}
		text = ""
		for _, part := range message.GetParts() {
			text += part.GetText().GetText()
		}
	}
	return text
}
