package gmail_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"mailsyncd/providers"
	"mailsyncd/providers/gmail"
	"mailsyncd/providers/gmail/gmailtest"
	"mailsyncd/providers/providertest"
)

// labelled is an account as the suite wants it: folders are labels.
type labelled struct {
	*gmail.Provider
	w *world
}

var folders = map[string]string{"INBOX": "INBOX", "Sent": "SENT", "Junk": "SPAM"}

func (l labelled) Deliver(_ *testing.T, folder, mail string, arrival time.Time) {
	m := gmailtest.ParseMail(mail)
	m.Labels, m.Arrival = []string{folders[folder]}, arrival
	l.w.account.Deliver(m)
}

func (l labelled) Renumber(*testing.T) { l.w.account.ForgetHistory() }

func (l labelled) Open(ctx context.Context) (providers.Mailbox, error) {
	mb, err := l.Provider.Open(ctx)
	return inFolders{mb}, err
}

// inFolders says of a found mail in which folder the suite put it: Gmail has
// none, and the provider says so.
type inFolders struct{ providers.Mailbox }

func (m inFolders) Find(ctx context.Context, id string) ([]providers.Message, error) {
	found, err := m.Mailbox.Find(ctx, id)
	for i := range found {
		for folder, label := range folders {
			if slices.Contains(found[i].Labels, label) {
				found[i].Folder = folder
			}
		}
	}
	return found, err
}

func TestConformance(t *testing.T) {
	tests := []struct {
		name string
		mode gmail.Mode
		o    gmailtest.Options
	}{
		{"metadata", gmail.ModeMetadata, gmailtest.Options{}},
		{"search", gmail.ModeSearch, gmailtest.Options{}},
		{"small pages, empty ones between, bare records", gmail.ModeMetadata, gmailtest.Options{MaxPage: 2, EmptyPages: true, BareHistory: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			providertest.Run(t, func(t *testing.T) providertest.Server {
				w := newWorld(t, tt.o, tt.mode)
				w.cfg.PageSize = 3
				return labelled{gmail.New(w.cfg), w}
			})
		})
	}
}
