package gmailtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/gmail/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"mailsyncd/providers/gmail/gmailtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	rita     = "rita@example.com"
	metadata = "https://www.googleapis.com/auth/gmail.metadata"
	readonly = "https://www.googleapis.com/auth/gmail.readonly"
)

func discovery(t *testing.T) *gmailtest.Discovery {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	d, err := gmailtest.LoadDiscovery(filepath.Join(strings.TrimSpace(string(dir)), "gmail", "v1", "gmail-api.json"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// connect makes a server whose answers are held to Google's description, and
// Google's own client for an account of it.
func connect(t *testing.T, o gmailtest.Options, scopes ...string) (*gmailtest.Server, *gmailtest.Account, *gmail.UsersService) {
	t.Helper()
	s := gmailtest.Start(o)
	t.Cleanup(s.Close)
	d := discovery(t)
	s.OnAnswer(func(r gmailtest.Request, b []byte) {
		if err := d.Check(r, b); r.Call != "sendAs" && err != nil {
			t.Errorf("not what Google describes: %v", err)
		}
	})
	a := s.Account(rita)
	return s, a, clientFor(t, s, s.Access(rita, scopes...))
}

func clientFor(t *testing.T, s *gmailtest.Server, token string) *gmail.UsersService {
	t.Helper()
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	c := &http.Client{Transport: &oauth2.Transport{Source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), Base: base}}
	svc, err := gmail.NewService(context.Background(), option.WithHTTPClient(c), option.WithEndpoint(s.URL))
	if err != nil {
		t.Fatal(err)
	}
	return svc.Users
}

func mail(id string) gmailtest.Mail {
	return gmailtest.ParseMail("From: Nora <nora@example.net>\r\nTo: rita@example.com\r\nMessage-Id: <" + id + ">\r\nX-Own: 1\r\nSubject: a\r\n b\r\n\r\nSecret body\r\n")
}

// must unwraps an answer.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func failsWith(t *testing.T, what string, err error, code int, reason string) {
	t.Helper()
	var e *googleapi.Error
	if !errors.As(err, &e) || e.Code != code || len(e.Errors) == 0 || e.Errors[0].Reason != reason {
		t.Errorf("%s: %v, want %d %s", what, err, code, reason)
	}
}

func TestHistoryTellsEveryChange(t *testing.T) {
	_, a, u := connect(t, gmailtest.Options{}, metadata)
	start := must(u.GetProfile("me").Do())(t).HistoryId
	in := a.Deliver(mail("a@x"))
	draft := a.SaveDraft("", mail("d@x"))
	draft = a.SaveDraft(draft, mail("d@x"))
	sent := a.SendDraft(draft)
	spam := mail("s@x")
	spam.Labels = []string{"SPAM"}
	rescued := a.Deliver(spam)
	a.Label(rescued, []string{"INBOX"}, []string{"SPAM", "STARRED"})
	a.Delete(in)

	h := must(u.History.List("me").StartHistoryId(start).Do())(t)
	var got []string
	var last uint64
	for _, r := range h.History {
		if r.Id <= last {
			t.Errorf("record %d comes after %d", r.Id, last)
		}
		last = r.Id
		for _, m := range r.MessagesAdded {
			got = append(got, "added "+m.Message.LabelIds[0])
		}
		for range r.MessagesDeleted {
			got = append(got, "deleted")
		}
		for _, l := range r.LabelsAdded {
			got = append(got, "on "+strings.Join(l.LabelIds, " "))
		}
		for _, l := range r.LabelsRemoved {
			got = append(got, "off "+strings.Join(l.LabelIds, " "))
		}
	}
	want := []string{"added INBOX", "added DRAFT", "deleted", "added DRAFT", "deleted", "added SENT", "added SPAM", "on INBOX", "off SPAM", "deleted"}
	if !slices.Equal(got, want) || h.HistoryId != last {
		t.Errorf("the history is %q, at %d of %d; want %q", got, h.HistoryId, last, want)
	}
	only := must(u.History.List("me").StartHistoryId(start).HistoryTypes("labelRemoved").Do())(t)
	if len(only.History) != 1 || only.History[0].LabelsRemoved[0].Message.Id != rescued || sent == draft {
		t.Errorf("of labelRemoved alone came %d records", len(only.History))
	}
}

func TestHistoryPages(t *testing.T) {
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprint("empty pages ", empty), func(t *testing.T) {
			_, a, u := connect(t, gmailtest.Options{EmptyPages: empty, BareHistory: true}, metadata)
			start := a.HistoryID()
			var want []string
			for i := range 7 {
				want = append(want, a.Deliver(mail(fmt.Sprint(i))))
			}
			var got []string
			pages, bare := 0, 0
			err := u.History.List("me").StartHistoryId(start).MaxResults(3).Pages(t.Context(), func(h *gmail.ListHistoryResponse) error {
				if pages++; len(h.History) == 0 {
					bare++
				}
				for _, r := range h.History {
					got = append(got, r.MessagesAdded[0].Message.Id)
					if r.MessagesAdded[0].Message.LabelIds != nil {
						t.Error("a record names labels")
					}
				}
				return nil
			})
			wantPages := map[bool]int{false: 3, true: 6}[empty]
			if err != nil || !slices.Equal(got, want) || pages != wantPages || bare != wantPages-3 {
				t.Errorf("%d pages, %d empty, %d records of 7: %v", pages, bare, len(got), err)
			}
		})
	}
}

