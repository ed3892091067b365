package matcher_test

import (
	"reflect"
	"slices"
	"testing"

	"mailsyncd/matcher"
)

func TestACandidateIsFoundInEveryAddressField(t *testing.T) {
	check(t, []row{
		{"in From", "from: nora@example.net; to: rita@example.com",
			"match nora by nora@example.net in from; refuse half: own_address (mailbox rita); refuse half: staff_domain (example.com); refuse rita: own_address (mailbox rita); refuse rita: staff_domain (example.com); inbound"},
		{"in Sender", "from: x@y.test; sender: nora@example.net", "match nora by nora@example.net in sender; other"},
		{"in Reply-To", "from: x@y.test; reply-to: nora@example.net", "match nora by nora@example.net in reply_to; other"},
		{"in To", "from: x@y.test; to: nora@example.net", "match nora by nora@example.net in to; other"},
		{"in Cc", "from: x@y.test; cc: nora@example.net", "match nora by nora@example.net in cc; other"},
		{"in Bcc", "from: x@y.test; bcc: nora@example.net", "match nora by nora@example.net in bcc; other"},
		{"however the address is spelt", "from: NORA@Example.NET", "match nora by nora@example.net in from; inbound"},
		{"by Gmail's own idea of sameness", "from: oma.r+jobs@googlemail.com", "match omar by omar@gmail.com in from; inbound"},
		{"not by a +tag elsewhere, which is another address", "from: nora+x@example.net", ""},
		{"not when nobody is named", "from: x@y.test; to: z@y.test", ""},
		{"not in a mail without addresses", "list-id", ""},
	})
}

func TestEachCandidateMatchesOnce(t *testing.T) {
	check(t, []row{
		{"named in several fields, with all of them",
			"cc: nora@example.net; from: nora@example.net; reply-to: nora@example.net",
			"match nora by nora@example.net in from+reply_to+cc; inbound"},
		{"by two addresses, shown by the one in the earlier field",
			"from: nora.b@web.test; to: nora@example.net",
			"match nora by nora.b@web.test in from+to; inbound"},
		{"by two addresses, shown by the one in the earlier field, whatever else it is in",
			"from: nora@example.net; cc: nora@example.net; to: nora.b@web.test",
			"match nora by nora@example.net in from+to+cc; inbound"},
		{"by two addresses in one field, shown by the first in the alphabet",
			"from: x@y.test; to: nora@example.net, nora.b@web.test",
			"match nora by nora.b@web.test in to; other"},
		{"two who share an address both match",
			"from: family@home.test",
			"match twin_a by family@home.test in from; match twin_b by family@home.test in from; inbound"},
		{"two in one mail both match",
			"from: nora@example.net; to: omar@gmail.com",
			"match nora by nora@example.net in from; match omar by omar@gmail.com in to; inbound"},
		{"by the address that passes when another is refused",
			"from: half@example.net; sender: rita@example.com",
			"match half by half@example.net in from; refuse half: own_address (mailbox rita); refuse half: staff_domain (example.com); refuse rita: own_address (mailbox rita); refuse rita: staff_domain (example.com); inbound"},
	})
}

func TestDirectionTellsWhoWrote(t *testing.T) {
	check(t, []row{
		{"inbound: the candidate wrote", "from: nora@example.net; to: omar@gmail.com",
			"match nora by nora@example.net in from; match omar by omar@gmail.com in to; inbound"},
		{"inbound: the candidate is one of two authors", "from: x@y.test, nora@example.net",
			"match nora by nora@example.net in from; inbound"},
		{"inbound: an internal applicant wrote", "from: nina@example.com; to: x@y.test",
			"match nina by nina@example.com in from; inbound"},
		{"outbound: a mailbox outside the company's domains wrote", "from: TOM@private.test; to: nora@example.net",
			"match nora by nora@example.net in to; refuse tom: own_address (mailbox tom); outbound"},
		{"outbound: a +tag of a mailbox wrote", "from: tom+hiring@private.test; to: nora@example.net",
			"match nora by nora@example.net in to; outbound"},
		{"outbound: a user of the ATS wrote", "from: uma+x@outside.test; to: nora@example.net",
			"match nora by nora@example.net in to; refuse umatag: own_address (user); outbound"},
		{"outbound: anybody of the company wrote", "from: boss@example.com; to: nora@example.net",
			"match nora by nora@example.net in to; outbound"},
		{"outbound: the shared desk wrote", "from: desk@agency.test; to: nora@example.net",
			"match nora by nora@example.net in to; refuse desk: shared_alias (configured); outbound"},
		{"other: a stranger wrote", "from: x@y.test; to: nora@example.net",
			"match nora by nora@example.net in to; other"},
		{"other: a candidate who is stopped wrote", "from: stan@example.net; to: nora@example.net",
			"match nora by nora@example.net in to; refuse stan: inactive (stopped); other"},
		{"other: nobody wrote", "to: nora@example.net", "match nora by nora@example.net in to; other"},
		{"none without a match", "from: stan@example.net", "refuse stan: inactive (stopped)"},
	})
}

func TestAllGuardsAreAskedOnceACandidateIsFound(t *testing.T) {
	m, dir := newMatcher(t, company()), people(t)
	all := matcher.Guards[:]
	if d := m.Decide(mail(t, "from: nora@example.net"), dir); !slices.Equal(d.Asked, all) {
		t.Errorf("a match asked %v, want all of %v", d.Asked, all)
	}
	if d := m.Decide(mail(t, "from: stan@example.net; list-id"), dir); !slices.Equal(d.Asked, all) {
		t.Errorf("a refusal asked %v, want all of %v", d.Asked, all)
	}
	if d := m.Decide(mail(t, "from: x@y.test; list-id"), dir); !reflect.DeepEqual(d, matcher.Decision{}) {
		t.Errorf("without a candidate: %+v, want the zero decision", d)
	}
}

func TestTheMatchShowsTheAddressAsTheHeaderSpeltIt(t *testing.T) {
	m, dir := newMatcher(t, company()), people(t)
	d := m.Decide(mail(t, "to: nora@example.net; from: Nora@EXAMPLE.net"), dir)
	if got := d.Matches[0].Address; got != "Nora@EXAMPLE.net" {
		t.Errorf("address %q, want the spelling of the first field", got)
	}
}

func TestEveryGuardThatRefusesIsNamed(t *testing.T) {
	m, dir := newMatcher(t, company()), people(t)
	d := m.Decide(mail(t, "from: noreply@ats.example.com; to: a@b.test, c@d.test, e@f.test, clara@example.net, front@example.com;"+
		"list-id; ignored; arrival: before; date: before"), dir)
	refused := map[matcher.Guard]bool{}
	for _, r := range d.Refusals {
		refused[r.Guard] = true
	}
	for _, g := range matcher.Guards {
		if !refused[g] {
			t.Errorf("guard %s is not among the refusals: %s", g, verdict(d))
		}
	}
	if len(d.Matches) > 0 {
		t.Errorf("and yet it matched: %s", verdict(d))
	}
}

func TestDecidingNothingAllocatesNothing(t *testing.T) {
	m := newMatcher(t, company())
	var dir matcher.Directory = people(t)
	in := mail(t, "from: x@y.test; to: a@b.test, c@d.test; cc: e@f.test; list-unsubscribe")
	if n := testing.AllocsPerRun(100, func() { m.Decide(in, dir) }); n != 0 {
		t.Errorf("%v allocations for a mail that names no candidate, want none", n)
	}
}
