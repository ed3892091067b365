package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// kinds are the kinds of directory records that have a path.
func kinds() []string { return []string{"candidate", "job", "user"} }

// ---- the process ---------------------------------------------------------

func (s *server) status(r *http.Request) (Status, error) {
	if _, err := query(r); err != nil {
		return Status{}, err
	}
	return s.Daemon.Status(r.Context())
}

func (s *server) version(*http.Request) (Version, error) { return s.Daemon.Version(), nil }

func (s *server) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openAPI) // the caller has gone; nobody is left to tell
}

func (s *server) reload(r *http.Request) (ReloadResult, error) { return s.Daemon.Reload(r.Context()) }

func (s *server) rotateKey(r *http.Request) (RotateResult, error) {
	return s.Daemon.RotateKey(r.Context())
}

// ---- mailboxes -----------------------------------------------------------

func (s *server) listMailboxes(r *http.Request) (list MailboxList, err error) {
	values, err := query(r, "state", "after", "limit")
	if err != nil {
		return list, err
	}
	q := MailboxQuery{After: values.Get("after")}
	if q.State, err = oneOf(values, "state", "active", "backing_off", "unauthorized", "suspended", "paused", "removed"); err != nil {
		return list, err
	}
	if q.Limit, err = limit(values); err != nil {
		return list, err
	}
	return s.Mailboxes.Mailboxes(r.Context(), q)
}

func (s *server) showMailbox(r *http.Request) (Mailbox, error) {
	return s.Mailboxes.Mailbox(r.Context(), r.PathValue("id"))
}

func (s *server) sync(r *http.Request) (SyncResult, error) {
	return s.Syncer.Sync(r.Context(), r.PathValue("id"))
}

func (s *server) syncAll(r *http.Request) (SyncAllResult, error) {
	return s.Syncer.SyncAll(r.Context())
}

func (s *server) pauseMailbox(r *http.Request) (Mailbox, error) {
	return s.Mailboxes.SetPaused(r.Context(), r.PathValue("id"), true)
}

func (s *server) resumeMailbox(r *http.Request) (Mailbox, error) {
	return s.Mailboxes.SetPaused(r.Context(), r.PathValue("id"), false)
}

func (s *server) forgetMailbox(r *http.Request) error {
	return s.Mailboxes.Forget(r.Context(), r.PathValue("id"))
}

func (s *server) connection(r *http.Request) (Connection, error) {
	return s.Connector.Connection(r.Context(), r.PathValue("id"))
}

func (s *server) setToken(r *http.Request) error {
	var body Token
	if err := decode(r, &body); err != nil {
		return err
	}
	if body.Token == "" {
		return badRequest("the token is missing")
	}
	return s.Connector.SetToken(r.Context(), r.PathValue("id"), body.Token)
}

// ---- deliveries ----------------------------------------------------------

func (s *server) listDeliveries(r *http.Request) (list DeliveryList, err error) {
	values, err := query(r, "state", "candidate", "after", "limit")
	if err != nil {
		return list, err
	}
	q := DeliveryQuery{Candidate: values.Get("candidate")}
	if q.State, err = oneOf(values, "state", "pending", "held", "dead", "delivered"); err != nil {
		return list, err
	}
	if q.Limit, err = limit(values); err != nil {
		return list, err
	}
	if after := values.Get("after"); after != "" {
		if q.After, err = strconv.ParseUint(after, 10, 64); err != nil {
			return list, badRequest("after is not a position; pass what the page before said as next")
		}
	}
	return s.Deliveries.Deliveries(r.Context(), q)
}

func (s *server) showDelivery(r *http.Request) (Delivery, error) {
	values, err := query(r, "payload")
	if err != nil {
		return Delivery{}, err
	}
	payload, err := oneOf(values, "payload", "0", "1")
	if err != nil {
		return Delivery{}, err
	}
	d, err := s.Deliveries.Delivery(r.Context(), r.PathValue("id"), payload == "1")
	if payload == "1" && d.Payload == nil {
		d.Payload = json.RawMessage("null") // asked for, and no longer kept
	}
	return d, err
}

