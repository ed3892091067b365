package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailsyncd/config"
	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/providertest"
	"mailsyncd/store/bolt"
	"mailsyncd/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a daemon with everything real but its mail servers, which are scripted,
// and its webhook, which is a list.
type rig struct {
	*daemon
	t       *testing.T
	dir     string
	servers map[string]*providertest.Fake
	posts   *postList
	log     *testutil.Log
}

// postList takes every event and remembers it.
type postList struct {
	mu     sync.Mutex
	events []postedEvent
	came   chan struct{} // capacity 1: there are more
}

type postedEvent struct {
	Type string `json:"type"`
	Data struct {
		Origin   string `json:"origin"`
		Messages []struct {
			MessageID  string `json:"message_id"`
			Candidates []struct {
				Ref string `json:"ref"`
			} `json:"candidates"`
		} `json:"messages"`
		Candidate string `json:"candidate"`
		Receipt   string `json:"receipt"`
	} `json:"data"`
}

func (l *postList) Post(_ context.Context, _ string, body []byte) webhook.Result {
	var e postedEvent
	if strings.Contains(string(body), `"thread.matched"`) || strings.Contains(string(body), `"candidate.purged"`) {
		if err := json.Unmarshal(body, &e); err != nil {
			return webhook.Result{Kind: webhook.EventFailure, Code: "400", Err: err}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	select {
	case l.came <- struct{}{}:
	default:
	}
	return webhook.Result{Kind: webhook.Accepted, Code: "204"}
}

// pairs lists "origin message-id candidate" of all posts.
func (l *postList) pairs() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		for _, m := range e.Data.Messages {
			for _, c := range m.Candidates {
				all = append(all, e.Data.Origin+" "+m.MessageID+" "+c.Ref)
			}
		}
	}
	slices.Sort(all)
	return all
}

// newRig makes a daemon for rita and tom. It knows the records, JSON lines; run
// starts it.
func newRig(t *testing.T, records ...string) *rig {
	t.Helper()
	r := &rig{
		t: t, dir: t.TempDir(), log: &testutil.Log{}, posts: &postList{came: make(chan struct{}, 1)},
		servers: map[string]*providertest.Fake{"rita": providertest.NewFake(), "tom": providertest.NewFake()},
	}
	r.directory(records...)
	r.write("webhook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	r.write("pw", "x")
	if err := bolt.NewKeyFile(r.path("key")); err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(r.config(), io.MultiWriter(r.log, t.Output()), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.daemon = d
	r.courier.Use(r.posts)
	r.fleet.dial = r.dial
	return r
}

func (r *rig) dial(m config.Mailbox) (providers.Opener, error) { return r.servers[m.ID], nil }

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// directory writes the directory file, complete.
func (r *rig) directory(records ...string) {
	end := fmt.Sprintf(`{"kind":"end","records":%d}`, len(records))
	r.write("directory.jsonl", strings.Join(append(records, end), "\n")+"\n")
}

func (r *rig) config() *config.Config {
	c := config.Default()
	c.File = r.path("config.yaml")
	c.Company.Domains = []string{"example.com"}
	c.Store.Path, c.Secrets.KeyFile, c.Directory.File = r.path("store"), r.path("key"), r.path("directory.jsonl")
	c.Sync.ResyncFile = r.path("resync")
	c.Webhook.URL, c.Webhook.SecretFile = "http://127.0.0.1:1/hook", r.path("webhook.secret")
	c.Webhook.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Admin.Socket, c.Metrics.Listen = r.path("s"), ""
	for _, id := range []string{"rita", "tom"} {
		c.Mailboxes = append(c.Mailboxes, config.Mailbox{
			ID: id, Address: id + "@example.com", User: "usr_" + id, Interval: time.Hour,
			IMAP: config.IMAP{Host: id + ".example", Port: 993, Auth: config.AuthPassword, PasswordFile: r.path("pw")},
		})
	}
	return &c
}

// run starts the daemon and waits for the first pass over both mailboxes.
func (r *rig) run() {
	r.t.Helper()
	r.start()
	r.synced()
}

// start starts the loops; they end, and the store is closed, with the test.
func (r *rig) start() {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.work(ctx) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			r.t.Errorf("the daemon ended with %v", err)
		}
		if err := r.close(); err != nil {
			r.t.Error(err)
		}
	})
	<-r.ready
	r.until("the mailboxes are known", func() bool { return len(r.fleet.ids()) == 2 })
}

// synced waits for a pass, that began after the call, over every mailbox that is
// polled.
func (r *rig) synced() {
	r.t.Helper()
	for id, err := range r.fleet.schedule.KickAll(r.t.Context()) {
		r.t.Errorf("%s was not polled: %v", id, err)
	}
}

// until waits for something that the daemon does by itself.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain until %s; the log:\n%s", what, r.log)
		}
		select {
		case <-r.posts.came:
		case <-time.After(5 * time.Millisecond): // not everything is a post
		}
	}
}

// wants waits until exactly these pairs were posted.
func (r *rig) wants(pairs ...string) {
	r.t.Helper()
	slices.Sort(pairs)
	r.until(fmt.Sprintf("%q are posted", pairs), func() bool { return len(r.posts.pairs()) >= len(pairs) })
	if got := r.posts.pairs(); !slices.Equal(got, pairs) {
		r.t.Errorf("posted %q, want %q", got, pairs)
	}
}

// delivered waits until every post is recorded.
func (r *rig) delivered() {
	r.t.Helper()
	r.until("everything is recorded as delivered", func() bool {
		s, err := r.store.Stats(r.t.Context())
		return err == nil && s.Pending == 0
	})
}

// mail delivers a mail to a mailbox; age is how long ago it came, more are fields
// of its header.
func (r *rig) mail(box, folder, id, from string, age time.Duration, more ...string) {
	at := time.Now().Add(-age)
	raw := fmt.Sprintf("From: %s\r\nTo: %s@example.com\r\nSubject: subject of %s\r\nMessage-ID: <%s>\r\nDate: %s\r\n",
		from, box, id, id, at.Format(time.RFC1123Z))
	for _, field := range more {
		raw += field + "\r\n"
	}
	r.servers[box].Deliver(folder, providertest.Mail{Raw: raw, Arrival: at})
}

const (
	nora  = `{"kind":"candidate","ref":"cand_nora","emails":["nora@example.net"],"jobs":["job_9"]}`
	ben   = `{"kind":"candidate","ref":"cand_ben","emails":["ben@example.net"]}`
	job9  = `{"kind":"job","ref":"job_9","state":"open"}`
	month = 30 * 24 * time.Hour
)
