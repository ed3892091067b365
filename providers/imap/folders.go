package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailsyncd/providers"
)

// folder is one folder as LIST and STATUS describe it.
type folder struct {
	name   string // decoded
	delim  string // hierarchy delimiter; "" in a flat namespace
	role   role
	attrs  []imap.MailboxAttr
	shared bool // not in the personal namespace (RFC 2342)
	status status
}

// status is what STATUS says; zero fields are unknown.
type status struct {
	validity uint32
	next     uint32 // UIDNEXT
	messages uint32
	counted  bool // messages is known
}

func (f *folder) has(attr imap.MailboxAttr) bool {
	return slices.ContainsFunc(f.attrs, func(a imap.MailboxAttr) bool {
		return strings.EqualFold(string(a), string(attr))
	})
}

func (f *folder) selectable() bool {
	return !f.has(imap.MailboxAttrNoSelect) && !f.has(imap.MailboxAttrNonExistent)
}

func (f *folder) last() string {
	if f.delim == "" {
		return f.name
	}
	return f.name[strings.LastIndex(f.name, f.delim)+len(f.delim):]
}

// nearTop tells whether a folder lies where servers and mail programs put theirs:
// at the top, below INBOX, or below a bracketed root such as [Gmail]. Somebody's
// Clients/Drafts is no place for drafts.
func (f *folder) nearTop() bool {
	if f.delim == "" {
		return true
	}
	first, rest, below := strings.Cut(f.name, f.delim)
	if !below {
		return true
	}
	return !strings.Contains(rest, f.delim) && (strings.EqualFold(first, "INBOX") || strings.HasPrefix(first, "["))
}

// key sorts folders into the order of a walk: INBOX and Sent first, since they
// hold what people wait for, then by name.
func (f *folder) key() string {
	switch f.role {
	case roleInbox:
		return "0"
	case roleSent:
		return "1" + f.name
	}
	return "2" + f.name
}

// directory is the list of folders of a mailbox and what a walk makes of it.
type directory struct {
	all     []*folder // everything selectable and personal, in the order of a walk
	watched []*folder
}

// watch sorts out which folders a walk takes: all but Junk, Trash, Drafts, views
// and ignored ones. A Gmail mailbox (gmail) that shows \All keeps every mail
// there once and is read there only.
func watch(listed []*folder, namespaces *imap.NamespaceData, ignored []string, gmail bool) directory {
	assignRoles(listed)
	var d directory
	for _, f := range listed {
		f.shared = !isPersonal(f.name, namespaces)
		if f.selectable() && !f.shared {
			d.all = append(d.all, f)
		}
	}
	slices.SortFunc(d.all, func(a, b *folder) int { return strings.Compare(a.key(), b.key()) })
	for _, f := range d.all {
		if gmail && f.has(imap.MailboxAttrAll) {
			d.watched = []*folder{f}
			return d
		}
		if f.role <= roleSent && !isIgnored(f, namespaces, ignored) {
			d.watched = append(d.watched, f)
		}
	}
	return d
}

// assignRoles takes what the server marks; where it marks no folder of a role,
// the well-known names decide. What lies below such a folder is like it.
func assignRoles(listed []*folder) {
	marked := map[role]bool{}
	for _, f := range listed {
		if strings.EqualFold(f.name, "INBOX") {
			f.role = roleInbox
		}
		for _, a := range f.attrs {
			if r := specialUse(string(a)); r != roleNone && f.role == roleNone {
				f.role, marked[r] = r, true
			}
		}
	}
	for _, f := range listed {
		if f.role != roleNone || !f.nearTop() {
			continue
		}
		if r := wellKnown(foldName(f.last())); !marked[r] {
			f.role = r
		}
	}
	inherit(listed)
}

