package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"mailsyncd/admin"
	"mailsyncd/internal/testutil"
)

// Every method of the client reaches the daemon with what it was given, over a
// real socket, and every answer is what openapi.yaml says.
func TestCalls(t *testing.T) {
	f := &fake{}
	c := admin.NewClient(serve(t, f.config(logTo(t))))
	defer c.Close()
	ctx := t.Context()
	for _, call := range []struct {
		what  string
		call  func() (any, error)
		asked string // what the daemon was asked
		says  string // a part of the answer
	}{
		{"status", func() (any, error) { return c.Status(ctx) }, "", `"unauthorized":1`},
		{"version", func() (any, error) { return c.Version(ctx) }, "", `"go1.26"`},
		{"reload", func() (any, error) { return c.Reload(ctx) }, "reload", `"added":["timo"],"removed":[]`},
		{"rotate the key", func() (any, error) { return c.RotateKey(ctx) }, "rotate", `"complete":true`},
		{"list mailboxes", func() (any, error) {
			return c.Mailboxes(ctx, admin.MailboxQuery{State: "active", After: "a&b", Limit: 5})
		}, "mailboxes active a&b 5", `"next":"rita"`},
		{"list mailboxes, unless told 100", func() (any, error) { return c.Mailboxes(ctx, admin.MailboxQuery{}) }, "mailboxes   100", `"items"`},
		{"show a mailbox", func() (any, error) { return c.Mailbox(ctx, "rita") }, "mailbox rita", `"task":"main"`},
		{"sync a mailbox", func() (any, error) { return c.Sync(ctx, "rita@x") }, "sync rita@x", `"ok":true`},
		{"sync all", func() (any, error) { return c.SyncAll(ctx) }, "sync all", `"failed":[{"mailbox":"timo"`},
		{"pause a mailbox", func() (any, error) { return c.PauseMailbox(ctx, "rita") }, "pause rita", `"state":"paused"`},
		{"resume a mailbox", func() (any, error) { return c.ResumeMailbox(ctx, "rita") }, "resume rita", `"state":"active"`},
		{"forget a mailbox", func() (any, error) { return nil, c.ForgetMailbox(ctx, "rita") }, "forget rita", ""},
		{"what a consent needs", func() (any, error) { return c.Connection(ctx, "sam") }, "connection sam", `"client":{"id":"client","secret":""}`},
		{"keep a token", func() (any, error) { return nil, c.SetToken(ctx, "sam", "1//t") }, "token sam 1//t", ""},
		{"list deliveries", func() (any, error) {
			return c.Deliveries(ctx, admin.DeliveryQuery{State: "dead", Candidate: "cand/1?", After: 6, Limit: 1000})
		}, "deliveries dead cand/1? 6 1000", `"next":7`},
		{"show a delivery", func() (any, error) { return c.Delivery(ctx, "evt_7", false) }, "delivery evt_7", `"candidates":[]}`},
		{"show a delivery with its payload", func() (any, error) { return c.Delivery(ctx, "evt_7", true) }, "delivery evt_7", `"payload":{"type":"thread.matched"}`},
		{"show an erased payload", func() (any, error) { return c.Delivery(ctx, "evt_8", true) }, "delivery evt_8", `"payload":null`},
		{"replay by ids", func() (any, error) { return c.Replay(ctx, admin.Replay{IDs: []string{"a", "b"}}) }, "replay a,b ", `"replayed":2`},
		{"replay by candidate", func() (any, error) { return c.Replay(ctx, admin.Replay{Candidate: "c"}) }, "replay  c", `"rereading":0,"tasks":[],"erased":0`},
		{"list records", func() (any, error) {
			return c.Records(ctx, admin.RecordQuery{Kind: "job", Ref: "r", After: "x", Limit: 2})
		}, "records job r x 2", `"jobs":[]`},
		{"put records", func() (any, error) { return c.PutRecords(ctx, strings.NewReader("{}\n")) }, "put {}", `"records":1`},
		{"delete a record with a slash", func() (any, error) { return nil, c.DeleteRecord(ctx, "candidate", "a/b c") }, "delete candidate a/b c", ""},
		{"approve sweeps", func() (any, error) { return c.Approve(ctx, "") }, "approve ", `"sweeps":1`},
		{"approve an address", func() (any, error) { return c.Approve(ctx, "n@example.net") }, "approve n@example.net", `"sweeps":1`},
		{"list tasks", func() (any, error) { return c.Tasks(ctx) }, "tasks", `"left":2`},
		{"show a task", func() (any, error) { return c.Task(ctx, "task_1") }, "task task_1", `"waiting":[{"mailbox":"rita","state":"paused"}]`},
		{"cancel a task", func() (any, error) { return c.CancelTask(ctx, "task_1") }, "cancel task_1", `"state":"cancelled"`},
		{"resync whoever has an address", func() (any, error) { return c.Resync(ctx, admin.Resync{Who: "n@example.net", Mailbox: "rita"}) },
			"resync  n@example.net false rita false", `"items":[{"id":"task_1"`},
		{"deliver everything again", func() (any, error) {
			return c.Resync(ctx, admin.Resync{All: true, Redeliver: true, Since: noon})
		}, "resync   true  true", `"items":[{"id":"task_1"`},
		{"resync a candidate", func() (any, error) { return c.ResyncCandidate(ctx, "cand/1?", admin.Resync{}) }, "resync cand/1?  false  false", `"candidate":"cand/1?"`},
		{"explain a mail", func() (any, error) {
			return c.Explain(ctx, admin.ExplainQuery{MessageID: "a@b", Mailbox: "rita"})
		}, "explain a@b rita ", `"refusals":[],"kept":[]},{"mailbox":"tom","verdict":"refused","matches":[]`},
		{"explain a candidate", func() (any, error) { return c.Explain(ctx, admin.ExplainQuery{Candidate: "cand/1"}) }, "explain   cand/1",
			`"addresses":[{"address":"nora@example.net","shared":[],"refusals":[]}]`},
		{"reconcile", func() (any, error) { return c.Reconcile(ctx, admin.Reconcile{Mailbox: "rita", Repair: true}) }, "reconcile rita true",
			`"unaccounted":3,"repaired":1},"mailboxes":[{"mailbox":"rita","counts":{"messages":0,"delivered":0,"pending":0,"held":0,"dead":0,"refused":{}`},
		{"list a candidate's messages", func() (any, error) {
			return c.CandidateMessages(ctx, admin.CandidateMessageQuery{Candidate: "a/b c", After: "msg_0", Limit: 7})
		}, "messages a/b c msg_0 7", `"mailboxes":[],"address":"","fields":[],"state":"delivered"`},
		{"pause the webhook", func() (any, error) { return c.PauseWebhook(ctx) }, "webhook pause", `"reason":"operator"`},
		{"resume the webhook", func() (any, error) { return c.ResumeWebhook(ctx) }, "webhook resume", `"state":"ok"`},
	} {
		got, err := call.call()
		if err != nil {
			t.Errorf("%s: %v", call.what, err)
			continue
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if call.asked != "" && f.last() != call.asked {
			t.Errorf("%s: the daemon was asked %q, want %q", call.what, f.last(), call.asked)
		}
		if !strings.Contains(string(text), call.says) {
			t.Errorf("%s: got %s, want %s", call.what, text, call.says)
		}
	}
}

// ask makes one call without a socket.
func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader(body)))
	return rec
}

