package gmailtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Field is one header field of a mail.
type Field struct{ Name, Value string }

// Mail is one mail of an account.
type Mail struct {
	ID, ThreadID string // given by Deliver when empty
	Labels       []string
	Arrival      time.Time // zero: the server's now
	Header       []Field
	Body         string

	history uint64
}

// ParseMail reads a mail in the form of RFC 5322.
func ParseMail(text string) Mail {
	head, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n")
	m := Mail{Body: body}
	for line := range strings.Lines(head) {
		line = strings.TrimRight(line, "\n")
		if n := len(m.Header); n > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			m.Header[n-1].Value += "\r\n" + line
			continue
		}
		if name, value, ok := strings.Cut(line, ":"); ok {
			m.Header = append(m.Header, Field{name, strings.TrimSpace(value)})
		}
	}
	return m
}

// Account is one mailbox. Its methods may be called from any goroutine, also
// while the server answers.
type Account struct {
	s       *Server
	address string
	history uint64 // the newest history id
	records []record
	dropped uint64 // the newest id of a record that is forgotten
	mails   map[string]*Mail
	labels  map[string]string // user labels: id → name
	serial  uint64
}

// record is one change.
type record struct {
	id      uint64
	at      time.Time
	kind    string // messageAdded, messageDeleted, labelAdded, labelRemoved
	mail    string
	thread  string
	now     []string // labels of the mail after the change
	changed []string // labels that the change put on or took off
}

// Account returns the account with an address, and makes it when it is missing.
func (s *Server) Account(address string) *Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(address)
	if s.accounts[key] == nil {
		s.accounts[key] = &Account{s: s, address: address, history: 1_000, mails: map[string]*Mail{}, labels: map[string]string{}}
	}
	return s.accounts[key]
}

// Address is the account's primary address.
func (a *Account) Address() string { return a.address }

// HistoryID is the newest history id.
func (a *Account) HistoryID() uint64 {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	return a.history
}

// Deliver puts a mail into the account and returns its id. Without labels it
// goes to the inbox.
func (a *Account) Deliver(m Mail) string {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	return a.deliver(m)
}

func (a *Account) deliver(m Mail) string {
	a.serial++
	if m.ID == "" {
		m.ID = fmt.Sprintf("19%014x", a.serial)
	}
	m.ThreadID = cmp.Or(m.ThreadID, m.ID)
	if m.Labels == nil {
		m.Labels = []string{"INBOX", "UNREAD"}
	}
	if m.Arrival.IsZero() {
		m.Arrival = a.s.now()
	}
	m.Labels = slices.Clone(m.Labels)
	a.mails[m.ID] = &m
	a.record("messageAdded", &m, nil)
	return m.ID
}

// SaveDraft is an autosave: the draft with the old id ("" at first) is replaced
// by one with another id, which is returned.
func (a *Account) SaveDraft(old string, m Mail) string {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.remove(old)
	m.ID, m.Labels = "", []string{"DRAFT"}
	return a.deliver(m)
}

// SendDraft sends a draft: it vanishes, and a mail with another id is in SENT.
func (a *Account) SendDraft(id string) string {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	m := *a.mails[id]
	a.remove(id)
	m.ID, m.Labels = "", []string{"SENT"}
	return a.deliver(m)
}

// Delete removes a mail for good.
func (a *Account) Delete(id string) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.remove(id)
}

func (a *Account) remove(id string) {
	if m := a.mails[id]; m != nil {
		delete(a.mails, id)
		a.record("messageDeleted", m, nil)
	}
}

// Label puts labels on a mail and takes others off.
func (a *Account) Label(id string, on, off []string) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	m := a.mails[id]
	had := m.Labels
	m.Labels = slices.DeleteFunc(slices.Clone(had), func(l string) bool { return slices.Contains(off, l) })
	var added, removed []string
	for _, l := range on {
		if !slices.Contains(had, l) {
			m.Labels = append(m.Labels, l)
			added = append(added, l)
		}
	}
	for _, l := range off {
		if slices.Contains(had, l) {
			removed = append(removed, l)
		}
	}
	if len(added) > 0 {
		a.record("labelAdded", m, added)
	}
	if len(removed) > 0 {
		a.record("labelRemoved", m, removed)
	}
}

// MakeLabel makes a user label and returns its id.
func (a *Account) MakeLabel(name string) string {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	id := fmt.Sprintf("Label_%d", len(a.labels)+1)
	a.labels[id] = name
	return id
}

// IDs lists the mails, newest first.
func (a *Account) IDs() []string {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	var ids []string
	for _, m := range a.sorted() {
		ids = append(ids, m.ID)
	}
	return ids
}

// ForgetHistory forgets every change so far.
func (a *Account) ForgetHistory() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.history += 10
	a.dropped, a.records = a.history, nil
	a.history += 10
}

// Recreate makes the account anew under the same address: ids begin again.
func (a *Account) Recreate() {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.history, a.records, a.dropped = 100, nil, 0
}

// Rename gives the account another primary address; its tokens stay.
func (a *Account) Rename(address string) {
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	a.address = address
}

// record notes a change. Ids grow with gaps, as Gmail's do.
func (a *Account) record(kind string, m *Mail, changed []string) {
	a.history += 1 + a.history%5
	m.history = a.history
	a.records = append(a.records, record{
		id: a.history, at: a.s.now(), kind: kind, mail: m.ID, thread: m.ThreadID,
		now: slices.Clone(m.Labels), changed: changed,
	})
}

// expire forgets what is too old or too much.
func (a *Account) expire() {
	now := a.s.now()
	n := 0
	for _, r := range a.records {
		tooMany := a.s.opts.HistoryRecords > 0 && len(a.records)-n > a.s.opts.HistoryRecords
		if !tooMany && now.Sub(r.at) <= a.s.opts.HistoryAge {
			break
		}
		a.dropped = r.id
		n++
	}
	a.records = a.records[n:]
}

// sorted lists the mails, newest first.
func (a *Account) sorted() []*Mail {
	ms := make([]*Mail, 0, len(a.mails))
	for _, m := range a.mails {
		ms = append(ms, m)
	}
	slices.SortFunc(ms, compare)
	return ms
}

// compare orders newest first.
func compare(a, b *Mail) int {
	return cmp.Or(cmp.Compare(b.Arrival.UnixMilli(), a.Arrival.UnixMilli()), strings.Compare(b.ID, a.ID))
}

func (m *Mail) has(label string) bool { return slices.Contains(m.Labels, label) }

// field returns the values of a header field, lower-cased.
func (m *Mail) field(name string) string {
	var b strings.Builder
	for _, f := range m.Header {
		if strings.EqualFold(f.Name, name) {
			b.WriteString(strings.ToLower(f.Value))
			b.WriteByte('\n')
		}
	}
	return b.String()
}
