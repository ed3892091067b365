package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// maxFile bounds one configuration file: 20,000 mailboxes take about 4 MB.
const maxFile = 64 << 20

// Load reads the configuration file and the files it includes. On failure the
// error is an *Error with everything that is wrong. Secrets are not read here:
// a mailbox whose password file is missing must not keep the others from being
// polled. CheckFiles looks at them.
func Load(path string) (*Config, error) {
	l := &loader{env: os.Getenv, read: readRegular, glob: filepath.Glob}
	return l.load(path)
}

// loader is one run of Load. Its functions are the outside world.
type loader struct {
	env  func(string) string
	read func(path string) ([]byte, error)
	glob func(pattern string) ([]string, error)

	main    *source
	sources []*source // main first, then the included files
}

func (l *loader) load(path string) (*Config, error) {
	cfg := Default()
	cfg.File = path
	l.main = l.parse(path, &cfg)
	mailboxes := l.decodeMailboxes(l.main, &cfg)
	for _, file := range l.included(&cfg) {
		src := l.parse(file, &includeFile{})
		mailboxes = append(mailboxes, l.decodeMailboxes(src, &cfg)...)
	}
	l.inheritGmail(&cfg)
	cfg.Mailboxes = make([]Mailbox, len(mailboxes))
	cfg.byID = make(map[string]int, len(mailboxes))
	for i := range mailboxes {
		mailboxes[i].finish()
		cfg.Mailboxes[i] = *mailboxes[i].m
		cfg.byID[cfg.Mailboxes[i].ID] = i
	}
	l.validate(&cfg, mailboxes)
	cfg.lines = map[string]int{}
	for key, line := range l.main.lines {
		if !strings.HasPrefix(key, "mailboxes[") { // those know their own
			cfg.lines[key] = line
		}
	}
	if problems := l.problems(); len(problems) > 0 {
		return nil, &Error{problems}
	}
	return &cfg, nil
}

// includeFile is the shape of an included file.
type includeFile struct {
	Mailboxes []Mailbox `yaml:"mailboxes"`
}

func (l *loader) parse(file string, v any) *source {
	src := newSource(file, l.env)
	l.sources = append(l.sources, src)
	data, err := l.read(file)
	if err != nil {
		src.fail(0, "", "cannot be read: %s", readProblem(err))
		return src
	}
	src.parse(data, v)
	return src
}

// readProblem says why a file could not be read, without its name: that stands
// in front.
func readProblem(err error) string {
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it does not exist; check the path"
	case errors.Is(err, fs.ErrPermission):
		return "permission denied; let the user that runs mailsyncd read it"
	case errors.As(err, &path):
		return path.Err.Error()
	default:
		return err.Error()
	}
}