func TestHistoryExpires(t *testing.T) {
	tests := []struct {
		name  string
		o     gmailtest.Options
		after func(*gmailtest.Server, *gmailtest.Account)
		code  int
	}{
		{"not within a week", gmailtest.Options{}, func(s *gmailtest.Server, _ *gmailtest.Account) { s.Advance(6 * 24 * time.Hour) }, 0},
		{"after a week", gmailtest.Options{}, func(s *gmailtest.Server, _ *gmailtest.Account) { s.Advance(8 * 24 * time.Hour) }, 404},
		{"by count", gmailtest.Options{HistoryRecords: 1}, func(*gmailtest.Server, *gmailtest.Account) {}, 404},
		{"by command", gmailtest.Options{}, func(_ *gmailtest.Server, a *gmailtest.Account) { a.ForgetHistory() }, 404},
		{"an id ahead, taken", gmailtest.Options{}, func(_ *gmailtest.Server, a *gmailtest.Account) { a.Recreate() }, 0},
		{"an id ahead, not found", gmailtest.Options{AheadStatus: 404}, func(_ *gmailtest.Server, a *gmailtest.Account) { a.Recreate() }, 404},
		{"an id ahead, refused", gmailtest.Options{AheadStatus: 400}, func(_ *gmailtest.Server, a *gmailtest.Account) { a.Recreate() }, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, a, _ := connect(t, tt.o, metadata)
			start := a.HistoryID()
			a.Deliver(mail("a@x"))
			a.Deliver(mail("b@x"))
			tt.after(s, a)
			u := clientFor(t, s, s.Access(rita, metadata))
			_, err := u.History.List("me").StartHistoryId(start).Do()
			var e *googleapi.Error
			if tt.code == 0 && err != nil || tt.code != 0 && (!errors.As(err, &e) || e.Code != tt.code) {
				t.Errorf("%v, want %d", err, tt.code)
			}
			if _, err := u.History.List("me").StartHistoryId(a.HistoryID()).Do(); err != nil {
				t.Errorf("the newest id: %v", err)
			}
		})
	}
}

