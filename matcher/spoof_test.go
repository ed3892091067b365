package matcher_test

import (
	"reflect"
	"strings"
	"testing"

	"mailsyncd/matcher"
	"mailsyncd/message"
)

// Two people are in the directory whom a stranger would like to be taken for.
const (
	victim      = "nora@example.net"
	gmailVictim = "omar@gmail.com"
)

// forms are entries of an address field that look like the victim and are not.
var forms = []struct{ what, entry string }{
	{"the victim as a display name", `"nora@example.net" <mallory@evil.test>`},
	{"the victim as a bare display name", `nora@example.net <mallory@evil.test>`},
	{"the victim in angle brackets inside quotes", `"Nora <nora@example.net>" <mallory@evil.test>`},
	{"the victim after a quoted comma", `"x, nora@example.net" <mallory@evil.test>`},
	{"the victim in a comment before", `(nora@example.net) mallory@evil.test`},
	{"the victim in a comment behind", `mallory@evil.test (nora@example.net)`},
	{"the victim in a nested comment", `mallory@evil.test ((nora@example.net), <nora@example.net>)`},
	{"the victim as an encoded word", `=?utf-8?q?nora=40example=2Enet?= <mallory@evil.test>`},
	{"an encoded word that closes the address", `=?utf-8?q?a_=3Cnora=40example=2Enet=3E=2C?= <mallory@evil.test>`},
	{"an encoded word in base64", `=?utf-8?b?bm9yYUBleGFtcGxlLm5ldA==?= <mallory@evil.test>`},
	{"the victim's address as a local part", `"nora@example.net"@evil.test`},
	{"the victim's domain as a label", `nora@example.net.evil.test`},
	{"the victim's domain behind another label", `nora@mail.example.net`},
	{"the victim's domain with a prefix", `nora@notexample.net`},
	{"the victim's domain with another ending", `nora@example.net.de`},
	{"the victim's name longer at the front", `anora@example.net`},
	{"the victim's name longer at the end", `noraa@example.net`},
	{"the victim's name with a dot, which counts there", `no.ra@example.net`},
	{"the victim's name with a tag, which counts there", `nora+x@example.net`},
	{"the percent hack", `nora%example.net@evil.test`},
	{"a bang path", `evil.test!nora%example.net@relay.test`},
	{"a source route through the victim's domain", `<@example.net:mallory@evil.test>`},
	{"a source route through the victim", `<@nora@example.net:mallory@evil.test>`},
	{"a Cyrillic o in the name", `nоra@example.net`},
	{"a Cyrillic a in the domain", `nora@exаmple.net`},
	{"a Greek o in the name", `nοra@example.net`},
	{"a Latin small capital in the name", `ɴora@example.net`},
	{"an accent on the name", `nóra@example.net`},
	{"an accent on the domain", `nora@éxample.net`},
	{"the domain with a hyphen", `nora@example-net`},
	{"another host of one letter less", `nora@exampl.net`},
	{"the victim as a group's name", `nora@example.net: mallory@evil.test;`},
	{"the victim as a group without members", `nora@example.net:;`},
	{"the victim as a mailto parameter", `<mailto:mallory@evil.test?cc=nora@example.net>`},
	{"Gmail's dots at another domain", `o.mar@gmail.com.evil.test`},
	{"Gmail's tag hiding another name", `mallory+omar@gmail.com`},
	{"a Gmail name one letter longer", `om.arr@gmail.com`},
	{"gmail with a dotless i", `omar@gmaıl.com`},
	{"a Gmail name with a hyphen", `o-mar@gmail.com`},
	{"Gmail under another ending", `omar@gmail.co`},
	{"no address at all", `nora at example.net`},
	{"two addresses without a comma, the name first", `"nora@example.net" mallory@evil.test`},
}

// elsewhere are header fields that name the victim and are no address field.
var elsewhere = []string{
	"Subject: nora@example.net", "Subject: Re: mail from Nora <nora@example.net>", "Message-ID: <nora@example.net>",
	"In-Reply-To: <nora@example.net>", "References: <a@b.test> <nora@example.net>", "Return-Path: <nora@example.net>",
	"Delivered-To: nora@example.net", "X-Original-To: nora@example.net", "X-Original-From: nora@example.net",
	"Envelope-To: nora@example.net", "Apparently-To: nora@example.net", "Resent-From: nora@example.net",
	"Resent-To: nora@example.net", "Resent-Cc: nora@example.net", "Resent-Sender: nora@example.net",
	"Errors-To: nora@example.net", "Disposition-Notification-To: nora@example.net", "X-From: nora@example.net",
	"X-To: nora@example.net", "From-Name: nora@example.net", "Comments: From: nora@example.net",
	"Received: from x (nora@example.net) by y for <nora@example.net>; Sat, 21 Nov 2026 10:00:00 +0000",
	"List-Owner: <mailto:nora@example.net>", "Mail-Followup-To: nora@example.net", "Organization: nora@example.net",
	"Keywords: nora@example.net", "Content-Type: text/plain; name=\"nora@example.net\"", "Date: nora@example.net",
	"Followup-To: nora@example.net", "Reply-To-Name: nora@example.net",
}

var fieldNames = [...]string{"From", "Sender", "Reply-To", "To", "Cc", "Bcc"}

