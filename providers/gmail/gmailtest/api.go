package gmailtest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// handler answers one kind of call; the caller holds s.mu.
type handler struct {
	params []string // beside the standard ones
	scopes []string
	answer func(*Server, *Account, *call) (any, *apiError)
}

// call is one API call that is under way.
type call struct {
	Request
	metadata bool // the token is under the rules of gmail.metadata
}

const scopePrefix = "https://www.googleapis.com/auth/"

var readScopes = []string{scopePrefix + "gmail.metadata", scopePrefix + "gmail.readonly", scopePrefix + "gmail.modify", "https://mail.google.com/"}

func handlers() map[string]handler {
	return map[string]handler{
		"profile": {nil, append(slices.Clone(readScopes), scopePrefix+"gmail.compose"), (*Server).profile},
		"labels":  {nil, append(slices.Clone(readScopes), scopePrefix+"gmail.labels"), (*Server).labels},
		"sendAs":  {nil, readScopes[1:], (*Server).sendAs},
		"history": {[]string{"startHistoryId", "pageToken", "maxResults", "historyTypes", "labelId"}, readScopes, (*Server).history},
		"list":    {[]string{"q", "pageToken", "maxResults", "labelIds", "includeSpamTrash"}, readScopes, (*Server).list},
		"get":     {[]string{"format", "metadataHeaders"}, readScopes, (*Server).get},
	}
}

var standardParams = []string{"alt", "fields", "prettyPrint", "quotaUser", "key", "$.xgafv"}

// ServeHTTP answers the API and the OAuth endpoints.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Request: request(r)}
	s.mu.Lock()
	s.meter.seen[c.Call]++
	c.N = s.meter.seen[c.Call]
	if t := s.access[bearer(r)]; t != nil {
		c.Account = t.account
	}
	fault := s.fault
	s.mu.Unlock()
	var f Fault
	if fault != nil {
		f = fault(c.Request)
	}
	switch {
	case f.Status != 0 && c.Call == "token":
		f.retry(w)
		tokenRefused(w, f.Status, f.Reason)
	case f.Status != 0:
		f.retry(w)
		(&apiError{f.Status, f.Reason, "", "as the test said"}).write(w)
	case f.Garbage:
		_, _ = w.Write([]byte("<html>"))
	case c.Call == "token":
		s.token(w, r)
	case c.Call == "authorize":
		s.authorize(w, r)
	default:
		s.api(w, r, c, f)
	}
}

func (f Fault) retry(w http.ResponseWriter) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// request names a call by its path.
func request(r *http.Request) Request {
	q := Request{Call: r.URL.Path, Query: r.URL.Query()}
	name, ok := strings.CutPrefix(r.URL.Path, "/gmail/v1/users/me/")
	switch {
	case r.URL.Path == "/token":
		q.Call = "token"
	case r.URL.Path == "/o/oauth2/v2/auth":
		q.Call = "authorize"
	case !ok || r.Method != http.MethodGet:
	case name == "profile" || name == "labels" || name == "history":
		q.Call = name
	case name == "settings/sendAs":
		q.Call = "sendAs"
	case name == "messages":
		q.Call = "list"
	default:
		if id, isGet := strings.CutPrefix(name, "messages/"); isGet && !strings.Contains(id, "/") {
			q.Call, q.ID = "get", id
		}
	}
	return q
}

// api answers a call of the Gmail API.
func (s *Server) api(w http.ResponseWriter, r *http.Request, c *call, f Fault) {
	s.mu.Lock()
	body, failed := s.answer(r, c)
	retry, onAnswer := s.opts.RetryAfter, s.onAnswer
	s.mu.Unlock()
	if failed != nil {
		if (failed == errRate || failed == err429) && retry > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(retry))
		}
		failed.write(w)
		return
	}
	if onAnswer != nil {
		onAnswer(c.Request, body)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if f.Cut {
		body = body[:len(body)/2]
	}
	_, _ = w.Write(body) // the client is gone: nothing to do
}

// answer runs one call: token, form, budget, then the call itself, as Google
// does: what is refused costs nothing.
func (s *Server) answer(r *http.Request, c *call) ([]byte, *apiError) {
	t := s.access[bearer(r)]
	if t == nil || t.revoked || !s.now().Before(t.expiry) {
		return nil, errAuth
	}
	h, known := handlers()[c.Call]
	if !known {
		return nil, &apiError{404, "notFound", "NOT_FOUND", "no such call here"}
	}
	if !slices.ContainsFunc(h.scopes, func(scope string) bool { return slices.Contains(t.scopes, scope) }) {
		return nil, errScope
	}
	for name := range c.Query {
		if !slices.Contains(h.params, name) && !slices.Contains(standardParams, name) {
			return nil, badRequest("Invalid JSON payload received. Unknown name \"" + name + "\"")
		}
	}
	m, err := parseMask(c.Query.Get("fields"))
	if err != nil {
		return nil, badRequest("Invalid field selection")
	}
	account := s.accounts[t.account]
	if account == nil {
		return nil, errNoMail
	}
	if !s.charge(t.account, c.Call, c.ID) {
		if s.opts.RefuseWith429 {
			return nil, err429
		}
		return nil, errRate
	}
	c.metadata = slices.Contains(t.scopes, scopePrefix+"gmail.metadata")
	v, failed := h.answer(s, account, c)
	if failed != nil {
		return nil, failed
	}
	return masked(v, m), nil
}

