package proptest_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"mailsyncd/message"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
	"mailsyncd/providers/providertest"
)

// mailServer is where the mail of one mailbox lies, with what a script does to it.
type mailServer interface {
	// opener opens it as a fresh process does.
	opener() providers.Opener
	Deliver(folder string, m providertest.Mail) (ref string)
	Move(ref, folder string) (now string)
	Delete(ref string) bool
	Expire()
	Sessions() int
}

// boxKind is what a mailbox is read through.
type boxKind int

const (
	imapLike  boxKind = iota // the scripted fake: numbers mail as IMAP does
	gmailMeta                // the Gmail provider with gmail.metadata
	gmailAsks                // the same with gmail.readonly: it asks first
	gmailBoth                // the one and the other, from start to start of the daemon
)

func (k boxKind) gmail() bool { return k != imapLike }

// kindOf says how a life reads a mailbox.
func (s script) kindOf(box string) boxKind {
	if !s.gmail {
		return imapLike
	}
	asks := gmailAsks
	if s.seed%4 == 1 {
		asks = gmailBoth
	}
	return map[string]boxKind{boxes[0]: gmailMeta, boxes[2]: asks}[box]
}

// now is what a mailbox is read through in this life of the daemon.
func (k boxKind) now(starts int) boxKind {
	if k == gmailBoth {
		return [...]boxKind{gmailAsks, gmailMeta}[starts%2]
	}
	return k
}

// ---- the fake ----------------------------------------------------------

type fakeServer struct{ *providertest.Fake }

func (f fakeServer) opener() providers.Opener { return f.Fake }

func newFakeServer(fault func(providertest.Op) error) fakeServer {
	f := providertest.NewFake()
	f.Deliver("Projects", providertest.Mail{Header: message.Parse(nil), Arrival: time.Now()})
	f.SetPageSize(2) // a handful of mails is a walk of several pages
	f.SetFault(fault)
	return fakeServer{f}
}

// ---- Gmail -------------------------------------------------------------

// gmailServer is the Gmail provider on the test server, called without a network.
type gmailServer struct {
	*gmailtest.Server
	account    *gmailtest.Account
	kind       boxKind
	tokens     *keptTokens
	candidates func() []string
	wire       func(*http.Response) // a planted bug, or nil
	sessions   int
}

const (
	oauthClient = "client-1"
	// foreverHistory keeps the history from expiring by itself: the script says when.
	foreverHistory = 10_000 * day
)

var labelsOf = map[string][]string{
	"INBOX": {"INBOX"}, "Sent": {"SENT"}, "Projects": {"Label_1"}, "Archive": {}, "Junk": {"SPAM"},
}

// newGmailServer makes an account. The seed varies how awkward the service is.
func newGmailServer(seed uint64, kind boxKind, address string, candidates func() []string, fault func(providertest.Op) error) *gmailServer {
	o := gmailtest.Options{
		HistoryAge: foreverHistory, MaxPage: 3, EmptyPages: seed%2 == 0, BareHistory: seed%3 == 0,
		NoReplyTo: true, Rotate: seed%5 == 0, AheadStatus: []int{0, http.StatusNotFound, http.StatusBadRequest}[seed%3],
	}
	if seed%4 == 0 {
		o.PageTokenLifetime = 10 * time.Minute
	}
	s := gmailtest.New(o)
	s.AddClient(oauthClient, "")
	g := &gmailServer{Server: s, account: s.Account(address), kind: kind, candidates: candidates, tokens: &keptTokens{}}
	g.account.MakeLabel("Projects")
	g.connect(kind)
	s.SetFault(func(r gmailtest.Request) gmailtest.Fault { return faultOf(r, fault(providertest.OpNext)) })
	return g
}

// connect gives the consent that a kind of mailbox needs.
func (g *gmailServer) connect(kind boxKind) {
	if g.tokens.token == "" || kind != g.kind {
		g.kind = kind
		g.tokens.token = gmail.RefreshToken(g.Grant(oauthClient, g.account.Address(), g.mode().Scope()))
	}
}

func (g *gmailServer) mode() gmail.Mode {
	if g.kind == gmailAsks {
		return gmail.ModeSearch
	}
	return gmail.ModeMetadata
}

// faultOf says as HTTP what a script says of a mail server.
func faultOf(r gmailtest.Request, err error) gmailtest.Fault {
	var slow *providers.ThrottledError
	switch {
	case err == nil:
		return gmailtest.Fault{}
	case errors.As(err, &slow):
		return gmailtest.Fault{Status: http.StatusTooManyRequests, Reason: "rateLimitExceeded", RetryAfter: "600"}
	case errors.Is(err, providers.ErrUnauthorized) && r.Call == "token":
		return gmailtest.Fault{Status: http.StatusBadRequest, Reason: "invalid_grant"}
	case errors.Is(err, providers.ErrUnauthorized):
		return gmailtest.Fault{Status: http.StatusForbidden, Reason: "domainPolicy"}
	}
	return gmailtest.Fault{Cut: true}
}

func (g *gmailServer) opener() providers.Opener {
	client := gmail.Client{ID: oauthClient, AuthURL: g.AuthURL, TokenURL: g.TokenURL}
	transport := g.Transport()
	if g.wire != nil {
		transport = lyingWire{transport, g.wire}
	}
	return &gmailOpener{g, gmail.New(gmail.Config{
		Address: g.account.Address(), Mode: g.mode(), Endpoint: g.URL, Transport: transport, Version: "test",
		Credential: gmail.User(gmail.UserConfig{Mailbox: "box", Client: client, Mode: g.mode(), Tokens: g.tokens, Transport: g.Transport()}),
		Candidates: g.candidates, PageSize: 3,
		AtOnce: 1, // a life must not depend on the scheduler
	})}
}

// gmailOpener counts the sessions that are open.
type gmailOpener struct {
	g *gmailServer
	*gmail.Provider
}

type gmailSession struct {
	providers.Mailbox
	g *gmailServer
}

func (o *gmailOpener) Open(ctx context.Context) (providers.Mailbox, error) {
	s, err := o.Provider.Open(ctx)
	if err != nil {
		return nil, err
	}
	o.g.sessions++
	return gmailSession{s, o.g}, nil
}

func (s gmailSession) Close() error {
	s.g.sessions--
	return s.Mailbox.Close()
}

func (g *gmailServer) Sessions() int { return g.sessions }

func (g *gmailServer) Deliver(folder string, m providertest.Mail) string {
	mail := gmailtest.ParseMail(m.Raw)
	mail.Labels, mail.Arrival = slices.Clone(labelsOf[folder]), m.Arrival
	return g.account.Deliver(mail)
}

// Move changes labels: a mail keeps its id.
func (g *gmailServer) Move(ref, folder string) string {
	var off []string
	for name, labels := range labelsOf {
		if name != folder {
			off = append(off, labels...)
		}
	}
	g.account.Label(ref, labelsOf[folder], off)
	return ref
}

func (g *gmailServer) Delete(ref string) bool {
	g.account.Delete(ref)
	return true
}

func (g *gmailServer) Expire() { g.account.ForgetHistory() }

// keptTokens is a gmail.TokenStore for one mailbox.
type keptTokens struct {
	mu    sync.Mutex
	token gmail.RefreshToken
}

func (k *keptTokens) LoadToken(context.Context, string) (gmail.RefreshToken, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.token, nil
}

func (k *keptTokens) SaveToken(_ context.Context, _ string, t gmail.RefreshToken) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.token = t
	return nil
}
