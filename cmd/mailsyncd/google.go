package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"mailsyncd/config"
	"mailsyncd/directory"
	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/store"
)

// How a gmail block of the configuration becomes a mailbox that can be read.

// refreshToken is the name under which the store keeps a user's consent.
const refreshToken = "gmail refresh token"

// google makes the openers of Gmail mailboxes. One serves all: the mailboxes of
// a Cloud project share its quota.
type google struct {
	quota     gmail.Quota
	endpoint  string
	tokens    gmail.TokenStore
	directory func() *directory.Snapshot
	meter     *providers.Meter
	log       *slog.Logger

	mu       sync.Mutex
	limiters map[string]*gmail.Limiter // by Cloud project
	spent    map[string]gmail.DaySpent // what earlier processes left, by Cloud project
	noted    string                    // the newest note of what was spent
}

// newGoogle makes one that knows no users' consents and no directory: enough to
// look at mailboxes of service accounts.
func newGoogle(cfg config.Google, log *slog.Logger) *google {
	return &google{
		quota: quotaOf(cfg), endpoint: cfg.Endpoint, log: log, tokens: noTokens{},
		directory: func() *directory.Snapshot { return nil },
		limiters:  map[string]*gmail.Limiter{},
	}
}

// quotaOf is what a Cloud project may spend.
func quotaOf(cfg config.Google) gmail.Quota {
	q := gmail.NewProjectQuota()
	if cfg.Quota == config.QuotaOld {
		q = gmail.OldProjectQuota()
	}
	for _, n := range []struct {
		to   *int
		said int
	}{
		{&q.UserPerMinute, cfg.UserPerMinute}, {&q.ProjectPerMinute, cfg.ProjectPerMinute},
		{&q.ProjectPerDay, cfg.ProjectPerDay}, {&q.Prices.Profile, cfg.Prices.Profile},
		{&q.Prices.Labels, cfg.Prices.Labels}, {&q.Prices.History, cfg.Prices.History},
		{&q.Prices.List, cfg.Prices.List}, {&q.Prices.Get, cfg.Prices.Get},
	} {
		*n.to = cmp.Or(n.said, *n.to)
	}
	return q
}

// opener makes the opener of a mailbox.
func (g *google) opener(m config.Mailbox) (providers.Opener, error) {
	cfg := gmail.Config{
		Address: m.Address, Mode: gmail.Mode(m.Gmail.Mode), Credential: g.credential(m),
		Limiter: g.limiter(m), QuotaKey: m.Gmail.QuotaKey, IgnoreLabels: m.IgnoreFolders,
		Candidates: g.candidates, Endpoint: g.endpoint,
		Logger: g.log.With("mailbox", m.ID), Meter: g.meter, Version: buildVersion().Version,
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return gmail.New(cfg), nil
}

// candidates are the addresses to ask Google for.
func (g *google) candidates() []string {
	if snap := g.directory(); snap != nil {
		return snap.Matchable()
	}
	return nil
}

// credential is what opens a mailbox: the key of a service account or its user's
// consent. Files are read when a token is fetched, so that a changed one counts
// at once.
func (g *google) credential(m config.Mailbox) gmail.Credential {
	mode := gmail.Mode(m.Gmail.Mode)
	if m.Gmail.ServiceAccountFile == "" {
		return &consent{file: m.Gmail.ClientFile, user: gmail.UserConfig{
			Mailbox: m.ID, Mode: mode, Tokens: g.tokens, Meter: g.meter,
		}}
	}
	return gmail.ServiceAccount(gmail.ServiceAccountConfig{
		Key: func(context.Context) ([]byte, error) {
			key, err := config.ReadSecret(m.Gmail.ServiceAccountFile)
			return []byte(key.Reveal()), err
		},
		Subject: m.Address, Mode: mode, Meter: g.meter,
	})
}

// consent is the credential of a mailbox whose user connected it. The OAuth
// client stands in a file that may come later or change.
type consent struct {
	file string
	user gmail.UserConfig

	mu         sync.Mutex
	credential gmail.Credential // for user.Client; nil before the first
}

// Token implements gmail.Credential.
func (c *consent) Token(ctx context.Context, refused string) (string, error) {
	client, err := readClient(c.file)
	if err != nil {
		return "", err
	}
	return c.of(client).Token(ctx, refused)
}

func (c *consent) of(client gmail.Client) gmail.Credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credential == nil || client != c.user.Client {
		c.user.Client = client
		c.credential = gmail.User(c.user)
	}
	return c.credential
}

