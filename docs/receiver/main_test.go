package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailsyncd/webhook"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// The manual's examples are posted to the real program, in the manual's order,
// by the poster that mailsyncd uses.
func TestTheManualsExamplesThroughTheProgram(t *testing.T) {
	url := startProgram(t)
	for i, body := range examples(t) {
		post(t, url, fmt.Sprintf("evt_%d", i), body)
		post(t, url, fmt.Sprintf("evt_%d", i), body) // a repeat is harmless
	}
	for ref, want := range map[string]int{"cand_123": 1, "cand_200": 1, "cand_77": 0, "nobody": 0} {
		if got := show(t, url, ref); len(got) != want {
			t.Errorf("%s has %d messages, want %d", ref, len(got), want)
		}
	}
	if m := show(t, url, "cand_123")[0]; m.Thread != "thr_k7q2m4" || len(m.Candidates) != 2 {
		t.Errorf("the message stands in %s under %d candidates, want the surviving thread and both", m.Thread, len(m.Candidates))
	}
}

func TestAPurgedCandidateIsTakenOffSharedMessages(t *testing.T) {
	url := startProgram(t)
	post(t, url, "evt_1", matched("thr_a", "msg_1", "nora", "tom"))
	post(t, url, "evt_2", matched("thr_a", "msg_2", "nora"))
	post(t, url, "evt_3", `{"type":"candidate.purged","data":{"candidate":"nora"}}`)
	post(t, url, "evt_2", matched("thr_a", "msg_2", "nora")) // a repeat must not bring her back
	if got := show(t, url, "nora"); len(got) != 0 {
		t.Errorf("the purged candidate still has %d messages", len(got))
	}
	if got := show(t, url, "tom"); len(got) != 1 || len(got[0].Candidates) != 1 {
		t.Errorf("the other candidate has %+v, want the shared message", got)
	}
}

func TestALateEventUnderAMergedThreadBelongsToTheSurvivor(t *testing.T) {
	url := startProgram(t)
	post(t, url, "evt_1", `{"type":"thread.merged","data":{"from":"thr_b","into":"thr_a","messages":[]}}`)
	post(t, url, "evt_2", `{"type":"thread.merged","data":{"from":"thr_c","into":"thr_b","messages":[]}}`)
	post(t, url, "evt_3", matched("thr_c", "msg_1", "nora"))
	if got := show(t, url, "nora"); len(got) != 1 || got[0].Thread != "thr_a" {
		t.Errorf("the candidate has %+v, want one message in thr_a", got)
	}
}

func TestOnlyWhatMailsyncdSignedIsAccepted(t *testing.T) {
	url := startProgram(t)
	body := matched("thr_a", "msg_1", "nora")
	good, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	other, err := standardwebhooks.NewWebhook("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what string
		by   *standardwebhooks.Webhook
		at   time.Time
		sent string
		want int
	}{
		{"a changed body", good, time.Now(), body + " ", http.StatusUnauthorized},
		{"another secret", other, time.Now(), body, http.StatusUnauthorized},
		{"an old recording", good, time.Now().Add(-time.Hour), body, http.StatusUnauthorized},
		{"the event as it was signed", good, time.Now(), body, http.StatusNoContent},
	} {
		signature, err := tt.by.Sign("evt_1", tt.at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/hooks/mail", strings.NewReader(tt.sent))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("webhook-id", "evt_1")
		req.Header.Set("webhook-timestamp", fmt.Sprint(tt.at.Unix()))
		req.Header.Set("webhook-signature", signature)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s is answered with %d, want %d", tt.what, resp.StatusCode, tt.want)
		}
	}
}

// startProgram builds the receiver, runs it and returns its URL.
func startProgram(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "receiver")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, binary, "-listen", "127.0.0.1:0", "-secret", secret)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the receiver ended with %d", code)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the receiver says nothing: %v", err)
	}
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
}

// examples are the bodies of docs/WEBHOOK.md in their order.
func examples(t *testing.T) (bodies []string) {
	t.Helper()
	manual, err := os.ReadFile("../WEBHOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(manual), "```json\n") {
		if i > 0 {
			body, _, _ := strings.Cut(block, "```")
			bodies = append(bodies, body)
		}
	}
	if len(bodies) == 0 {
		t.Fatal("the manual has no examples")
	}
	return bodies
}

func matched(thread, id string, refs ...string) string {
	var candidates []map[string]string
	for _, ref := range refs {
		candidates = append(candidates, map[string]string{"ref": ref})
	}
	list, _ := json.Marshal(candidates)
	return fmt.Sprintf(`{"type":"thread.matched","data":{"thread":{"id":%q},"messages":[{"id":%q,"candidates":%s}]}}`, thread, id, list)
}

func post(t *testing.T, url, id, body string) {
	t.Helper()
	keys, err := webhook.ParseSecrets([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	p, err := webhook.NewPoster(webhook.PosterConfig{
		URL:           url + "/hooks/mail",
		Secrets:       func() ([]webhook.Secret, error) { return keys, nil },
		AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if r := p.Post(t.Context(), id, []byte(body)); r.Kind != webhook.Accepted {
		t.Fatalf("%s was not accepted: %v", id, r.Err)
	}
}

func show(t *testing.T, url, ref string) (list []message) {
	t.Helper()
	resp, err := http.Get(url + "/candidates/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return list
}
