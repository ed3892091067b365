package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// UnreachableError says that no daemon answers on the socket.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error names the socket and what to do.
func (e *UnreachableError) Error() string {
	why, mend := "it does not answer", "see its log"
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		why, mend = "there is no such socket", "start the daemon (mailsyncd serve), or name its socket with --socket or MAILSYNCD_SOCKET"
	case errors.Is(e.Err, fs.ErrPermission):
		why, mend = "permission denied", "run the command as the daemon's user, or join the group that owns the socket"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		why, mend = "nobody listens on it", "start the daemon (mailsyncd serve); it replaces the socket"
	}
	return fmt.Sprintf("the daemon cannot be reached at %s: %s; %s", e.Socket, why, mend)
}

// Unwrap gives the error of the connection.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Client calls a daemon over its socket. Errors are a *Problem when the daemon
// refused, an *UnreachableError when there is none, and the context's when the
// caller gave up.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client; it connects with the first call.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket, &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableCompression: true},
		// The server's mux redirects paths it would rather have clean; following
		// that could turn a call for one thing into a call for all.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is GET /v1/status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return fetch[Status](ctx, c, "GET", "/v1/status", nil)
}

// Version is GET /v1/version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return fetch[Version](ctx, c, "GET", "/v1/version", nil)
}

// Reload is POST /v1/reload.
func (c *Client) Reload(ctx context.Context) (ReloadResult, error) {
	return fetch[ReloadResult](ctx, c, "POST", "/v1/reload", nil)
}

// RotateKey is POST /v1/key/rotate.
func (c *Client) RotateKey(ctx context.Context) (RotateResult, error) {
	return fetch[RotateResult](ctx, c, "POST", "/v1/key/rotate", nil)
}

// Mailboxes is GET /v1/mailboxes.
func (c *Client) Mailboxes(ctx context.Context, q MailboxQuery) (MailboxList, error) {
	path := "/v1/mailboxes" + params("state", q.State, "after", q.After, "limit", number(q.Limit))
	return fetch[MailboxList](ctx, c, "GET", path, nil)
}

// Mailbox is GET /v1/mailboxes/{id}.
func (c *Client) Mailbox(ctx context.Context, id string) (Mailbox, error) {
	return fetch[Mailbox](ctx, c, "GET", mailboxPath(id, ""), nil)
}

// Sync is POST /v1/mailboxes/{id}/sync: it waits for the pass.
func (c *Client) Sync(ctx context.Context, id string) (SyncResult, error) {
	return fetch[SyncResult](ctx, c, "POST", mailboxPath(id, "/sync"), nil)
}

// SyncAll is POST /v1/sync: it waits for a pass over every mailbox.
func (c *Client) SyncAll(ctx context.Context) (SyncAllResult, error) {
	return fetch[SyncAllResult](ctx, c, "POST", "/v1/sync", nil)
}

// PauseMailbox is POST /v1/mailboxes/{id}/pause.
func (c *Client) PauseMailbox(ctx context.Context, id string) (Mailbox, error) {
	return fetch[Mailbox](ctx, c, "POST", mailboxPath(id, "/pause"), nil)
}

// ResumeMailbox is POST /v1/mailboxes/{id}/resume.
func (c *Client) ResumeMailbox(ctx context.Context, id string) (Mailbox, error) {
	return fetch[Mailbox](ctx, c, "POST", mailboxPath(id, "/resume"), nil)
}

// ForgetMailbox is POST /v1/mailboxes/{id}/forget.
func (c *Client) ForgetMailbox(ctx context.Context, id string) error {
	return c.call(ctx, "POST", mailboxPath(id, "/forget"), nil, nil)
}

// Connection is GET /v1/mailboxes/{id}/connect.
func (c *Client) Connection(ctx context.Context, id string) (Connection, error) {
	return fetch[Connection](ctx, c, "GET", mailboxPath(id, "/connect"), nil)
}

// SetToken is PUT /v1/mailboxes/{id}/token.
func (c *Client) SetToken(ctx context.Context, id, token string) error {
	body, err := json.Marshal(Token{token})
	if err != nil {
		return err
	}
	return c.call(ctx, "PUT", mailboxPath(id, "/token"), bytes.NewReader(body), nil)
}

// Deliveries is GET /v1/deliveries.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) (DeliveryList, error) {
	path := "/v1/deliveries" + params("state", q.State, "candidate", q.Candidate,
		"after", position(q.After), "limit", number(q.Limit))
	return fetch[DeliveryList](ctx, c, "GET", path, nil)
}

// Delivery is GET /v1/deliveries/{id}.
func (c *Client) Delivery(ctx context.Context, id string, payload bool) (Delivery, error) {
	path := "/v1/deliveries/" + url.PathEscape(id)
	if payload {
		path += "?payload=1"
	}
	return fetch[Delivery](ctx, c, "GET", path, nil)
}

// Replay is POST /v1/deliveries/replay.
func (c *Client) Replay(ctx context.Context, sel Replay) (ReplayResult, error) {
	return send[ReplayResult](ctx, c, "POST", "/v1/deliveries/replay", sel)
}