func (s *server) replay(r *http.Request) (ReplayResult, error) {
	var sel Replay
	if err := decode(r, &sel); err != nil {
		return ReplayResult{}, err
	}
	if err := sel.check(); err != nil {
		return ReplayResult{}, err
	}
	return s.Deliveries.Replay(r.Context(), sel)
}

// check wants exactly one way of selecting: posting everything again must be
// asked for, never the result of an empty request.
func (r Replay) check() error {
	if !exactlyOne(len(r.IDs) > 0, !r.Since.IsZero(), r.Candidate != "", r.Dead) {
		return badRequest("a replay is selected by ids, since, candidate or dead; pass one of them")
	}
	if slices.Contains(r.IDs, "") {
		return badRequest("an id is empty; pass webhook ids")
	}
	return nil
}

// ---- directory -----------------------------------------------------------

func (s *server) listRecords(r *http.Request) (list RecordList, err error) {
	values, err := query(r, "kind", "ref", "after", "limit")
	if err != nil {
		return list, err
	}
	q := RecordQuery{Ref: values.Get("ref"), After: values.Get("after")}
	if q.Kind, err = oneOf(values, "kind", kinds()...); err != nil {
		return list, err
	}
	if q.Limit, err = limit(values); err != nil {
		return list, err
	}
	return s.Directory.Records(r.Context(), q)
}

// kind reads the kind of a record's path.
func kind(r *http.Request) (string, error) {
	k := r.PathValue("kind")
	if !slices.Contains(kinds(), k) {
		return "", NotFound("there is no such kind of record; write candidate, job or user")
	}
	return k, nil
}

func (s *server) showRecord(r *http.Request) (Record, error) {
	k, err := kind(r)
	if err != nil {
		return Record{}, err
	}
	list, err := s.Directory.Records(r.Context(), RecordQuery{Kind: k, Ref: r.PathValue("ref"), Limit: 1})
	if err != nil {
		return Record{}, err
	}
	if len(list.Items) == 0 {
		return Record{}, NotFound("there is no %s with this ref; check its spelling, or whether it was purged", k)
	}
	return list.Items[0], nil
}

func (s *server) putRecords(r *http.Request) (PutResult, error) {
	return s.Directory.Put(r.Context(), r.Body)
}

// putRecord takes one record whose kind and ref stand in the path. They may
// stand in the body too, if they are the same.
func (s *server) putRecord(r *http.Request) (PutResult, error) {
	k, err := kind(r)
	if err != nil {
		return PutResult{}, err
	}
	fields := map[string]json.RawMessage{}
	if err := decode(r, &fields); err != nil {
		return PutResult{}, err
	}
	for name, value := range map[string]string{"kind": k, "ref": r.PathValue("ref")} {
		quoted, err := json.Marshal(value)
		if err != nil {
			return PutResult{}, err
		}
		if said, ok := fields[name]; ok && !sameJSON(said, value) {
			return PutResult{}, badRequest("%s in the body is not the one in the path; leave it out", name)
		}
		fields[name] = quoted
	}
	line, err := json.Marshal(fields)
	if err != nil {
		return PutResult{}, err
	}
	return s.Directory.Put(r.Context(), bytes.NewReader(append(line, '\n')))
}

func sameJSON(raw json.RawMessage, want string) bool {
	var got string
	return json.Unmarshal(raw, &got) == nil && got == want
}

func (s *server) deleteRecord(r *http.Request) error {
	k, err := kind(r)
	if err != nil {
		return err
	}
	return s.Directory.Delete(r.Context(), k, r.PathValue("ref"))
}

