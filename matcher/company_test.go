package matcher_test

import (
	"strings"
	"testing"

	"mailsyncd/matcher"
)

func TestNewNamesEveryUnusableEntryByItsPlace(t *testing.T) {
	_, err := matcher.New(matcher.Config{
		Domains:            []string{"example.com", "secret@example.com", "", "*.example.com", "two words"},
		SharedAddresses:    []string{"secret"},
		InternalApplicants: []string{"ok@example.com", "@secret.test"},
		IgnoreFrom:         []string{"secret@"},
		MaxRecipients:      -1,
		Mailboxes:          []matcher.Owner{{ID: "rita", Addresses: []string{"rita@example.com", "secret"}}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, place := range []string{
		"company.domains[1]", "company.domains[2]", "company.domains[3]", "company.domains[4]",
		"company.shared_addresses[0]", "company.internal_applicants[1]", "company.ignore_from[0]",
		"sync.max_recipients", `mailbox "rita"[1]`,
	} {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("the error does not name %s:\n%v", place, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows a value:\n%v", err)
	}
	if n := strings.Count(err.Error(), "\n") + 1; n != 9 {
		t.Errorf("%d problems, want 9:\n%v", n, err)
	}
}

func TestAnEmptyConfigurationGuardsWithTheDirectoryAlone(t *testing.T) {
	m := newMatcher(t, matcher.Config{})
	dir := candidates(t, "uma@outside.test", "uma uma@outside.test", "nora nora@example.net")
	got := verdict(m.Decide(mail(t, "from: uma@outside.test; to: nora@example.net"), dir))
	if want := "match nora by nora@example.net in to; refuse uma: own_address (user); outbound"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCompanyKnowsItsAddresses(t *testing.T) {
	m := newMatcher(t, company())
	rows := []struct {
		address string
		want    bool
		why     string
	}{
		{"anybody@example.com", true, "is in company.domains"},
		{"nina@example.com", true, "is in company.domains, applicant or not"},
		{"tom@private.test", true, "is a mailbox"},
		{"tom+x@private.test", true, "is a mailbox with a tag"},
		{"desk@agency.test", true, "is shared"},
		{"nora@example.net", false, "is a stranger's"},
		{"x@mail.example.com", false, "is in a subdomain"},
	}
	for _, r := range rows {
		if got := m.Company(fold(t, r.address)); got != r.want {
			t.Errorf("%s %s: Company says %v", r.address, r.why, got)
		}
	}
}
