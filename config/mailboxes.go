package config

import (
	"strings"
	"time"
)

// checkMailbox checks one mailbox, defaults merged in. What it got from the
// defaults is reported there.
func checkMailbox(n mailboxNode) {
	m := n.m
	if n.required("id", m.ID, "give the mailbox a name for commands and logs") && (!mailboxID.MatchString(m.ID) || m.ID == "." || m.ID == "..") {
		n.fail("id", `%s cannot be an id; use letters, digits and . _ - @ +, at most 100`, quote(m.ID))
	}
	if n.required("address", m.Address, "write the mailbox's main address") {
		if wrong := wrongAddress(m.Address); wrong != "" {
			n.fail("address", "%s", wrong)
		} else if strings.Contains(m.Address, "/") {
			n.fail("address", "holds a slash, which cannot stand in a path; use another address as the main one")
		}
	}
	n.each("aliases", m.Aliases, wrongAddress)
	checkAliases(n)
	n.each("ignore_folders", m.IgnoreFolders, wrongFolder)
	if len(m.User) > 200 {
		n.fail("user", "is longer than 200 bytes; write the ATS's ref of the user")
	}
	if n.saidHere("interval") {
		n.lasts("interval", m.Interval, time.Second, day)
	}
	if checkKind(n); n.m.Provider == ProviderGmail {
		checkGmail(n.scope, "gmail", &m.Gmail)
		return
	}
	checkIMAP(n)
	checkPlaces(n)
}

// checkKind reports a mailbox of which nobody can tell how to read it.
func checkKind(n mailboxNode) {
	here := n.saidHere("imap") || n.saidHere("gmail")
	switch {
	case n.saidHere("imap") && n.saidHere("gmail"):
		n.fail("gmail", "stands beside imap; a mailbox has one of them, remove the other")
	case !here && n.saidInDefaults("imap") && n.saidInDefaults("gmail"):
		n.src.fail(n.src.line(n.prefix), n.prefix, "has neither imap nor gmail, and the defaults have both; write `imap: {}` or `gmail: {}` here")
	}
}

// checkGmail wants one credential, and no other.
func checkGmail(s scope, key string, g *Gmail) {
	s.oneOf(key+".mode", string(g.Mode), "metadata", "search")
	account, client := key+".service_account_file", key+".client_file"
	switch {
	case g.ServiceAccountFile == "" && g.ClientFile == "":
		s.fail(account, "is missing; name the key of a service account here or in defaults, or the OAuth client under client_file")
	case g.ServiceAccountFile != "" && g.ClientFile != "":
		s.fail(client, "stands beside service_account_file; a mailbox has one credential, remove the other")
	}
	for _, f := range []struct{ key, value string }{{account, g.ServiceAccountFile}, {client, g.ClientFile}} {
		if p := placeholder.FindString(f.value); p != "" && p != "{id}" && p != "{address}" {
			s.fail(f.key, "holds the unknown placeholder %s; {id} and {address} are known", p)
		}
	}
	if len(g.QuotaKey) > 100 {
		s.fail(key+".quota_key", "is longer than 100 bytes; any short name does")
	}
}

// checkAliases reports an alias that says nothing new.
func checkAliases(n mailboxNode) {
	seen := map[string]bool{foldAddress(n.m.Address): true}
	for i, alias := range n.m.Aliases {
		folded := foldAddress(alias)
		if seen[folded] {
			n.fail(index("aliases", i), "is an address that this mailbox has already; remove it")
		}
		seen[folded] = true
	}
}

func checkIMAP(n mailboxNode) {
	imap := &n.m.IMAP
	if n.required("imap.host", imap.Host, "name the mail server here or in defaults") {
		if wrong := wrongHost(imap.Host); wrong != "" {
			n.fail("imap.host", "%s", wrong)
		}
	}
	n.oneOf("imap.tls", string(imap.TLS), "implicit", "starttls", "none")
	n.oneOf("imap.auth", string(imap.Auth), "password", "xoauth2", "oauthbearer")
	if n.said("imap.port") {
		n.between("imap.port", imap.Port, 1, 65535)
	}
	if imap.TLS == TLSNone && !isLoopbackHost(imap.Host) {
		n.fail("imap.tls", "none would send the password in clear, only a loopback host may have it; write implicit or starttls")
	}
	if n.m.Address != "" { // else that is the fault
		n.required("imap.username", imap.Username, `write the user to log in as, or remove the line to use "{address}"`)
	}
	checkCredential(n)
}

// checkCredential wants the file of the login method, and none of the other's.
func checkCredential(n mailboxNode) {
	imap := &n.m.IMAP
	switch imap.Auth {
	case AuthPassword:
		n.required("imap.password_file", imap.PasswordFile, "name the file that holds the password, here or in defaults")
		if imap.TokenFile != "" {
			n.fail("imap.token_file", "is not used with auth: password; remove it, or set auth to xoauth2 or oauthbearer")
		}
	case AuthXOAUTH2, AuthOAuthBearer:
		n.required("imap.token_file", imap.TokenFile, "name the file that holds the access token, here or in defaults")
		if imap.PasswordFile != "" {
			n.fail("imap.password_file", "is not used with auth: %s; remove it, or set auth to password", imap.Auth)
		}
	}
}

// checkPlaces reports placeholders that were not filled in.
func checkPlaces(n mailboxNode) {
	imap := &n.m.IMAP
	for _, f := range []struct{ key, value string }{
		{"imap.username", imap.Username}, {"imap.ca_file", imap.CAFile},
		{"imap.password_file", imap.PasswordFile}, {"imap.token_file", imap.TokenFile},
	} {
		if p := placeholder.FindString(f.value); p != "" {
			n.fail(f.key, "holds the unknown placeholder %s; {id} and {address} are known", p)
		}
	}
}

// checkUnique reports ids and main addresses that two mailboxes claim, in
// whatever files. An address is named by its mailbox, never spelled.
func checkUnique(mailboxes []mailboxNode) {
	ids, addresses := map[string]*Mailbox{}, map[string]*Mailbox{}
	for _, n := range mailboxes {
		if first := claim(ids, n.m.ID, n.m); first != nil {
			n.fail("id", "%s is the id of the mailbox at %s:%d as well; give each its own", quote(n.m.ID), first.File, first.Line)
		}
		if first := claim(addresses, foldAddress(n.m.Address), n.m); first != nil {
			n.fail("address", "is the address of the mailbox at %s:%d as well; poll a mailbox once", first.File, first.Line)
		}
	}
}

// claim enters a mailbox under a key and returns the one that is there already.
func claim(taken map[string]*Mailbox, key string, m *Mailbox) *Mailbox {
	if first := taken[key]; first != nil || key == "" {
		return first
	}
	taken[key] = m
	return nil
}