func (s *server) approve(r *http.Request) (ApproveResult, error) {
	var body struct {
		Address string `json:"address"`
	}
	if err := decode(r, &body); err != nil {
		return ApproveResult{}, err
	}
	return s.Directory.Approve(r.Context(), body.Address)
}

// ---- tasks ---------------------------------------------------------------

func (s *server) listTasks(r *http.Request) (TaskList, error) {
	if _, err := query(r); err != nil {
		return TaskList{}, err
	}
	return s.Tasks.Tasks(r.Context())
}

func (s *server) showTask(r *http.Request) (Task, error) {
	return s.Tasks.Task(r.Context(), r.PathValue("id"))
}

func (s *server) cancelTask(r *http.Request) (Task, error) {
	return s.Tasks.CancelTask(r.Context(), r.PathValue("id"))
}

func (s *server) resync(r *http.Request) (TaskList, error) {
	var ask Resync
	if err := decode(r, &ask); err != nil {
		return TaskList{}, err
	}
	if err := ask.check(); err != nil {
		return TaskList{}, err
	}
	return s.Tasks.Resync(r.Context(), ask)
}

// check wants exactly one way of saying whose mail: reading everybody's must be
// asked for, never the result of an empty request.
func (r Resync) check() error {
	if !exactlyOne(r.Candidate != "", r.Who != "", r.All) {
		return badRequest("pass candidate (a ref), who (a ref or an address) or all, one of them")
	}
	if r.All && (!r.Redeliver || r.Since.IsZero()) {
		return badRequest("all goes with redeliver and since: it posts again what was delivered; what was missed is found by reconcile")
	}
	return nil
}

// resyncCandidate is resync for the ref in the path: there is one task.
func (s *server) resyncCandidate(r *http.Request) (Task, error) {
	var ask Resync
	if err := decode(r, &ask); err != nil {
		return Task{}, err
	}
	if ask.Candidate != "" || ask.Who != "" || ask.All {
		return Task{}, badRequest("the path says whose mail; leave candidate, who and all out")
	}
	ask.Candidate = r.PathValue("ref")
	list, err := s.Tasks.Resync(r.Context(), ask)
	if err != nil {
		return Task{}, err
	}
	return list.Items[0], nil
}

func exactlyOne(said ...bool) bool {
	n := 0
	for _, one := range said {
		if one {
			n++
		}
	}
	return n == 1
}

// ---- inquiry -------------------------------------------------------------

func (s *server) explain(r *http.Request) (Explanation, error) {
	var q ExplainQuery
	if err := decode(r, &q); err != nil {
		return Explanation{}, err
	}
	switch {
	case (q.MessageID == "") == (q.Candidate == ""):
		return Explanation{}, badRequest("pass message_id or candidate, one of them")
	case q.Candidate != "" && q.Mailbox != "":
		return Explanation{}, badRequest("mailbox goes with message_id; a candidate is explained for all mailboxes")
	}
	return s.Inquiry.Explain(r.Context(), q)
}

func (s *server) reconcile(r *http.Request) (Reconciliation, error) {
	var ask Reconcile
	if err := decode(r, &ask); err != nil {
		return Reconciliation{}, err
	}
	return s.Inquiry.Reconcile(r.Context(), ask)
}

func (s *server) listCandidateMessages(r *http.Request) (list CandidateMessageList, err error) {
	values, err := query(r, "after", "limit")
	if err != nil {
		return list, err
	}
	q := CandidateMessageQuery{Candidate: r.PathValue("ref"), After: values.Get("after")}
	if q.Limit, err = limit(values); err != nil {
		return list, err
	}
	return s.Inquiry.CandidateMessages(r.Context(), q)
}

// ---- webhook -------------------------------------------------------------

func (s *server) pauseWebhook(r *http.Request) (WebhookStatus, error) {
	return s.Webhook.SetPaused(r.Context(), true)
}

func (s *server) resumeWebhook(r *http.Request) (WebhookStatus, error) {
	return s.Webhook.SetPaused(r.Context(), false)
}