func masked(v any, m mask) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	if m == nil {
		return b
	}
	var tree any
	_ = json.Unmarshal(b, &tree) // it was marshalled a line ago
	if b, err = json.Marshal(m.apply(tree)); err != nil {
		panic(err)
	}
	return b
}

type object = map[string]any

func id64(n uint64) string { return strconv.FormatUint(n, 10) }

func (s *Server) profile(a *Account, _ *call) (any, *apiError) {
	return object{
		"emailAddress": a.address, "historyId": id64(a.history),
		"messagesTotal": len(a.mails), "threadsTotal": len(a.mails),
	}, nil
}

func (s *Server) labels(a *Account, _ *call) (any, *apiError) {
	var list []any
	for _, name := range []string{"INBOX", "SENT", "DRAFT", "SPAM", "TRASH", "CHAT", "UNREAD", "IMPORTANT", "STARRED"} {
		list = append(list, object{"id": name, "name": name, "type": "system"})
	}
	for id, name := range a.labels {
		list = append(list, object{"id": id, "name": name, "type": "user"})
	}
	return object{"labels": list}, nil
}

func (s *Server) sendAs(a *Account, c *call) (any, *apiError) {
	if c.metadata {
		return nil, errScope
	}
	return object{"sendAs": []any{object{"sendAsEmail": a.address, "isPrimary": true}}}, nil
}

// pageToken holds a position, what it is a position of, and when it was given.
type pageToken struct {
	Of    string
	Pos   string
	Given int64
}

func (s *Server) tokenText(of, pos string) string {
	b, err := json.Marshal(pageToken{of, pos, s.now().UnixNano()})
	if err != nil {
		panic(err) // strings and a number
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// readToken returns the position of a page token; "" at the beginning.
func (s *Server) readToken(c *call, of string) (string, *apiError) {
	text := c.Query.Get("pageToken")
	if text == "" {
		return "", nil
	}
	var t pageToken
	b, err := base64.RawURLEncoding.DecodeString(text)
	age := func() time.Duration { return s.now().Sub(time.Unix(0, t.Given)) }
	if err != nil || json.Unmarshal(b, &t) != nil || t.Of != of && !s.opts.LooseTokens ||
		s.opts.PageTokenLifetime > 0 && age() > s.opts.PageTokenLifetime {
		return "", badRequest("Invalid pageToken")
	}
	return t.Pos, nil
}

func (s *Server) pageSize(q url.Values) (int, *apiError) {
	n := 100
	if text := q.Get("maxResults"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 {
			return 0, badRequest("Invalid maxResults")
		}
	}
	if n = min(n, 500); s.opts.MaxPage > 0 {
		n = min(n, s.opts.MaxPage)
	}
	return max(1, n), nil
}

// list lists mails, newest first.
func (s *Server) list(a *Account, c *call) (any, *apiError) {
	if c.Query.Has("q") && c.metadata {
		return nil, &apiError{403, "forbidden", "PERMISSION_DENIED", "Metadata scope does not support 'q' parameter"}
	}
	n, bad := s.pageSize(c.Query)
	if bad != nil {
		return nil, bad
	}
	of := c.Query.Get("q") + "\x00" + strings.Join(c.Query["labelIds"], ",") + c.Query.Get("includeSpamTrash")
	pos, bad := s.readToken(c, of)
	if bad != nil {
		return nil, bad
	}
	found := a.after(pos, c)
	answer := object{"resultSizeEstimate": len(found)}
	if len(found) > n {
		answer["nextPageToken"] = s.tokenText(of, position(found[n-1]))
		found = found[:n]
	}
	var list []any
	for _, m := range found {
		list = append(list, object{"id": m.ID, "threadId": m.ThreadID})
	}
	if list != nil {
		answer["messages"] = list
	}
	return answer, nil
}

// position is a place in a listing that stays right when mail comes and goes.
func position(m *Mail) string { return strconv.FormatInt(m.Arrival.UnixMilli(), 10) + "/" + m.ID }

func (a *Account) after(pos string, c *call) []*Mail {
	q := c.Query.Get("q")
	if a.s.opts.NoReplyTo {
		q = strings.ReplaceAll(q, "replyto:", "unknown:")
	}
	match := parseQuery(q)
	everywhere := c.Query.Get("includeSpamTrash") == "true"
	var last *Mail
	if ms, id, ok := strings.Cut(pos, "/"); ok {
		n, _ := strconv.ParseInt(ms, 10, 64) // position wrote it
		last = &Mail{ID: id, Arrival: time.UnixMilli(n)}
	}
	var found []*Mail
	for _, m := range a.sorted() {
		hidden := !everywhere && (m.has("SPAM") || m.has("TRASH"))
		if hidden || last != nil && compare(last, m) >= 0 || !match(m) ||
			slices.ContainsFunc(c.Query["labelIds"], func(l string) bool { return !m.has(l) }) {
			continue
		}
		found = append(found, m)
	}
	return found
}

// get returns one mail.
func (s *Server) get(a *Account, c *call) (any, *apiError) {
	m := a.mails[c.ID]
	if m == nil {
		return nil, errNotFound
	}
	answer := object{
		"id": m.ID, "threadId": m.ThreadID, "historyId": id64(m.history),
		"internalDate": strconv.FormatInt(m.Arrival.UnixMilli(), 10),
		"sizeEstimate": len(m.Body), "snippet": m.Body[:min(len(m.Body), 100)],
	}
	if len(m.Labels) > 0 {
		answer["labelIds"] = m.Labels
	}
	switch format := c.Query.Get("format"); format {
	case "minimal":
	case "metadata":
		answer["payload"] = object{"mimeType": "text/plain", "headers": headers(m, c.Query["metadataHeaders"])}
	case "", "full", "raw":
		if c.metadata {
			return nil, &apiError{403, "forbidden", "PERMISSION_DENIED", "Metadata scope doesn't allow format FULL"}
		}
		answer["payload"] = object{"mimeType": "text/plain", "headers": headers(m, nil),
			"body": object{"size": len(m.Body), "data": base64.URLEncoding.EncodeToString([]byte(m.Body))}}
	default:
		return nil, badRequest("Invalid value at 'format'")
	}
	return answer, nil
}

// headers lists the fields with these names; all when there are none. Names are
// compared without case and come back as the mail has them.
func headers(m *Mail, names []string) []any {
	list := []any{}
	for _, f := range m.Header {
		if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, f.Name) }) {
			list = append(list, object{"name": f.Name, "value": f.Value})
		}
	}
	return list
}