func TestListings(t *testing.T) {
	s, a, u := connect(t, gmailtest.Options{PageTokenLifetime: time.Minute}, readonly)
	var ids []string
	for i := range 5 {
		m := mail(fmt.Sprint(i))
		m.Arrival = s.Now().Add(-time.Duration(i) * time.Hour)
		ids = append(ids, a.Deliver(m))
	}
	a.Label(ids[1], []string{"TRASH"}, nil)
	first := must(u.Messages.List("me").MaxResults(2).Do())(t)
	late := a.Deliver(mail("late")) // newer than the page: nothing shifts
	rest := must(u.Messages.List("me").MaxResults(9).PageToken(first.NextPageToken).Do())(t)
	if got := append(idsOf(first), idsOf(rest)...); !slices.Equal(got, []string{ids[0], ids[2], ids[3], ids[4]}) || rest.NextPageToken != "" {
		t.Errorf("the listing is %v", got)
	}
	all := must(u.Messages.List("me").IncludeSpamTrash(true).Do())(t)
	if got := idsOf(all); len(got) != 6 || got[0] != late || got[2] != ids[1] {
		t.Errorf("with Trash: %v", got)
	}
	labelled := must(u.Messages.List("me").LabelIds("INBOX", "UNREAD").Do())(t)
	if len(labelled.Messages) != 5 {
		t.Errorf("of the inbox came %d", len(labelled.Messages))
	}
	_, err := u.Messages.List("me").MaxResults(2).Q("from:nora").PageToken(first.NextPageToken).Do()
	failsWith(t, "a token of another listing", err, 400, "badRequest")
	s.Advance(time.Hour / 2)
	_, err = u.Messages.List("me").MaxResults(2).PageToken(first.NextPageToken).Do()
	failsWith(t, "an old token", err, 400, "badRequest")
}

func idsOf(l *gmail.ListMessagesResponse) []string {
	var ids []string
	for _, m := range l.Messages {
		ids = append(ids, m.Id)
	}
	return ids
}

func TestFormatsAndMasks(t *testing.T) {
	_, a, u := connect(t, gmailtest.Options{}, readonly)
	id := a.Deliver(mail("a@x"))
	full := must(u.Messages.Get("me", id).Do())(t)
	if full.Payload.Body.Data == "" || full.Snippet == "" || len(full.Payload.Headers) != 5 {
		t.Error("the full message lacks body, snippet or headers")
	}
	meta := must(u.Messages.Get("me", id).Format("metadata").MetadataHeaders("message-id", "Subject").Do())(t)
	if meta.Payload.Body != nil || meta.Snippet == "" || len(meta.Payload.Headers) != 2 || meta.Payload.Headers[0].Name != "Message-Id" {
		t.Error("metadata: Gmail sends the snippet, no body, and headers by name without case")
	}
	masked := must(u.Messages.Get("me", id).Format("metadata").Fields("id,payload/headers(name)").Do())(t)
	if masked.Id != id || masked.Snippet != "" || masked.ThreadId != "" || masked.Payload.Headers[0].Value != "" || masked.Payload.Headers[0].Name == "" {
		t.Error("the mask is not obeyed")
	}
	minimal := must(u.Messages.Get("me", id).Format("minimal").Do())(t)
	if minimal.Payload != nil || len(minimal.LabelIds) != 2 || minimal.InternalDate == 0 || minimal.HistoryId == 0 {
		t.Error("minimal is not labels and times alone")
	}
	_, err := u.Messages.Get("me", id).Fields("id,,").Do()
	failsWith(t, "a broken mask", err, 400, "badRequest")
	_, err = u.Messages.Get("me", "nothing").Do()
	failsWith(t, "a mail that is not there", err, 404, "notFound")
}

func TestScopeRules(t *testing.T) {
	s, a, u := connect(t, gmailtest.Options{}, metadata)
	id := a.Deliver(mail("a@x"))
	both := clientFor(t, s, s.Access(rita, metadata, readonly))
	for name, u := range map[string]*gmail.UsersService{"metadata": u, "both, which counts as metadata": both} {
		_, err := u.Messages.List("me").Q("").Do()
		failsWith(t, name+", an empty q", err, 403, "forbidden")
		_, err = u.Messages.Get("me", id).Do()
		failsWith(t, name+", a body", err, 403, "forbidden")
		_, err = u.Settings.SendAs.List("me").Do()
		failsWith(t, name+", aliases", err, 403, "insufficientPermissions")
		if _, err := u.Messages.Get("me", id).Format("metadata").Do(); err != nil {
			t.Errorf("%s, headers: %v", name, err)
		}
	}
	send := clientFor(t, s, s.Access(rita, "https://www.googleapis.com/auth/gmail.send"))
	_, err := send.GetProfile("me").Do()
	failsWith(t, "a token for sending", err, 403, "insufficientPermissions")
	_, err = clientFor(t, s, "nonsense").GetProfile("me").Do()
	failsWith(t, "a token of nobody", err, 401, "authError")
	_, err = u.GetProfile("me").Do(googleapi.QueryParameter("colour", "red"))
	failsWith(t, "a parameter that does not exist", err, 400, "badRequest")
	s.Advance(2 * time.Hour)
	_, err = u.GetProfile("me").Do()
	failsWith(t, "an old token", err, 401, "authError")
}