// inherit gives the folders below Junk, Trash and Drafts their parent's role: a
// deleted folder lies in Trash with all its mail.
func inherit(listed []*folder) {
	for _, f := range listed {
		if f.role != roleNone || f.delim == "" {
			continue
		}
		for _, p := range listed {
			left := p.role == roleJunk || p.role == roleTrash || p.role == roleDrafts
			if left && strings.HasPrefix(f.name, p.name+f.delim) {
				f.role = p.role
			}
		}
	}
}

// isPersonal tells whether a folder is the owner's own (RFC 2342 §5). Without
// an answer to NAMESPACE every folder counts as that.
func isPersonal(name string, ns *imap.NamespaceData) bool {
	if ns == nil {
		return true
	}
	personal := longestPrefix(name, ns.Personal)
	return personal >= longestPrefix(name, ns.Other) && personal >= longestPrefix(name, ns.Shared)
}

// longestPrefix is -1 when no namespace holds the name.
func longestPrefix(name string, ns []imap.NamespaceDescriptor) int {
	longest := -1
	for _, d := range ns {
		bare := d.Prefix
		if d.Delim != 0 {
			bare = strings.TrimSuffix(bare, string(d.Delim))
		}
		if strings.HasPrefix(name, d.Prefix) || name == bare {
			longest = max(longest, len(d.Prefix))
		}
	}
	return longest
}

// isIgnored tells whether the configuration leaves a folder out: by its name
// with or without the namespace's prefix, or that of a folder above it.
func isIgnored(f *folder, ns *imap.NamespaceData, ignored []string) bool {
	if len(ignored) == 0 {
		return false
	}
	names := []string{foldName(f.name)}
	if ns != nil {
		for _, d := range ns.Personal {
			if rest, ok := strings.CutPrefix(f.name, d.Prefix); ok && rest != "" {
				names = append(names, foldName(rest))
			}
		}
	}
	delim := foldName(f.delim)
	for _, name := range names {
		for _, ig := range ignored {
			if name == ig || delim != "" && strings.HasPrefix(name, ig+delim) {
				return true
			}
		}
	}
	return false
}

// list asks for the folders with their state, in one flight: ID and NAMESPACE
// the first time, LIST, and STATUS within it where the server can.
func (s *session) list() error {
	dir, err := s.listing()
	s.p.cfg.Meter.Request("list", providers.Result(err))
	if err != nil {
		return err
	}
	s.dir = dir
	s.p.notices.Tell("folder_name_unreadable", "folders are left out because their names are not valid IMAP names; rename them", s.conn.LeftOut())
	return nil
}

func (s *session) listing() (directory, error) {
	caps := s.client.Caps()
	if caps == nil {
		return directory{}, s.why("asking for the capabilities", errNoAnswer)
	}
	uncork := s.conn.Cork()
	left := s.leave(caps)
	introduced := s.introduce(caps)
	list := s.startList(caps)
	uncork()
	// The list first, whatever order the answers come in: the library holds only
	// some folders that nobody takes, and then stops reading.
	listed, err := list()
	left()
	introduced()
	if err != nil {
		return directory{}, err
	}
	gmail := caps.Has("X-GM-EXT-1")
	d := watch(listed, s.namespaces, s.p.ignored, gmail)
	return d, s.fillStatus(d.watched)
}

// leave closes the folder at hand, without waiting: of an open folder STATUS
// tells what the session knew when it looked last (RFC 9051 §6.3.11). NOOP makes
// a server without UNSELECT (RFC 3691) look again. The returned function takes
// the answer.
func (s *session) leave(caps imap.CapSet) (done func()) {
	if !s.selected {
		return func() {}
	}
	s.selected = false
	cmd := s.client.Noop
	if caps.Has(imap.CapUnselect) {
		cmd = s.client.Unselect
	}
	sent := cmd()
	return func() { _ = sent.Wait() }
}

