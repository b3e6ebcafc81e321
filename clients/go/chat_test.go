// The generated stubs against a live server: create, subscribe with a cut and a resume, answer a client tool.
package chatd_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	if compacted.GetChat().GetContext().GetUsedTokens() == 0 {
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