func TestUnitsAreCountedAndRefused(t *testing.T) {
	for _, is429 := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := gmailtest.New(gmailtest.Options{UserPerMinute: 45, RefuseWith429: is429, RetryAfter: 11})
			id := s.Account(rita).Deliver(mail("a@x"))
			c := &http.Client{Transport: s.Transport()}
			ask := func(path string) *http.Response {
				r := must(http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"gmail/v1/users/me/"+path, nil))(t)
				r.Header.Set("Authorization", "Bearer "+s.Access(rita, metadata))
				resp := must(c.Do(r))(t)
				resp.Body.Close()
				return resp
			}
			for _, path := range []string{"profile", "messages", "history?startHistoryId=1000", "messages/" + id + "?format=minimal"} {
				if got := ask(path); got.StatusCode != 200 {
					t.Errorf("%s: %s", path, got.Status)
				}
			}
			if u := s.Usage(); u.Units != 28 || u.Total() != 4 || u.Gets[id] != 1 {
				t.Errorf("the meter says %+v", u)
			}
			got := ask("messages/" + id + "?format=minimal")
			want := map[bool]int{false: 403, true: 429}[is429]
			if got.StatusCode != want || got.Header.Get("Retry-After") != "11" || s.Usage().Refused != 1 || s.Usage().Units != 28 {
				t.Errorf("beyond the budget: %s, %+v", got.Status, s.Usage())
			}
			time.Sleep(time.Minute)
			if got := ask("messages/" + id + "?format=minimal"); got.StatusCode != 200 {
				t.Errorf("a minute later: %s", got.Status)
			}
			if s.ResetUsage(); s.Usage().Total() != 0 {
				t.Error("the meter is not reset")
			}
		})
	}
}

func TestQuery(t *testing.T) {
	s, a, u := connect(t, gmailtest.Options{}, readonly)
	put := func(text string, ago time.Duration, labels ...string) string {
		m := gmailtest.ParseMail(text + "\r\n\r\n")
		m.Arrival, m.Labels = s.Now().Add(-ago), labels
		return a.Deliver(m)
	}
	nora := put("From: Nora <Nora@example.net>\r\nMessage-ID: <a1@x>", time.Hour, "INBOX")
	cc := put("From: x@y.org\r\nCc: a@b.org, annora@example.net", 2*time.Hour, "SENT")
	chat := put("From: nora@example.net", 3*time.Hour, "CHAT")
	old := put("To: nora@sub.example.net", 30*24*time.Hour, "INBOX")
	since := fmt.Sprint(s.Now().Add(-24 * time.Hour).Unix())
	tests := []struct {
		q    string
		want []string
	}{
		{"from:nora@example.net", []string{nora, chat}},
		{"cc:nora@example.net", nil}, // no part of a word
		{"cc:annora@example.net", []string{cc}},
		{"{from:annora@example.net cc:annora@example.net}", []string{cc}},
		{"{from:nora@example.net cc:annora@example.net} -in:chats", []string{nora, cc}},
		{"from:nora@example.net cc:annora@example.net", nil}, // and
		{"{from:example.net to:example.net}", []string{nora, chat, old}},
		{"{from:example.net to:example.net} after:" + since, []string{nora, chat}},
		{"before:" + since, []string{old}},
		{"in:sent", []string{cc}},
		{"rfc822msgid:a1@x", []string{nora}},
		{"rfc822msgid:1@x", nil},
		{"colour:red", nil},
		{"after:2026/11/21", nil}, // dates in words mean California
		{"{}", nil},
	}
	for _, tt := range tests {
		got := idsOf(must(u.Messages.List("me").Q(tt.q).Do())(t))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.q, got, tt.want)
		}
	}
}