// introduce says who we are, which some servers want to hear after the login,
// and asks for the namespaces; once a session and without waiting. The returned
// function takes the answers.
func (s *session) introduce(caps imap.CapSet) (done func()) {
	if s.introduced {
		return func() {}
	}
	s.introduced = true
	switch {
	case caps.Has("X-GM-EXT-1"):
		s.conn.AskThread("X-GM-THRID")
	case caps.Has("OBJECTID"):
		s.conn.AskThread("THREADID")
	}
	var waits []func()
	if caps.Has(imap.CapID) {
		cmd := s.client.ID(&imap.IDData{Name: "mailsyncd", Version: s.p.cfg.Version, Vendor: "mailsyncd"})
		waits = append(waits, func() { _, _ = cmd.Wait() })
	}
	if caps.Has(imap.CapNamespace) {
		cmd := s.client.Namespace()
		waits = append(waits, func() {
			if ns, err := cmd.Wait(); err == nil {
				s.namespaces = ns
			}
		})
	}
	return func() {
		for _, wait := range waits {
			wait()
		}
	}
}

// startList asks for every folder; with its status where LIST can tell it (RFC
// 5819). The returned function takes the answer.
func (s *session) startList(caps imap.CapSet) (wait func() ([]*folder, error)) {
	var opts *imap.ListOptions
	if caps.Has(imap.CapListStatus) && !s.plainList {
		opts = &imap.ListOptions{ReturnStatus: statusOptions(), ReturnSpecialUse: caps.Has(imap.CapSpecialUse)}
	}
	cmd := s.client.List("", "*", opts)
	return func() ([]*folder, error) {
		data, err := cmd.Collect()
		if refusal(err) != nil && opts != nil && s.conn.Err() == nil {
			s.plainList = true
			data, err = s.client.List("", "*", nil).Collect()
		}
		if err != nil {
			return nil, s.why("listing the folders", err)
		}
		return fromList(data), nil
	}
}

func statusOptions() *imap.StatusOptions {
	return &imap.StatusOptions{NumMessages: true, UIDNext: true, UIDValidity: true}
}

// fromList drops repeats: a server may list a folder twice, with other attributes.
func fromList(data []*imap.ListData) []*folder {
	byName := map[string]*folder{}
	var fs []*folder
	for _, d := range data {
		f := byName[d.Mailbox]
		if f == nil {
			f = &folder{name: d.Mailbox}
			byName[d.Mailbox] = f
			fs = append(fs, f)
		}
		f.attrs = append(f.attrs, d.Attrs...)
		if d.Delim != 0 {
			f.delim = string(d.Delim)
		}
		f.status.take(d.Status)
	}
	return fs
}

func (st *status) take(d *imap.StatusData) {
	if d == nil {
		return
	}
	st.validity, st.next = d.UIDValidity, uint32(d.UIDNext)
	if d.NumMessages != nil {
		st.messages, st.counted = *d.NumMessages, true
	}
}

// statusGroup is how many STATUS commands are under way at once: enough to hide
// the round trip, few enough for small server buffers.
const statusGroup = 50

// fillStatus asks for the state of the folders of which LIST told none. A folder
// that refuses stays unknown: opening it will tell why.
func (s *session) fillStatus(fs []*folder) error {
	var blank []*folder
	for _, f := range fs {
		if f.status == (status{}) {
			blank = append(blank, f)
		}
	}
	for group := range slices.Chunk(blank, statusGroup) {
		if err := s.statusOf(group); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) statusOf(group []*folder) error {
	waits := make([]func() (*imap.StatusData, error), len(group))
	uncork := s.conn.Cork()
	for i, f := range group {
		waits[i] = s.client.Status(f.name, statusOptions()).Wait
	}
	uncork()
	for i, wait := range waits {
		data, err := wait()
		if err != nil && (refusal(err) == nil || s.conn.Err() != nil) {
			return s.why("asking for the state of a folder", err)
		}
		if err == nil {
			group[i].status.take(data)
		}
	}
	return nil
}
