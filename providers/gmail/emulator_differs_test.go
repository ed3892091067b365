package gmail_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailsyncd/providers/gmail"
)

// disagreements is the written list of what the emulator and gmailtest are
// known to disagree on, each with what both say and with what is known of the
// real Gmail. Every line is asked of both, so none of them goes stale, and a
// newer emulator shows what it has learned.
//
// Not in the list, because asking would take too long: after 4,999 requests in
// an hour with one token the emulator answers 403 in a form that is not
// Google's, so a large mailbox cannot be read from it.
var disagreements = []struct {
	what                string
	ask                 func(*testing.T, *side) string
	emulator, gmailtest string
	google              string
}{
	{"getProfile", statusOf("profile"), "404", "200", "has it; the proxy supplies it"},
	{"a history id is a uint64", isUint64, "no", "yes", "it is, by the discovery document; the proxy makes it one"},
	{"the history id of a mailbox in which nothing has happened", emptyHistory, "0", "over 0", "starts above 0, as far as known; the provider takes 0 for a broken answer"},
	{"a field mask", masksSnippet, "snippet", "no snippet", "masks; the provider reads nothing but what it asked for in any case"},
	{"metadataHeaders=message-id", headerCount("metadataHeaders=message-id"), "0", "1", "compares names without case; the provider writes them as RFC 5322 does"},
	{"List-Id, Auto-Submitted, Precedence, Sender", headerCount("metadataHeaders=List-Id&metadataHeaders=Auto-Submitted&metadataHeaders=Precedence&metadataHeaders=Sender"), "0", "4", "keeps every field; the emulator keeps ten names"},
	{"two To fields", headerCount("metadataHeaders=To"), "1", "2", "keeps both; the emulator keeps the last"},
	{"a Date that is not the arrival", dateKept, "arrival", "as sent", "keeps the sender's Date; the window by Date cannot be tried on the emulator"},
	{"a mail without Message-ID", messageIDInvented, "invented", "none", "invents none for mail that comes in"},
	{"a reply's thread", replyThread, "the first's", "its own", "threads by References and Subject; gmailtest only where a test says so"},
	{"a candidate's mail by address", searchByAddress, "0", "1", "finds it; the emulator knows no braces, cc:, bcc:, replyto: and -in:"},
	{"a mail by rfc822msgid:", findByID, "0", "1", "finds it; the emulator cuts the operator off one letter short"},
	{"a query in the scope gmail.metadata", statusAs(gmail.ModeMetadata.Scope(), "messages?q=in:inbox"), "200", "403", "refuses; the emulator knows no scopes"},
	{"a scope that is not Gmail's", statusAs("openid", "labels"), "200", "403", "refuses; as above"},
	{"a parameter that does not exist", statusOf("labels?colour=red"), "200", "400", "refuses"},
	{"a page token that was never given", statusOf("messages?pageToken=nonsense"), "200", "400", "refuses; then the provider lists again"},
	{"a mail is deleted between two pages of a listing", deletedBetweenPages, "1 skipped", "0 skipped", "is not documented; tokens of the emulator are offsets. What a walk skips is found by reconcile"},
	{"an old history id", forgottenHistory, "200", "404", "answers 404; the emulator forgets nothing"},
	{"labels in the record of a mail that was rescued since", labelsOfRecord, "INBOX", "SPAM", "is not documented; the provider reads both"},
	{"a sent draft", sentDraft, "the same id", "another id", "gives another id; the provider sees it either way"},
	{"an access token after its consent was withdrawn", accessAfterWithdrawal, "200", "401", "ends both"},
	{"a loopback port that was not registered", freePort, "400", "302", "takes any port of an installed app (RFC 8252 §7.3); tests register it"},
}

func testDisagreements(t *testing.T, e *emulator) {
	for _, d := range disagreements {
		t.Run(d.what, func(t *testing.T) {
			emulator, fake := d.ask(t, e.side(t, gmail.ModeSearch)), d.ask(t, fakeSide(t, gmail.ModeSearch))
			if emulator != d.emulator || fake != d.gmailtest {
				t.Errorf("the emulator says %q and gmailtest %q, the list %q and %q (Gmail %s)", emulator, fake, d.emulator, d.gmailtest, d.google)
			}
		})
	}
}

func statusOf(call string) func(*testing.T, *side) string { return statusAs(everything, call) }

func statusAs(scope, call string) func(*testing.T, *side) string {
	return func(t *testing.T, s *side) string {
		status, _ := s.ask(t, s.access(scope), call)
		return fmt.Sprint(status)
	}
}

// answer makes a call that must succeed, with every right there is.
func (s *side) answer(t *testing.T, call string) map[string]any {
	t.Helper()
	status, answer := s.ask(t, s.access(everything), call)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %v", call, status, answer)
	}
	return answer
}

// newest returns the newest mail of the listing.
func (s *side) newest(t *testing.T, query string) map[string]any {
	t.Helper()
	list, _ := s.answer(t, "messages?maxResults=1")["messages"].([]any)
	if len(list) != 1 {
		t.Fatalf("%d mails are listed", len(list))
	}
	return s.answer(t, fmt.Sprintf("messages/%s?format=metadata&%s", list[0].(map[string]any)["id"], query))
}

func isUint64(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	if _, err := strconv.ParseUint(s.position(t), 10, 64); err != nil {
		return "no"
	}
	return "yes"
}

func emptyHistory(t *testing.T, s *side) string {
	if s.newcomer(t).position(t) == "0" {
		return "0"
	}
	return "over 0"
}

