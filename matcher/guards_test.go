package matcher_test

import (
	"fmt"
	"strings"
	"testing"

	"mailsyncd/matcher"
)

func TestOwnAddress(t *testing.T) {
	check(t, []row{
		{"refuses a mailbox's alias", "to: rita.keller@example.com",
			"refuse alias: own_address (mailbox rita); refuse alias: staff_domain (example.com)"},
		{"refuses a +tag of a mailbox", "to: rita+cv@example.com",
			"refuse ritatag: own_address (mailbox rita); refuse ritatag: staff_domain (example.com)"},
		{"refuses a mailbox outside company.domains", "to: tom@private.test",
			"refuse tom: own_address (mailbox tom)"},
		{"refuses a user who has no mailbox", "from: uma@outside.test", "refuse uma: own_address (user)"},
		{"refuses a +tag of a user", "from: uma+x@outside.test", "refuse umatag: own_address (user)"},
		{"refuses whichever mailbox holds the mail", "from: tom@private.test; to: x@y.test",
			"refuse tom: own_address (mailbox tom)"},
		{"lets others pass", "from: nora@example.net", "match nora by nora@example.net in from; inbound"},
	})
}

func TestStaffDomain(t *testing.T) {
	check(t, []row{
		{"refuses a colleague", "from: sven@example.com", "refuse sven: staff_domain (example.com)"},
		{"refuses a colleague at an international domain, however it is written", "from: anna@BÜCHER-müller.de",
			"refuse idn: staff_domain (Bücher-Müller.DE)"},
		{"lets an internal applicant pass", "from: nina@example.com",
			"match nina by nina@example.com in from; inbound"},
		{"refuses a +tag of an internal applicant, which is not excepted", "from: nina+x@example.com",
			"refuse ninatag: staff_domain (example.com)"},
		{"takes a subdomain for another domain", "from: sara@mail.example.com",
			"match sub by sara@mail.example.com in from; inbound"},
	})
}

func TestSharedAlias(t *testing.T) {
	check(t, []row{
		{"refuses a configured address", "to: desk@agency.test", "refuse desk: shared_alias (configured)"},
		{"refuses a +tag of a configured address", "to: desk+cv@agency.test", "refuse desktag: shared_alias (configured)"},
		{"refuses an address that two mailboxes own", "to: pool@partner.test",
			"refuse pool: own_address (mailbox rita); refuse pool: shared_alias (two mailboxes)"},
		{"refuses a role name at a company domain, even one excepted from staff", "to: hr@example.com",
			"refuse hr: shared_alias (role name hr)"},
		{"lets a person with a role in their name pass", "from: karl.office@example.com",
			"match karl by karl.office@example.com in from; inbound"},
		{"lets a role name at somebody else's domain pass", "from: jobs@small.test",
			"match smallfirm by jobs@small.test in from; inbound"},
	})
}

func TestRoleNamesAtACompanyDomain(t *testing.T) {
	roles := "jobs job career careers hr recruiting recruitment bewerbung bewerbungen info office team contact " +
		"hello noreply no-reply no_reply no.reply NO-REPLY do-not-reply donotreply jobs2 info01 hr-team team.hr " +
		"jobs_office people-ops human-resources talent.acquisition kontakt karriere support postmaster rrhh emplois"
	people := "nora infante teamer hrabal j.hr-mueller karl.office jobst officer info.mueller x hr.2b anna-team " +
		"recruiterin.meier 123 1.2 praca.nowak mailer ittner"
	for _, local := range strings.Fields(roles) {
		if got := decideApplicant(t, local); !strings.HasPrefix(got, "refuse c: shared_alias (role name ") {
			t.Errorf("%s@example.com: %s, want it refused as a role", local, got)
		}
	}
	for _, local := range strings.Fields(people) {
		if got := decideApplicant(t, local); !strings.HasPrefix(got, "match c ") {
			t.Errorf("%s@example.com: %s, want it matched as a person", local, got)
		}
	}
}

// decideApplicant decides a mail from an internal applicant of that name.
func decideApplicant(t *testing.T, local string) string {
	t.Helper()
	address := local + "@example.com"
	cfg := matcher.Config{Domains: []string{"example.com"}, InternalApplicants: []string{address}}
	return verdict(newMatcher(t, cfg).Decide(mail(t, "from: "+address), candidates(t, "", "c "+address)))
}