// history lists changes, oldest first.
func (s *Server) history(a *Account, c *call) (any, *apiError) {
	start, err := strconv.ParseUint(c.Query.Get("startHistoryId"), 10, 64)
	if err != nil || start == 0 {
		return nil, badRequest("Invalid value at 'start_history_id'")
	}
	n, bad := s.pageSize(c.Query)
	if bad != nil {
		return nil, bad
	}
	a.expire()
	if bad := s.checkStart(a, start); bad != nil {
		return nil, bad
	}
	pos, bad := s.readToken(c, id64(start))
	if bad != nil {
		return nil, bad
	}
	answer := object{"historyId": id64(a.history)}
	if s.opts.EmptyPages && !strings.HasPrefix(pos, "+") {
		answer["nextPageToken"] = s.tokenText(id64(start), "+"+pos)
		return answer, nil
	}
	if at, err := strconv.ParseUint(strings.TrimPrefix(pos, "+"), 10, 64); err == nil {
		start = at
	}
	s.changes(answer, a, start, n, c)
	return answer, nil
}

func (s *Server) checkStart(a *Account, start uint64) *apiError {
	switch {
	case start < a.dropped:
		return errNotFound
	case start > a.history && s.opts.AheadStatus == 404:
		return errNotFound
	case start > a.history && s.opts.AheadStatus == 400:
		return badRequest("Invalid startHistoryId")
	}
	return nil
}

// changes puts up to n records after an id into an answer.
func (s *Server) changes(answer object, a *Account, after uint64, n int, c *call) {
	var list []any
	for _, r := range a.records {
		if r.id <= after || !wanted(r.kind, c.Query["historyTypes"]) {
			continue
		}
		if len(list) == n {
			answer["nextPageToken"] = s.tokenText(c.Query.Get("startHistoryId"), id64(after))
			break
		}
		list = append(list, s.historyRecord(r))
		after = r.id
	}
	if list != nil {
		answer["history"] = list
	}
}

func wanted(kind string, kinds []string) bool { return len(kinds) == 0 || slices.Contains(kinds, kind) }

func (s *Server) historyRecord(r record) object {
	m := object{"id": r.mail, "threadId": r.thread}
	typed := object{"id": r.mail, "threadId": r.thread}
	if !s.opts.BareHistory && len(r.now) > 0 {
		typed["labelIds"] = r.now
	}
	field := map[string]string{
		"messageAdded": "messagesAdded", "messageDeleted": "messagesDeleted",
		"labelAdded": "labelsAdded", "labelRemoved": "labelsRemoved",
	}[r.kind]
	entry := object{"message": typed}
	if r.changed != nil {
		entry["labelIds"] = r.changed
	}
	return object{"id": id64(r.id), "messages": []any{m}, field: []any{entry}}
}
