package gmail_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	gmailapi "google.golang.org/api/gmail/v1"
	"google.golang.org/api/option"

	"mailsyncd/message"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
)

// This file makes one mailbox on either Gmail look the same to a test.

// person is what the owner of a mailbox does in it. Mails go by their
// Message-ID.
type person interface {
	// deliver puts a mail under labels; none: the inbox.
	deliver(t testing.TB, mail string, arrival time.Time, labels ...string)
	relabel(t testing.TB, id string, on, off []string)
	remove(t testing.TB, id string) // for good
	saveDraft(t testing.TB, mail string)
	sendDraft(t testing.TB, id string)
	makeLabel(t testing.TB, name string) (labelID string)
}

// side is one mailbox on one of the two.
type side struct {
	person
	cfg    gmail.Config // of the provider
	calls  *watch       // what the provider calls
	tokens *tokens      // where its refresh token lies

	base    string // of the API as it is, without the proxy
	authURL string
	// access returns an access token with a scope; withdraw ends the consent that
	// the provider works with; forget makes the server forget its history, if it
	// ever does.
	access   func(scope string) string
	withdraw func()
	forget   func()
	// newcomer is another mailbox there, in which nothing has ever happened.
	newcomer func(*testing.T) *side
}

// eachSide runs a test on both.
func eachSide(t *testing.T, e *emulator, mode gmail.Mode, run func(*testing.T, *side)) {
	t.Run("emulator", func(t *testing.T) { run(t, e.side(t, mode)) })
	t.Run("gmailtest", func(t *testing.T) { run(t, fakeSide(t, mode)) })
}

const (
	everything = "https://mail.google.com/"
	apiPrefix  = "gmail/v1/users/me/"
)

func idOf(mail string) string {
	h := message.Parse([]byte(mail))
	return h.MessageID
}

// fakeSide is a mailbox on gmailtest.
func fakeSide(t *testing.T, mode gmail.Mode) *side {
	t.Helper()
	w := newWorld(t, gmailtest.Options{}, mode)
	w.cfg.PageSize = 3
	calls := &watch{next: w.cfg.Transport}
	w.cfg.Transport = calls
	return &side{
		person: &ofFake{w, map[string]string{}}, cfg: w.cfg, calls: calls, tokens: w.tokens,
		base: w.URL, authURL: w.AuthURL,
		access:   func(scope string) string { return w.Access(rita, scope) },
		withdraw: func() { w.Revoke(rita, "") },
		forget:   w.account.ForgetHistory,
		newcomer: func(t *testing.T) *side { return fakeSide(t, mode) },
	}
}

type ofFake struct {
	w   *world
	ids map[string]string // Message-ID → Gmail's
}

func (p *ofFake) deliver(_ testing.TB, mail string, arrival time.Time, labels ...string) {
	m := gmailtest.ParseMail(mail)
	m.Arrival, m.Labels = arrival, labels
	p.ids[idOf(mail)] = p.w.account.Deliver(m)
}

func (p *ofFake) relabel(_ testing.TB, id string, on, off []string) {
	p.w.account.Label(p.ids[id], on, off)
}

func (p *ofFake) remove(_ testing.TB, id string) { p.w.account.Delete(p.ids[id]) }

func (p *ofFake) saveDraft(_ testing.TB, mail string) {
	p.ids[idOf(mail)] = p.w.account.SaveDraft("", gmailtest.ParseMail(mail))
}

func (p *ofFake) sendDraft(_ testing.TB, id string) { p.ids[id] = p.w.account.SendDraft(p.ids[id]) }

func (p *ofFake) makeLabel(_ testing.TB, name string) string { return p.w.account.MakeLabel(name) }

// side is a mailbox on the emulator, connected and not quite new: one in which
// nothing has ever happened has the history id 0 there.
func (e *emulator) side(t *testing.T, mode gmail.Mode) *side {
	t.Helper()
	s := e.newcomer(t, mode)
	s.saveDraft(t, mail("welcome@x"))
	s.remove(t, "welcome@x")
	return s
}