func TestBulk(t *testing.T) {
	const nora = "match nora by nora@example.net in "
	check(t, []row{
		{"refuses a mail with List-Id, even from the candidate", "from: nora@example.net; list-id",
			"refuse nora: bulk (list_id)"},
		{"refuses a mail with List-Post", "from: nora@example.net; list-post", "refuse nora: bulk (list_post)"},
		{"refuses Precedence bulk", "from: nora@example.net; precedence: bulk", "refuse nora: bulk (precedence_bulk)"},
		{"refuses Precedence list", "from: nora@example.net; precedence: list", "refuse nora: bulk (precedence_list)"},
		{"refuses Precedence junk", "from: nora@example.net; precedence: junk", "refuse nora: bulk (precedence_junk)"},
		{"names all marks", "from: nora@example.net; list-post; precedence: list; list-id; list-unsubscribe",
			"refuse nora: bulk (list_id, list_post, precedence_list)"},
		{"lets any other Precedence pass", "from: nora@example.net; precedence: first-class", nora + "from; inbound"},
		{"lets an automatic answer pass", "from: nora@example.net; auto-submitted", nora + "from; inbound"},

		{"refuses List-Unsubscribe from a stranger", "from: news@shop.test; to: nora@example.net; list-unsubscribe",
			"refuse nora: bulk (list_unsubscribe)"},
		{"lets List-Unsubscribe pass from the candidate", "from: nora@example.net; list-unsubscribe", nora + "from; inbound"},
		{"lets List-Unsubscribe pass from a recruiter's outreach tool",
			"from: rita.keller+crm@example.com; to: nora@example.net; list-unsubscribe", nora + "to; outbound"},
		{"lets List-Unsubscribe pass from the owner of another mailbox",
			"from: tom@private.test; to: nora@example.net; list-unsubscribe",
			nora + "to; refuse tom: own_address (mailbox tom); outbound"},
		{"lets List-Unsubscribe pass from a user of the ATS",
			"from: uma+crm@outside.test; to: nora@example.net; list-unsubscribe",
			nora + "to; outbound"},
		{"refuses List-Unsubscribe from a colleague who is no user: the company's newsletter",
			"from: newsletter@example.com; to: nora@example.net; list-unsubscribe", "refuse nora: bulk (list_unsubscribe)"},
		{"refuses List-Unsubscribe from a mailbox that is configured as shared",
			"from: front@example.com; to: nora@example.net; list-unsubscribe",
			"refuse front: own_address (mailbox tom); refuse front: staff_domain (example.com); " +
				"refuse front: shared_alias (configured); refuse nora: bulk (list_unsubscribe)"},
		{"refuses List-Unsubscribe from an address two mailboxes own",
			"from: pool@partner.test; to: nora@example.net; list-unsubscribe",
			"refuse nora: bulk (list_unsubscribe); refuse pool: own_address (mailbox rita); " +
				"refuse pool: shared_alias (two mailboxes)"},
		{"refuses List-Unsubscribe for the candidate who did not write",
			"from: nora@example.net; to: omar@gmail.com; list-unsubscribe",
			nora + "from; refuse omar: bulk (list_unsubscribe); inbound"},
		{"lets List-Unsubscribe pass from two addresses of the candidate",
			"from: nora@example.net, nora.b@web.test; list-unsubscribe", "match nora by nora.b@web.test in from; inbound"},
		{"lets List-Unsubscribe pass from the candidate and a recruiter",
			"from: nora@example.net, rita.keller+x@example.com; list-unsubscribe", nora + "from; inbound"},
		{"refuses List-Unsubscribe from the candidate and a stranger",
			"from: nora@example.net, news@shop.test; list-unsubscribe", "refuse nora: bulk (list_unsubscribe)"},
		{"refuses List-Unsubscribe from nobody", "to: nora@example.net; list-unsubscribe",
			"refuse nora: bulk (list_unsubscribe)"},
		{"does not take Sender or Reply-To for the author",
			"from: news@shop.test; sender: nora@example.net; reply-to: nora@example.net; list-unsubscribe",
			"refuse nora: bulk (list_unsubscribe)"},
	})
}

func TestFanOut(t *testing.T) {
	check(t, []row{
		{"lets as many recipients pass as are allowed", "from: nora@example.net; to: a@x.test, b@x.test; cc: c@x.test, d@x.test",
			"match nora by nora@example.net in from; inbound"},
		{"refuses one more", "from: nora@example.net; to: a@x.test, b@x.test, c@x.test; cc: d@x.test, e@x.test",
			"refuse nora: fan_out (5 of 4)"},
		{"counts an address once", "from: nora@example.net; to: a@x.test, A@x.test, b@x.test; cc: b@x.test, c@x.test, d@x.test",
			"match nora by nora@example.net in from; inbound"},
		{"counts +tags as addresses of their own", "from: nora@example.net; to: a+1@x.test, a+2@x.test, a+3@x.test, a+4@x.test, a@x.test",
			"refuse nora: fan_out (5 of 4)"},
		{"does not count From, Sender, Reply-To and Bcc",
			"from: nora@example.net; sender: f@x.test; reply-to: g@x.test, h@x.test; bcc: i@x.test, j@x.test; to: a@x.test, b@x.test",
			"match nora by nora@example.net in from; inbound"},
	})
}