func TestFaults(t *testing.T) {
	s, a, u := connect(t, gmailtest.Options{}, metadata)
	s.SetFault(gmailtest.FailNth("profile", 2, gmailtest.Fault{Status: 503, Reason: "backendError", RetryAfter: "5"}))
	for i, code := range []int{0, 503, 0} {
		_, err := u.GetProfile("me").Do()
		if code == 0 && err != nil {
			t.Errorf("call %d: %v", i+1, err)
		}
		if code != 0 {
			failsWith(t, "the second call", err, code, "backendError")
		}
	}
	s.SetFault(gmailtest.FailNth("profile", 1, gmailtest.Fault{Cut: true}))
	if _, err := u.GetProfile("me").Do(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut body: %v", err)
	}
	s.SetFault(gmailtest.FailNth("profile", 1, gmailtest.Fault{Garbage: true}))
	var syntax *json.SyntaxError
	if _, err := u.GetProfile("me").Do(); !errors.As(err, &syntax) {
		t.Errorf("garbage: %v", err)
	}
	id := a.Deliver(mail("a@x"))
	s.SetFault(func(r gmailtest.Request) gmailtest.Fault {
		if r.Account != rita || r.ID != id {
			t.Errorf("the hook sees %+v", r)
		}
		a.Delete(r.ID)
		return gmailtest.Fault{}
	})
	_, err := u.Messages.Get("me", id).Format("minimal").Do()
	failsWith(t, "a mail that vanishes", err, 404, "notFound")
}

// The server's OAuth against Google's own library.
func TestOAuthWithTheLibrary(t *testing.T) {
	s := gmailtest.Start(gmailtest.Options{Rotate: true})
	t.Cleanup(s.Close)
	s.AddClient("c", "s")
	s.Account(rita)
	s.SetConsent(gmailtest.Consent{Account: rita})
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: base})
	conf := &oauth2.Config{ClientID: "c", ClientSecret: "s", RedirectURL: "http://127.0.0.1:1/", Scopes: []string{metadata},
		Endpoint: oauth2.Endpoint{AuthURL: s.AuthURL, TokenURL: s.TokenURL, AuthStyle: oauth2.AuthStyleInParams}}
	code := func(verifier string) string {
		c := &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		resp := must(c.Get(conf.AuthCodeURL("st", oauth2.S256ChallengeOption(verifier))))(t)
		resp.Body.Close()
		u := must(url.Parse(resp.Header.Get("Location")))(t)
		if u.Query().Get("state") != "st" {
			t.Errorf("the redirect is %s", u)
		}
		return u.Query().Get("code")
	}
	v := oauth2.GenerateVerifier()
	_, err := conf.Exchange(ctx, code(v), oauth2.VerifierOption(oauth2.GenerateVerifier()))
	tokenFails(t, "another verifier", err, "invalid_grant")
	c := code(v)
	token := must(conf.Exchange(ctx, c, oauth2.VerifierOption(v)))(t)
	if token.Extra("scope") != metadata || token.RefreshToken == "" || time.Until(token.Expiry) < 50*time.Minute {
		t.Error("the token lacks scope, refresh token or a life of an hour")
	}
	_, err = conf.Exchange(ctx, c, oauth2.VerifierOption(v))
	tokenFails(t, "a code used twice", err, "invalid_grant")

	refresh := func(old string) (*oauth2.Token, error) {
		return conf.TokenSource(ctx, &oauth2.Token{RefreshToken: old}).Token()
	}
	fresh := must(refresh(token.RefreshToken))(t)
	if fresh.RefreshToken == token.RefreshToken {
		t.Error("the refresh token was not rotated")
	}
	_, err = refresh(token.RefreshToken)
	tokenFails(t, "a rotated token", err, "invalid_grant")
	s.Revoke(rita, "")
	_, err = refresh(fresh.RefreshToken)
	tokenFails(t, "a revoked token", err, "invalid_grant")
	_, err = clientFor(t, s, fresh.AccessToken).GetProfile("me").Do()
	failsWith(t, "its access token", err, 401, "authError")
	conf.ClientSecret = "wrong"
	_, err = refresh(fresh.RefreshToken)
	tokenFails(t, "another secret", err, "invalid_client")
}