func readClient(file string) (gmail.Client, error) {
	secret, err := config.ReadSecret(file)
	if err != nil {
		return gmail.Client{}, &providers.ClassError{Class: providers.ClassConfig, Err: err}
	}
	return gmail.ParseClient([]byte(secret.Reveal()))
}

// limiter is the one of the mailbox's Cloud project.
func (g *google) limiter(m config.Mailbox) *gmail.Limiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	project := projectOf(m.SecretFile())
	if g.limiters[project] == nil {
		g.limiters[project] = gmail.NewLimiter(g.quota)
		g.limiters[project].Resume(g.spent[project])
	}
	return g.limiters[project]
}

// quotaNote is the store's note of what was spent in the last day, by Cloud
// project: {"project": gmail.DaySpent}.
const quotaNote = "gmail quota"

// recall reads what earlier processes spent, before the first limiter is made. A
// note of another version counts as none.
func (g *google) recall(ctx context.Context, notes store.Notes) error {
	note, err := notes.Note(ctx, quotaNote)
	if err != nil {
		return fmt.Errorf("reading what was spent of Google's quota: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(note) > 0 && json.Unmarshal(note, &g.spent) != nil {
		g.spent = nil
	}
	g.noted = string(note)
	return nil
}

// remember notes what was spent, if it is another than last time. It is called by
// one goroutine at a time. Projects that no mailbox is left of keep what they spent
// until their day is over: a mailbox may come back.
func (g *google) remember(ctx context.Context, notes store.Notes) error {
	all := g.spentByProject(time.Now())
	note, err := json.Marshal(all)
	if err != nil || string(note) == g.noted || len(all) == 0 && g.noted == "" {
		return err
	}
	if err := notes.SetNote(ctx, quotaNote, note); err != nil {
		return fmt.Errorf("noting what was spent of Google's quota: %w", err)
	}
	g.noted = string(note)
	return nil
}

func (g *google) spentByProject(now time.Time) map[string]gmail.DaySpent {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := maps.Clone(g.spent)
	if all == nil {
		all = map[string]gmail.DaySpent{}
	}
	maps.DeleteFunc(all, func(_ string, s gmail.DaySpent) bool { return s.Over(now) })
	for project, l := range g.limiters {
		all[project] = l.Spent()
	}
	return all
}

// projectOf names the Cloud project of a key or client file: the files of one
// project share its quota. A file that cannot be read stands for itself.
func projectOf(file string) string {
	var f struct {
		Project   string `json:"project_id"`
		Installed struct {
			Project string `json:"project_id"`
		} `json:"installed"`
	}
	if secret, err := config.ReadSecret(file); err == nil && json.Unmarshal([]byte(secret.Reveal()), &f) == nil {
		return cmp.Or(f.Project, f.Installed.Project, file)
	}
	return file
}

// storedTokens keeps users' consents, sealed.
type storedTokens struct{ store.Secrets }

// LoadToken implements gmail.TokenStore.
func (t storedTokens) LoadToken(ctx context.Context, mailbox string) (gmail.RefreshToken, error) {
	token, err := t.Secret(ctx, mailbox, refreshToken)
	return gmail.RefreshToken(token), err
}

// SaveToken implements gmail.TokenStore.
func (t storedTokens) SaveToken(ctx context.Context, mailbox string, token gmail.RefreshToken) error {
	return t.SetSecret(ctx, mailbox, refreshToken, []byte(token))
}

// noTokens is for commands that never open the store.
type noTokens struct{}

// LoadToken implements gmail.TokenStore.
func (noTokens) LoadToken(context.Context, string) (gmail.RefreshToken, error) { return "", nil }

// SaveToken implements gmail.TokenStore.
func (noTokens) SaveToken(context.Context, string, gmail.RefreshToken) error { return nil }