func TestFanOutIsSwitchedOffByZero(t *testing.T) {
	cfg := company()
	cfg.MaxRecipients = 0
	var to []string
	for i := range 500 {
		to = append(to, fmt.Sprintf("a%d@x.test", i))
	}
	d := newMatcher(t, cfg).Decide(mail(t, "from: nora@example.net; to: "+strings.Join(to, ", ")), people(t))
	if got, want := verdict(d), "match nora by nora@example.net in from; inbound"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIgnoredSender(t *testing.T) {
	const refused = "refuse nora: ignored_sender (NoReply@ats.example.com)"
	check(t, []row{
		{"refuses the ATS's own notifications", "from: noreply@ats.example.com; to: nora@example.net",
			refused + "; refuse robot: ignored_sender (NoReply@ats.example.com)"},
		{"refuses a +tag of the sender", "from: noreply+77@ats.example.com; to: nora@example.net", refused},
		{"refuses when it is one of two authors", "from: nora@example.net, noreply+a@ats.example.com", refused},
		{"does not ask about other fields", "from: nora@example.net; to: noreply+a@ats.example.com; reply-to: noreply+b@ats.example.com",
			"match nora by nora@example.net in from; inbound"},
	})
}

func TestInactive(t *testing.T) {
	check(t, []row{
		{"refuses a stopped candidate", "from: stan@example.net", "refuse stan: inactive (stopped)"},
		{"refuses a candidate whose jobs are archived", "from: clara@example.net", "refuse clara: inactive (jobs_archived)"},
		{"refuses a held address", "from: held@example.net", "refuse held: inactive (held)"},
		{"does not touch the others in the mail", "from: stan@example.net; to: nora@example.net",
			"match nora by nora@example.net in to; refuse stan: inactive (stopped); other"},
	})
}

func TestInactiveIsOfTheCandidateNotOfTheAddress(t *testing.T) {
	dir := candidates(t, "", "old family@home.test !jobs_archived", "new family@home.test")
	d := newMatcher(t, company()).Decide(mail(t, "from: family@home.test"), dir)
	want := "match new by family@home.test in from; refuse old: inactive (jobs_archived); inbound"
	if got := verdict(d); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestIgnoredFolder(t *testing.T) {
	check(t, []row{
		{"refuses a mail in a folder that is left out", "from: nora@example.net; ignored",
			"refuse nora: ignored_folder (folder or label left out)"},
	})
}

func TestHorizon(t *testing.T) {
	const (
		in      = "match nora by nora@example.net in from; inbound"
		refused = "refuse nora: horizon (before 2026-11-07T00:00:00Z)"
	)
	check(t, []row{
		{"refuses old mail", "from: nora@example.net; arrival: before; date: before", refused},
		{"lets old mail pass that arrived lately (imported, moved)", "from: nora@example.net; arrival: after; date: before", in},
		{"lets mail pass that arrived before its Date (forged, a wrong clock)", "from: nora@example.net; arrival: before; date: after", in},
		{"lets mail pass that arrived at the horizon itself", "from: nora@example.net; arrival: at; date: before", in},
		{"lets mail pass whose Date is the horizon itself", "from: nora@example.net; arrival: before; date: at", in},
		{"asks Date when the arrival is unknown: old", "from: nora@example.net; arrival: unknown; date: before", refused},
		{"asks Date when the arrival is unknown: new", "from: nora@example.net; arrival: unknown; date: after", in},
		{"asks the arrival when Date is unreadable: old", "from: nora@example.net; arrival: before; date: unknown", refused},
		{"asks the arrival when Date is unreadable: new", "from: nora@example.net; arrival: after; date: unknown", in},
		{"lets mail pass when both are unknown", "from: nora@example.net; arrival: unknown; date: unknown", in},
		{"lets everything pass without a horizon", "from: nora@example.net; arrival: before; date: before; horizon: unknown", in},
	})
}

func TestEveryGuardSaysWhatWouldChangeIt(t *testing.T) {
	for _, g := range matcher.Guards {
		if len(g.Mend()) < 40 {
			t.Errorf("guard %s: %q is no advice", g, g.Mend())
		}
	}
	if got := matcher.Guard("nonsense").Mend(); got != "" {
		t.Errorf("a name that is no guard advises %q", got)
	}
}
