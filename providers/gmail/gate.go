package gmail

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"mailsyncd/message"
	"mailsyncd/providers"
)

// Field masks (the standard parameter "fields"): what an answer may hold. There
// is no snippet in any of them, because a snippet is text of the body; Gmail
// sends one with format=metadata unless it is masked.
const (
	maskProfile = "emailAddress,historyId"
	maskLabels  = "labels(id,name,type)"
	maskHistory = "historyId,nextPageToken,history(id,messagesAdded/message(id,labelIds),labelsRemoved(message(id),labelIds))"
	maskList    = "messages(id),nextPageToken"
	maskGet     = "id,threadId,labelIds,internalDate,payload/headers"
)

// headerNames are the fields asked for: all that package message reads.
var headerNames = canonicalNames()

func canonicalNames() []string {
	var names []string
	for _, name := range message.FieldNames {
		if name == "MESSAGE-ID" {
			names = append(names, "Message-ID") // as RFC 5322 writes it; net/http would say Message-Id
			continue
		}
		names = append(names, http.CanonicalHeaderKey(name))
	}
	return names
}

// gate is the round-tripper that every API call passes. It lets through the
// five calls of this package, in the very form that this package gives them,
// and refuses everything else before it leaves the process. So no mistake
// above it, and no method of the generated client, can read a body, a snippet
// or an attachment, or change a mailbox.
type gate struct {
	base *url.URL // where the API is: nothing goes to another host
	next http.RoundTripper
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := g.check(r); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as http.RoundTripper asks
		}
		return nil, &providers.ClassError{Class: providers.ClassConfig, Err: fmt.Errorf("refused to send a call that could read more than headers: %w", err)}
	}
	return g.next.RoundTrip(r)
}

// allowedCall is one form of a call: which parameters it may have. A parameter
// without values listed is free.
type allowedCall struct {
	fields string
	params map[string][]string
}

var allowedCalls = map[string]allowedCall{
	"profile": {fields: maskProfile},
	"labels":  {fields: maskLabels},
	"history": {fields: maskHistory, params: map[string][]string{
		"startHistoryId": nil, "pageToken": nil, "maxResults": nil, "historyTypes": {"messageAdded", "labelRemoved"},
	}},
	"messages": {fields: maskList, params: map[string][]string{
		"q": nil, "pageToken": nil, "maxResults": nil, "includeSpamTrash": {"true", "false"},
	}},
	"messages/": {fields: maskGet, params: map[string][]string{
		"format": {"metadata"}, "metadataHeaders": headerNames,
	}},
}

// check says what is wrong with a request; its errors name no value.
func (g *gate) check(r *http.Request) error {
	if r.Method != http.MethodGet || r.Body != nil && r.Body != http.NoBody {
		return fmt.Errorf("the method is %s, only GET is", r.Method)
	}
	if r.URL.Scheme != g.base.Scheme || r.URL.Host != g.base.Host || r.Host != "" && r.Host != g.base.Host {
		return fmt.Errorf("the host is not the API's")
	}
	call, ok := callOf(strings.TrimPrefix(r.URL.EscapedPath(), g.base.EscapedPath()))
	if !ok {
		return fmt.Errorf("the path is not one of the five calls")
	}
	return call.check(r.URL.RawQuery)
}

// callOf finds the call of a path below the endpoint.
func callOf(path string) (allowedCall, bool) {
	name, ok := strings.CutPrefix(path, "gmail/v1/users/me/")
	if !ok {
		return allowedCall{}, false
	}
	if id, isGet := strings.CutPrefix(name, "messages/"); isGet {
		return allowedCalls["messages/"], validID(id)
	}
	call, ok := allowedCalls[name]
	return call, ok
}

func (c allowedCall) check(query string) error {
	params, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("the query cannot be read")
	}
	for name, values := range params {
		if err := c.checkParam(name, values); err != nil {
			return err
		}
	}
	if len(params["fields"]) != 1 {
		return fmt.Errorf("the field mask is missing")
	}
	if want := c.params["format"]; want != nil && len(params["format"]) != 1 {
		return fmt.Errorf("the format is missing")
	}
	return nil
}

func (c allowedCall) checkParam(name string, values []string) error {
	var may []string
	switch name {
	case "fields":
		may = []string{c.fields}
	case "alt":
		may = []string{"json"}
	case "prettyPrint":
		may = []string{"false"}
	case "quotaUser":
		return nil
	default:
		var known bool
		if may, known = c.params[name]; !known {
			return fmt.Errorf("a parameter is not one of this call's")
		}
		if may == nil {
			return nil
		}
	}
	for _, v := range values {
		if !slices.Contains(may, v) {
			return fmt.Errorf("the parameter %s has another value than it may", name)
		}
	}
	return nil
}

// authorizer puts the access token on a call. When the server refuses it, it
// fetches a new one and asks once more: a token dies at any moment, also in the
// middle of a page, and that is no failure of the mailbox.
type authorizer struct {
	credential Credential
	next       http.RoundTripper
}

func (a *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := a.token(r, "")
	if err != nil {
		return nil, err
	}
	resp, err := a.send(r, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	fresh, err := a.token(r, token)
	if err != nil {
		drain(resp)
		return nil, err
	}
	drain(resp)
	return a.send(r, fresh)
}

func (a *authorizer) token(r *http.Request, refused string) (string, error) {
	return a.credential.Token(r.Context(), refused)
}

func (a *authorizer) send(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context()) // a RoundTripper must not change the request
	r.Header.Set("Authorization", "Bearer "+token)
	return a.next.RoundTrip(r)
}

// drain reads what is left of a small answer, so that its connection is used
// again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// counting counts bytes and bounds answers.
type counting struct {
	meter *providers.Meter
	next  http.RoundTripper
}

// maxAnswer bounds one answer: a list of 500 takes 20 KiB, a header block
// rarely more. A larger one is cut, and cannot be decoded.
const maxAnswer = 8 << 20

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.meter.Octets(0, int64(len(r.URL.RawQuery)))
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		resp.Body = &counted{ReadCloser: resp.Body, left: maxAnswer, meter: c.meter}
	}
	return resp, err
}

type counted struct {
	io.ReadCloser
	left  int
	meter *providers.Meter
}

func (b *counted) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.meter.Octets(int64(n), 0)
	return n, err
}
