package imap

import (
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"
)

func listed(delim string, names ...string) []*folder {
	var fs []*folder
	for _, n := range names {
		fs = append(fs, &folder{name: n, delim: delim})
	}
	return fs
}

func watchedNames(d directory) []string {
	var names []string
	for _, f := range d.watched {
		names = append(names, f.name)
	}
	return names
}

func TestWhichFoldersAreWatched(t *testing.T) {
	special := func(name string, attrs ...imap.MailboxAttr) *folder {
		return &folder{name: name, delim: "/", attrs: attrs}
	}
	tests := []struct {
		name    string
		folders []*folder
		ignored []string
		ns      *imap.NamespaceData
		want    []string
	}{
		{"German names", listed("/", "Entwürfe", "INBOX", "Papierkorb", "Gesendete Elemente", "Junk-E-Mail", "Kunden"), nil, nil, []string{"INBOX", "Gesendete Elemente", "Kunden"}},
		{"below INBOX, as Courier has them", listed(".", "INBOX", "INBOX.Trash", "INBOX.Sent", "INBOX.Drafts", "INBOX.Kunden", "INBOX.Trash.alt"), nil, nil, []string{"INBOX", "INBOX.Sent", "INBOX.Kunden"}},
		{"upper case and full-width letters", listed("/", "INBOX", "TRASH", "Ｓｐａｍ"), nil, nil, []string{"INBOX"}},
		{"somebody's own folder of such a name", listed("/", "INBOX", "Clients", "Clients/Drafts"), nil, nil, []string{"INBOX", "Clients", "Clients/Drafts"}},
		{"what the server marks counts more than names", []*folder{
			special("INBOX"), special("Müll", `\trash`), special("Trash"), special("Werbung", imap.MailboxAttrJunk),
		}, nil, nil, []string{"INBOX", "Trash"}},
		{"views", []*folder{special("INBOX"), special("All", imap.MailboxAttrAll), special("Star", imap.MailboxAttrFlagged), special("Imp", `\Important`)}, nil, nil, []string{"INBOX"}},
		{"what cannot be opened", []*folder{special("INBOX"), special("a", `\noselect`), special("b", imap.MailboxAttrNonExistent)}, nil, nil, []string{"INBOX"}},
		{"ignored with all below, in any case", listed("/", "INBOX", "Privat", "Privat/Arzt", "Private", "x/Privat"), []string{"PRIVAT"}, nil, []string{"INBOX", "Private", "x/Privat"}},
		{"ignored below the namespace's prefix", listed(".", "INBOX", "INBOX.Privat", "INBOX.Privat.Arzt", "INBOX.Work"), []string{"privat"},
			&imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Prefix: "INBOX.", Delim: '.'}}}, []string{"INBOX", "INBOX.Work"}},
		{"ignored by a path", listed("/", "INBOX", "a/b", "a/b/c", "a"), []string{"a/b"}, nil, []string{"INBOX", "a"}},
		{"a shared namespace without a prefix to it", listed("/", "INBOX", "user", "user/bob", "shared/x"), nil,
			&imap.NamespaceData{Personal: []imap.NamespaceDescriptor{{Prefix: "", Delim: '/'}}, Other: []imap.NamespaceDescriptor{{Prefix: "user/", Delim: '/'}}, Shared: []imap.NamespaceDescriptor{{Prefix: "shared/", Delim: '/'}}},
			[]string{"INBOX"}},
		{"other languages", listed("/", "INBOX", "Corbeille", "Papelera", "Cestino", "Prullenbak", "Lixeira", "Kosz", "Koš", "Papperskorgen", "Papirkurv", "Roskakori", "Lomtár", "Çöp Kutusu", "Корзина", "Кошик", "ゴミ箱", "已删除邮件", "휴지통", "Itens Enviados"), nil, nil, []string{"INBOX", "Itens Enviados"}},
	}
	for _, tt := range tests {
		if got := watchedNames(watch(tt.folders, tt.ns, folded(tt.ignored), false)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: watches %q, want %q", tt.name, got, tt.want)
		}
	}
}

func folded(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, foldName(n))
	}
	return out
}

func TestGmailWatchesAllMailOnlyWhenItIsShown(t *testing.T) {
	all := []*folder{
		{name: "INBOX", delim: "/"}, {name: "[Gmail]/All Mail", delim: "/", attrs: []imap.MailboxAttr{imap.MailboxAttrAll}},
	}
	if got := watchedNames(watch(all, nil, nil, true)); !slices.Equal(got, []string{"[Gmail]/All Mail"}) {
		t.Errorf("with All Mail: %q", got)
	}
	if got := watchedNames(watch(all[:1], nil, nil, true)); !slices.Equal(got, []string{"INBOX"}) {
		t.Errorf("without: %q", got)
	}
}