// TestNobodyIsTakenForAnotherBySpoofing sends every form in every field, and
// every other field, through the real parser: none may match.
func TestNobodyIsTakenForAnotherBySpoofing(t *testing.T) {
	m, dir := newMatcher(t, company()), people(t)
	for _, name := range fieldNames {
		for _, f := range forms {
			block := name + ": " + f.entry + "\r\nMessage-ID: <1@evil.test>\r\n"
			wantNothing(t, m, dir, f.what+" in "+name, block)
		}
	}
	for _, line := range elsewhere {
		wantNothing(t, m, dir, strings.SplitN(line, ":", 2)[0], "From: mallory@evil.test\r\n"+line+"\r\n")
	}
	body := "From: mallory@evil.test\r\n\r\nFrom: nora@example.net\r\n"
	wantNothing(t, m, dir, "the victim below the header", body)
	if n := len(fieldNames)*len(forms) + len(elsewhere); n < 200 {
		t.Errorf("only %d cases", n)
	}
}

func wantNothing(t *testing.T, m *matcher.Matcher, dir matcher.Directory, what, block string) {
	t.Helper()
	h := message.Parse([]byte(block))
	if d := m.Decide(matcher.Mail{Header: &h}, dir); !reflect.DeepEqual(d, matcher.Decision{}) {
		t.Errorf("%s: %s", what, verdict(d))
	}
}

// TestTheVictimsAreThere shows that the spoofs above fail for their own reason.
func TestTheVictimsAreThere(t *testing.T) {
	m, dir := newMatcher(t, company()), people(t)
	for _, name := range fieldNames {
		for _, address := range []string{victim, gmailVictim, "Nora <" + victim + ">", "<o.m.a.r+x@googlemail.com>"} {
			h := message.Parse([]byte(name + ": " + address + "\r\n"))
			if d := m.Decide(matcher.Mail{Header: &h}, dir); len(d.Matches) != 1 {
				t.Errorf("%s: %s: %d matches, want 1", name, address, len(d.Matches))
			}
		}
	}
}

// TestNoSpellingOfAPrivateAddressGetsPastTheGuards puts every spelling of an
// address that is not one candidate's alone on a candidate's record, and into
// every field of a mail.
func TestNoSpellingOfAPrivateAddressGetsPastTheGuards(t *testing.T) {
	cfg := company()
	cfg.Mailboxes = append(cfg.Mailboxes, matcher.Owner{ID: "g", Addresses: []string{"team.lead@gmail.com", "ö.ö@bücher.test"}})
	m := newMatcher(t, cfg)
	spellings := []struct{ what, address string }{
		{"a mailbox", "rita@example.com"}, {"a mailbox in capitals", "RITA@EXAMPLE.COM"},
		{"a mailbox with a tag", "rita+1@example.com"}, {"a mailbox with two tags", "rita+1+2@example.com"},
		{"a mailbox with an empty tag", "rita+@example.com"}, {"a mailbox, quoted", `"rita"@example.com`},
		{"a mailbox, its domain with a dot behind", "rita@example.com."},
		{"an alias", "rita.keller@example.com"}, {"an alias with a tag", "Rita.Keller+ats@example.com"},
		{"a private mailbox", "tom@private.test"}, {"a private mailbox with a tag", "tom+x@private.test"},
		{"a Gmail mailbox without its dots", "teamlead@gmail.com"}, {"a Gmail mailbox with other dots", "t.e.a.m.lead@gmail.com"},
		{"a Gmail mailbox at googlemail", "team.lead@googlemail.com"}, {"a Gmail mailbox with a tag", "teamlead+z@GMAIL.com"},
		{"an international mailbox as an A-label", "ö.ö@xn--bcher-kva.test"}, {"an international mailbox in capitals", "Ö.Ö@BÜCHER.test"},
		{"an international mailbox with a tag", "ö.ö+x@bücher.test"}, {"an international mailbox, decomposed", "o\u0308.o\u0308@bu\u0308cher.test"},
		{"a user", "uma@outside.test"}, {"a user with a tag", "uma+a@outside.test"}, {"a user in capitals", "UMA@Outside.Test"},
		{"staff", "sven@example.com"}, {"staff at the other domain", "a@bücher-müller.de"},
		{"staff at the other domain in capitals", "A@BÜCHER-MÜLLER.DE"},
		{"a tag of an applicant", "nina+x@example.com"}, {"a role", "hr@example.com"},
		{"a shared desk", "desk@agency.test"}, {"a shared desk with a tag", "desk+9@agency.test"},
		{"a pool", "pool@partner.test"}, {"a pool with a tag", "pool+9@partner.test"},
	}
	for _, s := range spellings {
		dir := candidates(t, "uma@outside.test")
		key := fold(t, s.address)
		dir.entries[key] = candidates(t, "", "c x@y.test").entries["x@y.test"]
		for _, name := range fieldNames {
			h := message.FromFields([]message.Field{{Name: strings.ToLower(name), Value: s.address}})
			d := m.Decide(matcher.Mail{Header: &h}, dir)
			if len(d.Matches) > 0 || len(d.Refusals) == 0 {
				t.Errorf("%s in %s: %s", s.what, name, verdict(d))
			}
		}
	}
}