func (e *emulator) newcomer(t *testing.T, mode gmail.Mode) *side {
	t.Helper()
	address := e.takeUser(t)
	s := &side{
		calls: &watch{next: e.transport}, tokens: &tokens{kept: map[string]gmail.RefreshToken{}},
		base: e.url + "/", authURL: e.client().AuthURL,
		access:   func(scope string) string { return e.consent(t, address, scope).AccessToken },
		forget:   func() {}, // it remembers everything
		newcomer: func(t *testing.T) *side { return e.newcomer(t, mode) },
	}
	s.withdraw = func() { e.revoke(t, string(s.tokens.kept["rita"])) }
	s.tokens.kept["rita"] = gmail.RefreshToken(e.consent(t, address, mode.Scope()).RefreshToken)
	s.person = e.person(t, s.access(everything))
	s.cfg = gmail.Config{Address: address, Mode: mode, Endpoint: e.api, Transport: s.calls, Version: "test", PageSize: 3}
	s.cfg.Credential = gmail.User(gmail.UserConfig{Mailbox: "rita", Client: e.client(), Mode: mode, Tokens: s.tokens, Transport: s.calls})
	return s
}

func (e *emulator) takeUser(t *testing.T) string {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users == emulatorUsers {
		t.Fatal("all users are taken; make emulatorUsers larger")
	}
	e.users++
	return emulatorUser(e.users - 1)
}

func (e *emulator) client() gmail.Client {
	return gmail.Client{ID: clientID, Secret: secret, AuthURL: e.url + "/o/oauth2/v2/auth", TokenURL: e.url + "/oauth2/token"}
}

// person works with Google's client, as a mail program of its owner.
func (e *emulator) person(t *testing.T, token string) *ofEmulator {
	t.Helper()
	c := &http.Client{Transport: &oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), Base: e.transport}}
	svc, err := gmailapi.NewService(context.Background(), option.WithHTTPClient(c), option.WithEndpoint(e.api))
	if err != nil {
		t.Fatal(err)
	}
	return &ofEmulator{svc.Users, map[string]string{}, map[string]string{}}
}

type ofEmulator struct {
	api    *gmailapi.UsersService
	ids    map[string]string // Message-ID → Gmail's
	drafts map[string]string // Message-ID → the draft's
}

func raw(mail string) string { return base64.URLEncoding.EncodeToString([]byte(mail)) }

func (p *ofEmulator) deliver(t testing.TB, mail string, arrival time.Time, labels ...string) {
	t.Helper()
	if len(labels) == 0 {
		labels = []string{"INBOX", "UNREAD"}
	}
	m, err := p.api.Messages.Insert("me", &gmailapi.Message{Raw: raw(mail), LabelIds: labels, InternalDate: arrival.UnixMilli()}).Do()
	if err != nil {
		t.Fatal(err)
	}
	p.ids[idOf(mail)] = m.Id
}

func (p *ofEmulator) relabel(t testing.TB, id string, on, off []string) {
	t.Helper()
	change := &gmailapi.ModifyMessageRequest{AddLabelIds: on, RemoveLabelIds: off}
	if _, err := p.api.Messages.Modify("me", p.ids[id], change).Do(); err != nil {
		t.Fatal(err)
	}
}

// markRead changes many mails at once.
func (p *ofEmulator) markRead(t testing.TB, ids []string) {
	t.Helper()
	if err := p.api.Messages.BatchModify("me", &gmailapi.BatchModifyMessagesRequest{Ids: ids, RemoveLabelIds: []string{"UNREAD"}}).Do(); err != nil {
		t.Fatal(err)
	}
}

func (p *ofEmulator) remove(t testing.TB, id string) {
	t.Helper()
	if err := p.api.Messages.Delete("me", p.ids[id]).Do(); err != nil {
		t.Fatal(err)
	}
}

func (p *ofEmulator) saveDraft(t testing.TB, mail string) {
	t.Helper()
	d, err := p.api.Drafts.Create("me", &gmailapi.Draft{Message: &gmailapi.Message{Raw: raw(mail)}}).Do()
	if err != nil {
		t.Fatal(err)
	}
	p.drafts[idOf(mail)], p.ids[idOf(mail)] = d.Id, d.Message.Id
}

func (p *ofEmulator) sendDraft(t testing.TB, id string) {
	t.Helper()
	m, err := p.api.Drafts.Send("me", &gmailapi.Draft{Id: p.drafts[id]}).Do()
	if err != nil {
		t.Fatal(err)
	}
	p.ids[id] = m.Id
}

func (p *ofEmulator) makeLabel(t testing.TB, name string) string {
	t.Helper()
	l, err := p.api.Labels.Create("me", &gmailapi.Label{Name: name}).Do()
	if err != nil {
		t.Fatal(err)
	}
	return l.Id
}