func TestOneRecord(t *testing.T) {
	f := &fake{}
	h := checked(t, admin.New(f.config(logTo(t))))
	if rec := ask(h, "GET", "/v1/directory/candidate/cand%2F1", ""); rec.Code != 200 || f.last() != "records candidate cand/1  1" {
		t.Errorf("GET: %d, asked %q", rec.Code, f.last())
	}
	if rec := ask(h, "GET", "/v1/directory/candidate/nobody", ""); rec.Code != 404 {
		t.Errorf("GET of nobody: %d", rec.Code)
	}
	rec := ask(h, "PUT", "/v1/directory/candidate/cand%2F1", `{"emails":["a@b"],"ref":"cand/1"}`)
	if want := `put {"emails":["a@b"],"kind":"candidate","ref":"cand/1"}`; rec.Code != 200 || f.last() != want {
		t.Errorf("PUT: %d, asked %q, want %q", rec.Code, f.last(), want)
	}
	if rec := ask(h, "DELETE", "/v1/directory/job/j", ""); rec.Code != 204 || rec.Body.Len() != 0 {
		t.Errorf("DELETE: %d %s", rec.Code, rec.Body)
	}
}

// Work that goes on after the answer says so by its status.
func TestResyncIsAccepted(t *testing.T) {
	h := checked(t, admin.New((&fake{}).config(logTo(t))))
	for target, body := range map[string]string{"/v1/resync": `{"who":"cand_1"}`, "/v1/candidates/cand_1/resync": ""} {
		if rec := ask(h, "POST", target, body); rec.Code != http.StatusAccepted {
			t.Errorf("POST %s: %d %s", target, rec.Code, rec.Body)
		}
	}
}