func tokenFails(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e *oauth2.RetrieveError
	if !errors.As(err, &e) || e.ErrorCode != code && !strings.Contains(string(e.Body), `"`+code+`"`) {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func TestServiceAccountWithTheLibrary(t *testing.T) {
	s := gmailtest.Start(gmailtest.Options{})
	t.Cleanup(s.Close)
	s.Account(rita)
	s.Delegate(metadata)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: base})
	fetch := func(subject string, scopes ...string) (*oauth2.Token, error) {
		conf := must(google.JWTConfigFromJSON(s.ServiceAccountKey(), scopes...))(t)
		conf.Subject = subject
		return conf.TokenSource(ctx).Token()
	}
	token := must(fetch(rita, metadata))(t)
	if p := must(clientFor(t, s, token.AccessToken).GetProfile("me").Do())(t); p.EmailAddress != rita {
		t.Error("the token opens another account")
	}
	_, err := fetch(rita, readonly)
	tokenFails(t, "a scope that is not allowed", err, "unauthorized_client")
	_, err = fetch("gone@example.com", metadata)
	tokenFails(t, "nobody's subject", err, "invalid_grant")
	other := gmailtest.New(gmailtest.Options{}) // its key, sent here
	conf := must(google.JWTConfigFromJSON(other.ServiceAccountKey(), metadata))(t)
	conf.Subject, conf.TokenURL = rita, s.TokenURL
	_, err = conf.TokenSource(ctx).Token()
	tokenFails(t, "another key", err, "invalid_grant")
}

// The description itself finds what an emulator got wrong.
func TestDiscoveryFindsMistakes(t *testing.T) {
	d := discovery(t)
	good := gmailtest.Request{Call: "history", Query: url.Values{"startHistoryId": {"5"}, "fields": {"x"}}}
	tests := []struct {
		name, call, body string
		query            url.Values
	}{
		{"an id of 21 digits", "profile", `{"historyId":"170000000000000000001"}`, nil},
		{"an id as a number", "profile", `{"historyId":5}`, nil},
		{"a field that Google does not have", "profile", `{"colour":"red"}`, nil},
		{"a list that is none", "list", `{"messages":{}}`, nil},
		{"null", "list", `{"messages":null}`, nil},
		{"a wrong value deep inside", "history", `{"history":[{"messagesAdded":[{"message":{"id":7}}]}]}`, nil},
		{"a parameter that is not the call's", "profile", `{}`, url.Values{"q": {"x"}}},
		{"a format that does not exist", "get", `{}`, url.Values{"format": {"headers"}}},
		{"a size that is no number", "list", `{}`, url.Values{"maxResults": {"many"}}},
		{"a parameter twice", "list", `{}`, url.Values{"q": {"a", "b"}}},
		{"a call that does not exist", "colour", `{}`, nil},
		{"no JSON", "profile", `<html>`, nil},
	}
	for _, tt := range tests {
		if err := d.Check(gmailtest.Request{Call: tt.call, Query: tt.query}, []byte(tt.body)); err == nil {
			t.Errorf("%s is taken", tt.name)
		}
	}
	if err := d.Check(good, []byte(`{"historyId":"7","history":[{"id":"6","labelsRemoved":[{"labelIds":["SPAM"],"message":{"id":"a"}}]}]}`)); err != nil {
		t.Errorf("a good answer: %v", err)
	}
}