// Records is GET /v1/directory.
func (c *Client) Records(ctx context.Context, q RecordQuery) (RecordList, error) {
	path := "/v1/directory" + params("kind", q.Kind, "ref", q.Ref, "after", q.After, "limit", number(q.Limit))
	return fetch[RecordList](ctx, c, "GET", path, nil)
}

// PutRecords is PUT /v1/directory: JSON lines, read as they are sent.
func (c *Client) PutRecords(ctx context.Context, lines io.Reader) (PutResult, error) {
	return fetch[PutResult](ctx, c, "PUT", "/v1/directory", lines)
}

// DeleteRecord is DELETE /v1/directory/{kind}/{ref}.
func (c *Client) DeleteRecord(ctx context.Context, kind, ref string) error {
	return c.call(ctx, "DELETE", "/v1/directory/"+url.PathEscape(kind)+"/"+url.PathEscape(ref), nil, nil)
}

// Approve is POST /v1/directory/approve; an empty address releases sweeps.
func (c *Client) Approve(ctx context.Context, address string) (ApproveResult, error) {
	return send[ApproveResult](ctx, c, "POST", "/v1/directory/approve", map[string]string{"address": address})
}

// Tasks is GET /v1/tasks.
func (c *Client) Tasks(ctx context.Context) (TaskList, error) {
	return fetch[TaskList](ctx, c, "GET", "/v1/tasks", nil)
}

// Task is GET /v1/tasks/{id}.
func (c *Client) Task(ctx context.Context, id string) (Task, error) {
	return fetch[Task](ctx, c, "GET", "/v1/tasks/"+url.PathEscape(id), nil)
}

// CancelTask is POST /v1/tasks/{id}/cancel.
func (c *Client) CancelTask(ctx context.Context, id string) (Task, error) {
	return fetch[Task](ctx, c, "POST", "/v1/tasks/"+url.PathEscape(id)+"/cancel", nil)
}

// Resync is POST /v1/resync: it begins tasks and does not wait for them.
func (c *Client) Resync(ctx context.Context, r Resync) (TaskList, error) {
	return send[TaskList](ctx, c, "POST", "/v1/resync", r)
}

// ResyncCandidate is POST /v1/candidates/{ref}/resync.
func (c *Client) ResyncCandidate(ctx context.Context, ref string, r Resync) (Task, error) {
	return send[Task](ctx, c, "POST", "/v1/candidates/"+url.PathEscape(ref)+"/resync", r)
}

// Explain is POST /v1/explain.
func (c *Client) Explain(ctx context.Context, q ExplainQuery) (Explanation, error) {
	return send[Explanation](ctx, c, "POST", "/v1/explain", q)
}

// Reconcile is POST /v1/reconcile: it waits for the proof.
func (c *Client) Reconcile(ctx context.Context, r Reconcile) (Reconciliation, error) {
	return send[Reconciliation](ctx, c, "POST", "/v1/reconcile", r)
}

// CandidateMessages is GET /v1/candidates/{ref}/messages.
func (c *Client) CandidateMessages(ctx context.Context, q CandidateMessageQuery) (CandidateMessageList, error) {
	path := "/v1/candidates/" + url.PathEscape(q.Candidate) + "/messages" + params("after", q.After, "limit", number(q.Limit))
	return fetch[CandidateMessageList](ctx, c, "GET", path, nil)
}

// PauseWebhook is POST /v1/webhook/pause.
func (c *Client) PauseWebhook(ctx context.Context) (WebhookStatus, error) {
	return fetch[WebhookStatus](ctx, c, "POST", "/v1/webhook/pause", nil)
}

// ResumeWebhook is POST /v1/webhook/resume.
func (c *Client) ResumeWebhook(ctx context.Context) (WebhookStatus, error) {
	return fetch[WebhookStatus](ctx, c, "POST", "/v1/webhook/resume", nil)
}

// fetch makes a call that answers with a T.
func fetch[T any](ctx context.Context, c *Client, method, path string, body io.Reader) (T, error) {
	var v T
	err := c.call(ctx, method, path, body, &v)
	return v, err
}

// send makes a call with a JSON body.
func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	data, err := json.Marshal(body)
	if err != nil {
		var none T
		return none, err
	}
	return fetch[T](ctx, c, method, path, bytes.NewReader(data))
}

// call makes one request and decodes the answer into what into points to.
func (c *Client) call(ctx context.Context, method, path string, body io.Reader, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://mailsyncd"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.failed(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	switch {
	case resp.StatusCode >= 300:
		return refusal(resp)
	case into == nil:
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// failed tells a daemon that is not there from a caller that gave up.
func (c *Client) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &UnreachableError{c.socket, err}
}

// refusal reads the problem that the daemon answered with.
func refusal(resp *http.Response) error {
	p := &Problem{}
	err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(p)
	if err != nil || p.Detail == "" {
		return problem(resp.StatusCode, "the daemon answered %s without saying why; see its log", resp.Status)
	}
	return p
}

func mailboxPath(id, call string) string { return "/v1/mailboxes/" + url.PathEscape(id) + call }

// params builds a query string of names and values, leaving out empty values.
func params(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

func number(n int) string { return position(uint64(max(0, n))) }

func position(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