func TestDescribesItself(t *testing.T) {
	h := admin.New((&fake{}).config(logTo(t)))
	want, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rec := ask(h, "GET", "/v1/openapi.yaml", "")
	if !bytes.Equal(rec.Body.Bytes(), want) || rec.Header().Get("Content-Type") != "application/yaml" {
		t.Errorf("got %d bytes of %s", rec.Body.Len(), rec.Header().Get("Content-Type"))
	}
}

// Every bad call is a problem that says what to do, and none of them repeats
// what was sent as a value.
func TestBadCalls(t *testing.T) {
	h := checked(t, admin.New((&fake{}).config(logTo(t))))
	huge := `{"ids":["` + strings.Repeat("x", 1<<20) + `"]}`
	for _, c := range []struct {
		what, method, target, body string
		status                     int
		detail                     string
	}{
		{"an unknown path", "GET", "/v1/nothing", "", 404, "there is no such call; GET /v1/openapi.yaml lists them"},
		{"the root", "GET", "/", "", 404, "there is no such call; GET /v1/openapi.yaml lists them"},
		{"another version", "GET", "/v2/status", "", 404, "there is no such call; GET /v1/openapi.yaml lists them"},
		{"a wrong method", "GET", "/v1/sync", "", 405, "this path takes POST"},
		{"a wrong method where several are right", "POST", "/v1/directory/job/j", "", 405, "this path takes GET or PUT or DELETE"},
		{"a method nobody knows", "BREW", "/v1/status", "", 405, "this path takes GET"},
		{"an unknown mailbox", "GET", "/v1/mailboxes/timo", "", 404, "there is no mailbox \"timo\"; `mailsyncd status` lists those in trouble"},
		{"a paused mailbox", "POST", "/v1/mailboxes/paused/sync", "", 409, `mailbox "paused" is paused; resume it first`},
		{"a failing store", "GET", "/v1/mailboxes/broken", "", 500, "the store cannot be read"},
		{"a crash", "GET", "/v1/mailboxes/crash", "", 500, "the call crashed; see the daemon's log, event admin_crash"},
		{"an unknown parameter", "GET", "/v1/deliveries?status=dead", "", 400, `unknown parameter "status"; known here: state, candidate, after, limit`},
		{"a parameter where there is none", "GET", "/v1/status?full=1", "", 400, `unknown parameter "full"; known here: none`},
		{"a parameter twice", "GET", "/v1/deliveries?state=dead&state=held", "", 400, `parameter "state" stands twice; pass it once`},
		{"an unknown state of events", "GET", "/v1/deliveries?state=lost", "", 400, "state is unknown; pass one of pending, held, dead, delivered"},
		{"an unknown state of mailboxes", "GET", "/v1/mailboxes?state=dead", "", 400, "state is unknown; pass one of active, backing_off, unauthorized, suspended, paused, removed"},
		{"a page of nothing", "GET", "/v1/mailboxes?limit=0", "", 400, "limit is out of range; pass 1 to 1000"},
		{"a page too large", "GET", "/v1/directory?limit=1001", "", 400, "limit is out of range; pass 1 to 1000"},
		{"a page that is no number", "GET", "/v1/deliveries?limit=many", "", 400, "limit is out of range; pass 1 to 1000"},
		{"a position that is none", "GET", "/v1/deliveries?after=-1", "", 400, "after is not a position; pass what the page before said as next"},
		{"a broken query", "GET", "/v1/deliveries?state=%zz", "", 400, "the query string cannot be read; escape it"},
		{"a payload that is perhaps", "GET", "/v1/deliveries/x?payload=yes", "", 400, "payload is unknown; pass one of 0, 1"},
		{"an unknown kind to list", "GET", "/v1/directory?kind=end", "", 400, "kind is unknown; pass one of candidate, job, user"},
		{"an unknown kind to show", "GET", "/v1/directory/person/x", "", 404, "there is no such kind of record; write candidate, job or user"},
		{"an unknown kind to delete", "DELETE", "/v1/directory/person/x", "", 404, "there is no such kind of record; write candidate, job or user"},
		{"an unknown kind to put", "PUT", "/v1/directory/person/x", "{}", 404, "there is no such kind of record; write candidate, job or user"},
		{"another ref in the body", "PUT", "/v1/directory/job/j", `{"ref":"k"}`, 400, "ref in the body is not the one in the path; leave it out"},
		{"another kind in the body", "PUT", "/v1/directory/job/j", `{"kind":5}`, 400, "kind in the body is not the one in the path; leave it out"},
		{"a record that is a list", "PUT", "/v1/directory/job/j", `["nora@example.net"]`, 400, `the body is not the JSON this call takes: it has the wrong type, array; see GET /v1/openapi.yaml`},
		{"a replay of nothing", "POST", "/v1/deliveries/replay", "", 400, "a replay is selected by ids, since, candidate or dead; pass one of them"},
		{"a replay of an empty object", "POST", "/v1/deliveries/replay", "{}", 400, "a replay is selected by ids, since, candidate or dead; pass one of them"},
		{"a replay in two ways", "POST", "/v1/deliveries/replay", `{"dead":true,"candidate":"c"}`, 400, "a replay is selected by ids, since, candidate or dead; pass one of them"},
		{"a replay of an empty id", "POST", "/v1/deliveries/replay", `{"ids":["a",""]}`, 400, "an id is empty; pass webhook ids"},
		{"an unknown field", "POST", "/v1/deliveries/replay", `{"all":true}`, 400, `the body is not the JSON this call takes: unknown field "all"; see GET /v1/openapi.yaml`},
		{"a wrong type", "POST", "/v1/deliveries/replay", `{"ids":"nora@example.net"}`, 400, `the body is not the JSON this call takes: field "ids" has the wrong type, string; see GET /v1/openapi.yaml`},
		{"a time that is none", "POST", "/v1/deliveries/replay", `{"since":"nora@example.net"}`, 400, "the body is not the JSON this call takes: a value cannot be read; see GET /v1/openapi.yaml"},
		{"broken JSON", "POST", "/v1/directory/approve", `{"address":nora@example.net`, 400, "the body is not the JSON this call takes: syntax error at byte 13; see GET /v1/openapi.yaml"},
		{"half of the JSON", "POST", "/v1/directory/approve", `{"address":"nora@exam`, 400, "the body is not the JSON this call takes: it ends too early; see GET /v1/openapi.yaml"},
		{"two values", "POST", "/v1/directory/approve", `{} {}`, 400, "the body holds more than one JSON value; send one"},
		{"an unknown task", "GET", "/v1/tasks/task_9", "", 404, "no task \"task_9\"; `mailsyncd tasks list` shows them"},
		{"tasks with a filter", "GET", "/v1/tasks?state=done", "", 400, `unknown parameter "state"; known here: none`},
		{"a resync of nobody", "POST", "/v1/resync", "", 400, "pass candidate (a ref), who (a ref or an address) or all, one of them"},
		{"a resync of one and all", "POST", "/v1/resync", `{"who":"nora@example.net","all":true}`, 400, "pass candidate (a ref), who (a ref or an address) or all, one of them"},
		{"a resync of all", "POST", "/v1/resync", `{"all":true,"since":"2026-11-21T00:00:00Z"}`, 400, "all goes with redeliver and since: it posts again what was delivered; what was missed is found by reconcile"},
		{"a resync of a purged candidate", "POST", "/v1/resync", `{"who":"gone"}`, 409, "the candidate was purged; put it again first"},
		{"a resync of two candidates", "POST", "/v1/candidates/c/resync", `{"who":"nora@example.net"}`, 400, "the path says whose mail; leave candidate, who and all out"},
		{"an explanation of nothing", "POST", "/v1/explain", "{}", 400, "pass message_id or candidate, one of them"},
		{"an explanation of two things", "POST", "/v1/explain", `{"message_id":"a","candidate":"c"}`, 400, "pass message_id or candidate, one of them"},
		{"a candidate in one mailbox", "POST", "/v1/explain", `{"mailbox":"rita","candidate":"c"}`, 400, "mailbox goes with message_id; a candidate is explained for all mailboxes"},
		{"a typo in a reconcile", "POST", "/v1/reconcile", `{"repiar":true}`, 400, `the body is not the JSON this call takes: unknown field "repiar"; see GET /v1/openapi.yaml`},
		{"too many messages", "GET", "/v1/candidates/c/messages?limit=1001", "", 400, "limit is out of range; pass 1 to 1000"},
		{"a body too large", "POST", "/v1/deliveries/replay", huge, 413, "the request is larger than 1048576 bytes; send it in parts"},
		{"one record too large", "PUT", "/v1/directory/job/j", huge, 413, "the request is larger than 1048576 bytes; send it in parts"},
	} {
		rec := ask(h, c.method, c.target, c.body)
		var p admin.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			t.Errorf("%s: not a problem: %s", c.what, rec.Body)
			continue
		}
		if rec.Code != c.status || p.Status != c.status || p.Detail != c.detail || p.Title != http.StatusText(c.status) {
			t.Errorf("%s: got %d %+v, want %d %s", c.what, rec.Code, p, c.status, c.detail)
		}
		if strings.Contains(rec.Body.String(), "nora") {
			t.Errorf("%s: the answer repeats an address", c.what)
		}
	}
}

