package chatd_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	chatdv1 "chatd.example/go/chatd/v1"
)

// served is a server of the test's own: `chatd serve` on a free loopback port, with a home folder of its own.
type served struct {
	chats chatdv1.ChatServiceClient
	key   string
}

// context returns a context that carries a key.
func (s served) context(t *testing.T, key string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+key)
}

// serve starts a server, waits until it says where it listens, and stops it with the test.
func serve(t *testing.T) served {
	t.Helper()
	home := t.TempDir()
	command := exec.Command(python(t), "-m", "chatd_server", "serve", "--port", "0", "--json")
	command.Env = append(os.Environ(), "CHATD_HOME="+home)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	address := announced(t, bufio.NewScanner(output))
	key, err := os.ReadFile(filepath.Join(home, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	channel, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = channel.Close() })
	return served{chatdv1.NewChatServiceClient(channel), strings.TrimSpace(string(key))}
}

// announced returns the address that the server announces on its standard output.
func announced(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	for lines.Scan() {
		var line struct{ Address string }
		if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Address != "" {
			return line.Address
		}
	}
	t.Fatal("the server ended before it served")
	return ""
}

// python returns the interpreter that has the server installed.
func python(t *testing.T) string {
	t.Helper()
	if named := os.Getenv("CHATD_PYTHON"); named != "" {
		return named
	}
	found, err := filepath.Abs("../../.venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	return found
}