// position is the newest history id, as the side itself writes it.
func (s *side) position(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(s.answer(t, "history?startHistoryId=1")["historyId"])
}

func masksSnippet(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	if _, came := s.newest(t, "fields=id,labelIds")["snippet"]; came {
		return "snippet"
	}
	return "no snippet"
}

// headersOf are the header fields of the newest mail: name and value.
func (s *side) headersOf(t *testing.T, query string) [][2]string {
	t.Helper()
	payload, _ := s.newest(t, query)["payload"].(map[string]any)
	list, _ := payload["headers"].([]any)
	var fields [][2]string
	for _, f := range list {
		field, _ := f.(map[string]any)
		fields = append(fields, [2]string{fmt.Sprint(field["name"]), fmt.Sprint(field["value"])})
	}
	return fields
}

func headerCount(query string) func(*testing.T, *side) string {
	return func(t *testing.T, s *side) string {
		s.deliver(t, mail("a@x", "To: bo@example.com\r\nList-Id: <l.example.net>\r\nAuto-Submitted: no\r\nPrecedence: bulk\r\nSender: s@example.net\r\n"), lately())
		return fmt.Sprint(len(s.headersOf(t, query)))
	}
}

func dateKept(t *testing.T, s *side) string {
	arrival := lately()
	sent := arrival.Add(-24 * time.Hour).UTC().Format(http.TimeFormat)
	s.deliver(t, "From: nora@example.net\r\nTo: rita@example.com\r\nMessage-ID: <a@x>\r\nDate: "+sent+"\r\n\r\nbody\r\n", arrival)
	switch got := s.headersOf(t, "metadataHeaders=Date")[0][1]; got {
	case sent:
		return "as sent"
	case arrival.UTC().Format(http.TimeFormat):
		return "arrival"
	default:
		return got
	}
}

func messageIDInvented(t *testing.T, s *side) string {
	s.deliver(t, "From: nora@example.net\r\nTo: rita@example.com\r\n\r\nbody\r\n", lately())
	if len(s.headersOf(t, "metadataHeaders=Message-ID")) > 0 {
		return "invented"
	}
	return "none"
}

// listed returns one field of every mail of a listing.
func (s *side) listed(t *testing.T, call, field string) []string {
	t.Helper()
	list, _ := s.answer(t, call)["messages"].([]any)
	var got []string
	for _, m := range list {
		got = append(got, fmt.Sprint(m.(map[string]any)[field]))
	}
	return got
}

func replyThread(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	s.deliver(t, mail("b@x", "In-Reply-To: <a@x>\r\nReferences: <a@x>\r\n"), lately())
	if len(slices.Compact(s.listed(t, "messages", "threadId"))) == 1 {
		return "the first's"
	}
	return "its own"
}

func searchByAddress(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	return fmt.Sprint(len(search(t, open(t, s.cfg), "nora@example.net").ids))
}

func findByID(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	found, err := open(t, s.cfg).Find(t.Context(), "a@x")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(len(found))
}

func deletedBetweenPages(t *testing.T, s *side) string {
	for i, id := range numbered(4, "a") {
		s.deliver(t, mail(id), lately().Add(-time.Duration(i)*time.Hour))
	}
	first := s.answer(t, "messages?maxResults=2")
	s.remove(t, "a0000@x") // the newest
	rest := s.listed(t, "messages?maxResults=2&pageToken="+url.QueryEscape(fmt.Sprint(first["nextPageToken"])), "id")
	return fmt.Sprintf("%d skipped", 2-len(rest))
}

func forgottenHistory(t *testing.T, s *side) string {
	s.deliver(t, mail("a@x"), lately())
	at := s.position(t)
	s.deliver(t, mail("b@x"), lately())
	s.forget()
	status, _ := s.ask(t, s.access(everything), "history?startHistoryId="+at)
	return fmt.Sprint(status)
}

func labelsOfRecord(t *testing.T, s *side) string {
	at := s.position(t)
	s.deliver(t, mail("a@x"), lately(), "SPAM")
	s.relabel(t, "a@x", []string{"INBOX"}, []string{"SPAM"})
	text := fmt.Sprint(s.answer(t, "history?historyTypes=messageAdded&startHistoryId="+at)["history"])
	_, labels, _ := strings.Cut(text, "labelIds:[")
	labels, _, _ = strings.Cut(labels, "]")
	return labels
}

func sentDraft(t *testing.T, s *side) string {
	s.saveDraft(t, mail("d@x"))
	draft := s.listed(t, "messages?labelIds=DRAFT", "id")
	s.sendDraft(t, "d@x")
	if slices.Equal(draft, s.listed(t, "messages?labelIds=SENT", "id")) {
		return "the same id"
	}
	return "another id"
}

func accessAfterWithdrawal(t *testing.T, s *side) string {
	token, err := s.cfg.Credential.Token(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.withdraw()
	status, _ := s.ask(t, token, "labels")
	return fmt.Sprint(status)
}

func freePort(t *testing.T, s *side) string {
	q := url.Values{
		"client_id": {clientID}, "redirect_uri": {"http://127.0.0.1:4711/"}, "response_type": {"code"}, "scope": {gmail.ModeMetadata.Scope()},
		"code_challenge_method": {"S256"}, "code_challenge": {strings.Repeat("x", 43)},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.authURL+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.calls.next.RoundTrip(req)
	if _, bad := textOf(resp, err); bad != nil {
		t.Fatal(bad)
	}
	return fmt.Sprint(resp.StatusCode)
}