// included lists the files that the globs match, each once.
func (l *loader) included(cfg *Config) []string {
	var files []string
	for i, said := range cfg.Include {
		pattern := said
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(cfg.File), pattern)
		}
		key := fmt.Sprintf("include[%d]", i)
		matches, err := l.glob(pattern)
		switch {
		case err != nil:
			l.main.fail(l.main.line(key), key, "is not a glob; mind the brackets")
		case len(matches) == 0 && !strings.ContainsAny(pattern, `*?[\`):
			l.main.fail(l.main.line(key), key, "%s does not exist; check the path, or write a glob (*.yaml) that may match nothing", quote(said))
		}
		files = append(files, matches...)
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// mailboxNode is a mailbox with the place it comes from.
type mailboxNode struct {
	m *Mailbox
	scope
}

// decodeMailboxes reads the mailboxes of one file, each starting from the
// defaults. The defaults' lists are copied on write: decoding replaces a list,
// it never writes into one.
func (l *loader) decodeMailboxes(src *source, cfg *Config) []mailboxNode {
	if src.mailboxes == nil {
		return nil
	}
	nodes := make([]mailboxNode, len(src.mailboxes.Content))
	for i, n := range src.mailboxes.Content {
		key := fmt.Sprintf("mailboxes[%d]", i)
		m := &Mailbox{
			Interval:      cfg.Sync.Interval,
			IgnoreFolders: cfg.Defaults.IgnoreFolders,
			IMAP:          cfg.Defaults.IMAP,
			Gmail:         cfg.Defaults.Gmail,
			File:          src.file,
			Line:          n.Line,
		}
		src.lines[key] = n.Line
		src.value(key, n, reflect.ValueOf(m).Elem(), "")
		nodes[i] = mailboxNode{m, scope{src: src, prefix: key, defaults: l.main}}
	}
	return nodes
}

// finish fills in what follows from other keys. The problems of doing so are
// the validator's to report.
func (n mailboxNode) finish() {
	if n.m.Provider = n.provider(); n.m.Provider == ProviderGmail {
		n.m.IMAP = IMAP{}
		n.finishGmail("gmail", &n.m.Gmail)
		n.m.Gmail.place(n.m.ID, n.m.Address)
		return
	}
	n.m.Gmail = Gmail{}
	n.finishIMAP()
}

// provider is the kind of the block that counts: the mailbox's own, else the
// only one in the defaults.
func (n mailboxNode) provider() Provider {
	switch here, inDefaults := n.saidHere("gmail"), n.saidInDefaults("gmail"); {
	case n.saidHere("imap"):
		return ProviderIMAP
	case here, inDefaults && !n.saidInDefaults("imap"):
		return ProviderGmail
	}
	return ProviderIMAP
}

func (n mailboxNode) finishIMAP() {
	imap := &n.m.IMAP
	if imap.Port == 0 && !n.said("imap.port") {
		imap.Port = map[TLSMode]int{TLSImplicit: 993, TLSStartTLS: 143, TLSNone: 143}[imap.TLS]
	}
	// A credential that the login method does not use came from the defaults.
	switch imap.Auth {
	case AuthPassword:
		if !n.saidHere("imap.token_file") {
			imap.TokenFile = ""
		}
	case AuthXOAUTH2, AuthOAuthBearer:
		if !n.saidHere("imap.password_file") {
			imap.PasswordFile = ""
		}
	}
	place := placeholders(n.m.ID, n.m.Address)
	for _, s := range []*string{&imap.Username, &imap.CAFile, &imap.PasswordFile, &imap.TokenFile} {
		*s = place.Replace(*s)
	}
}

// finishGmail lets a credential that stands in a gmail block replace the other
// kind, which then came from the defaults.
func (s scope) finishGmail(key string, g *Gmail) {
	account, client := s.saidHere(key+".service_account_file"), s.saidHere(key+".client_file")
	switch {
	case account && !client:
		g.ClientFile = ""
	case client && !account:
		g.ServiceAccountFile = ""
	}
}

// place fills in the placeholders of the files.
func (g *Gmail) place(id, address string) {
	place := placeholders(id, address)
	g.ServiceAccountFile, g.ClientFile = place.Replace(g.ServiceAccountFile), place.Replace(g.ClientFile)
}

func placeholders(id, address string) *strings.Replacer {
	return strings.NewReplacer("{id}", id, "{address}", address)
}

// inheritGmail gives mailboxes_from_users what it does not say of the defaults.
// Their lines are read after it, perhaps, so this comes when all are.
func (l *loader) inheritGmail(cfg *Config) {
	own, from := scope{src: l.main, prefix: "mailboxes_from_users"}, cfg.Defaults.Gmail
	g := &cfg.MailboxesFromUsers.Gmail
	for _, f := range []struct {
		key       string
		mine      *string
		inherited string
	}{
		{"service_account_file", &g.ServiceAccountFile, from.ServiceAccountFile},
		{"client_file", &g.ClientFile, from.ClientFile},
		{"quota_key", &g.QuotaKey, from.QuotaKey},
		{"mode", (*string)(&g.Mode), string(from.Mode)},
	} {
		if !own.saidHere("gmail." + f.key) {
			*f.mine = f.inherited
		}
	}
	own.finishGmail("gmail", g)
}

// problems gathers what is wrong, in the order of files and lines. What the
// defaults do wrong is found once a mailbox and said once.
func (l *loader) problems() []Problem {
	var all []Problem
	for _, s := range l.sources {
		slices.SortStableFunc(s.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		seen := map[Problem]bool{}
		for _, p := range s.problems {
			if !seen[p] {
				all = append(all, p)
			}
			seen[p] = true
		}
	}
	return all
}

// readRegular reads a regular file. A glob may meet a pipe, and reading that
// would wait for ever.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file; name a file")
	case info.Size() > maxFile:
		return nil, errors.New("it is larger than 64 MiB; name another file")
	}
	return os.ReadFile(path)
}