// consent is a consent that is given elsewhere: the tokens come back.
func (e *emulator) consent(t testing.TB, address, scope string) *oauth2.Token {
	t.Helper()
	const redirect = "http://127.0.0.1:1/"
	conf := &oauth2.Config{
		ClientID: clientID, ClientSecret: secret, Scopes: []string{scope}, RedirectURL: redirect,
		Endpoint: oauth2.Endpoint{AuthURL: e.client().AuthURL, TokenURL: e.client().TokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	verifier := oauth2.GenerateVerifier()
	location, err := e.allow(conf.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), address)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: e.transport})
	token, err := conf.Exchange(ctx, u.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

var (
	actionOf = regexp.MustCompile(`^<form [^>]*action="([^"]*)"`)
	inputTag = regexp.MustCompile(`<input [^>]*name="([^"]*)" value="([^"]*)"`)
)

// allow is a user in a browser: it opens the consent page, presses the button of
// an account, and returns where the browser is sent. It registers that address
// first, as nobody has to at Google.
func (e *emulator) allow(page, address string) (location string, err error) {
	u, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	if err := e.register(u.Query().Get("redirect_uri")); err != nil {
		return "", err
	}
	browser := &http.Client{Transport: e.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	text, err := textOf(browser.Get(page))
	if err != nil {
		return "", err
	}
	action, fields, ok := formFor(text, address)
	if !ok {
		return "", fmt.Errorf("the consent page offers no account %s: %.300q", address, text)
	}
	resp, err := browser.PostForm(e.url+action, fields)
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Location"), resp.Body.Close()
}

// formFor finds the form of an account: the page has one for each.
func formFor(page, address string) (action string, fields url.Values, ok bool) {
	head, tail, found := strings.Cut(page, `name="email" value="`+html.EscapeString(address)+`"`)
	begin, end := strings.LastIndex(head, "<form "), strings.Index(tail, "</form>")
	if !found || begin < 0 || end < 0 {
		return "", nil, false
	}
	form := page[begin : len(page)-len(tail)+end]
	target := actionOf.FindStringSubmatch(form)
	fields = url.Values{}
	for _, input := range inputTag.FindAllStringSubmatch(form, -1) {
		fields.Set(html.UnescapeString(input[1]), html.UnescapeString(input[2]))
	}
	if target == nil || fields.Get("email") != address {
		return "", nil, false
	}
	return html.UnescapeString(target[1]), fields, true
}

// textOf reads a whole answer.
func textOf(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	return string(b), errors.Join(err, resp.Body.Close())
}

// revoke ends one token, of either kind, and no other.
func (e *emulator) revoke(t testing.TB, token string) {
	t.Helper()
	c := &http.Client{Transport: e.transport}
	if _, err := textOf(c.PostForm(e.url+"/oauth2/revoke", url.Values{"token": {token}})); err != nil {
		t.Fatal(err)
	}
}

// watch sees every call of a provider.
type watch struct {
	next http.RoundTripper
	// before is called before each call of the API.
	before func(call string)
	// onAnswer sees 200 answers of the API, as the provider gets them.
	onAnswer func(gmailtest.Request, []byte)

	mu    sync.Mutex
	calls map[string]int // by name; those with a page token also as name + " on"
	token string         // the last access token
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	name := nameOf(r.URL.Path)
	w.count(r, name)
	if w.before != nil && name != "token" {
		w.before(name)
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil || w.onAnswer == nil || name == "token" || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(strings.NewReader(string(b)))
	w.onAnswer(gmailtest.Request{Call: name, Query: r.URL.Query()}, b)
	return resp, err
}

func (w *watch) count(r *http.Request, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = map[string]int{}
	}
	w.calls[name]++
	if r.URL.Query().Has("pageToken") {
		w.calls[name+" on"]++
	}
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		w.token = token
	}
}

func (w *watch) made(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[name]
}

func (w *watch) lastToken() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.token
}

// nameOf names a call as gmailtest does.
func nameOf(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case strings.Contains(path, "/messages/"):
		return "get"
	case name == "messages":
		return "list"
	}
	return name
}

// ask makes one call of the API by hand and returns status and answer.
func (s *side) ask(t testing.TB, token, call string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+apiPrefix+call, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.calls.next.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	status := resp.StatusCode
	text, err := textOf(resp, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := map[string]any{}
	_ = json.Unmarshal([]byte(text), &answer) // a refusal may be anything
	return status, answer
}