// A directory put is streamed up to 64 MiB and no further.
func TestPutLimit(t *testing.T) {
	f := &fake{}
	c := admin.NewClient(serve(t, f.config(logTo(t))))
	defer c.Close()
	line := strings.Repeat("x", 1023) + "\n"
	r, err := c.PutRecords(t.Context(), io.LimitReader(&repeated{text: line}, 8<<20))
	if err != nil || r.Records != 8<<10 {
		t.Errorf("8 MiB: %+v, %v", r, err)
	}
	_, err = c.PutRecords(t.Context(), io.LimitReader(&repeated{text: line}, 64<<20+1))
	var p *admin.Problem
	if !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a byte too many: %v", err)
	}
}

// repeated is a text without end.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// What changes something is logged with who did it, and without what it was
// done to; what only looks is not logged.
func TestLog(t *testing.T) {
	var log testutil.Log
	f := &fake{}
	c := admin.NewClient(serve(t, f.config(slog.New(slog.NewTextHandler(&log, nil)))))
	defer c.Close()
	ctx := t.Context()
	_, _ = c.Status(ctx)
	if got := log.String(); got != "" {
		t.Errorf("looking was logged: %s", got)
	}
	if err := c.DeleteRecord(ctx, "candidate", "cand_123"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Approve(ctx, "nora@example.net"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Mailbox(ctx, "crash"); err == nil {
		t.Fatal("a crash was answered as a success")
	}
	got := log.String()
	for _, want := range []string{
		`event=admin_call call="DELETE /v1/directory/{kind}/{ref}" status=204 uid=` + fmt.Sprint(os.Getuid()),
		`event=admin_call call="POST /v1/directory/approve" status=200`,
		`event=admin_crash call="GET /v1/mailboxes/{id}"`,
		`call="GET /v1/mailboxes/{id}" status=500`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s:\n%s", want, got)
		}
	}
	for _, secret := range []string{"cand_123", "nora"} {
		if strings.Contains(got, secret) {
			t.Errorf("the log holds %s:\n%s", secret, got)
		}
	}
}

// A sync waits in the daemon; when its caller goes, it hears of it.
func TestCallerGoesAway(t *testing.T) {
	f := &fake{hold: make(chan struct{}), waiting: make(chan struct{})}
	c := admin.NewClient(serve(t, f.config(logTo(t))))
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-f.waiting; cancel() }()
	if _, err := c.SyncAll(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("SyncAll returned %v", err)
	}
}

// The daemon ends while somebody waits.
func TestDaemonEndsWhileSomebodyWaits(t *testing.T) {
	f := &fake{hold: make(chan struct{}), waiting: make(chan struct{})}
	socket := t.TempDir() + "/s"
	l, err := admin.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	stop := background(t, l, f.config(logTo(t)))
	c := admin.NewClient(socket)
	defer c.Close()
	answered := make(chan error, 1)
	go func() { _, err := c.SyncAll(t.Context()); answered <- err }()
	<-f.waiting
	begun := time.Now()
	stop()
	if err := <-answered; err == nil {
		t.Error("the wait ended as a success")
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("ending took %v: it waited for its grace to run out", took)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}
