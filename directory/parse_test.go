package directory_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailsyncd/directory"
	"mailsyncd/message"
)

func TestParseRecordAcceptsWhatTheReferenceShows(t *testing.T) {
	when := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what string
		line string
		want directory.Record
	}{
		{"a candidate with everything",
			`{"kind":"candidate","ref":"cand_123","emails":["nora@example.net"],"jobs":["job_9"],"state":"active","rev":"2026-11-20T10:00:00Z"}`,
			directory.Record{Kind: "candidate", Ref: "cand_123", State: "active", Rev: directory.Rev{Time: when, Set: true},
				Emails: []string{"nora@example.net"}, Keys: []string{"nora@example.net"}, Jobs: []string{"job_9"}, HasJobs: true}},
		{"a candidate is active unless it says otherwise, and has no job rule without the key",
			`{"kind":"candidate","ref":"c"}`,
			directory.Record{Kind: "candidate", Ref: "c", State: "active"}},
		{"an empty list of jobs is kept apart from none",
			`{"kind":"candidate","ref":"c","jobs":[]}`,
			directory.Record{Kind: "candidate", Ref: "c", State: "active", HasJobs: true, Jobs: []string{}}},
		{"keys are folded, and the same key comes once",
			`{"kind":"candidate","ref":"c","emails":["a@example.net","A@Example.net","N.Ora+x@googlemail.com"]}`,
			directory.Record{Kind: "candidate", Ref: "c", State: "active",
				Emails: []string{"a@example.net", "A@Example.net", "N.Ora+x@googlemail.com"}, Keys: []string{"a@example.net", "nora@gmail.com"}}},
		{"an address that stands twice has one key",
			`{"kind":"candidate","ref":"c","emails":["a@example.net","a@example.net"]}`,
			directory.Record{Kind: "candidate", Ref: "c", State: "active",
				Emails: []string{"a@example.net", "a@example.net"}, Keys: []string{"a@example.net"}}},
		{"a job is open by default", `{"kind":"job","ref":"job_9"}`,
			directory.Record{Kind: "job", Ref: "job_9", State: "open"}},
		{"an archived job", `{"kind":"job","ref":"job_9","state":"archived"}`,
			directory.Record{Kind: "job", Ref: "job_9", State: "archived"}},
		{"a user is enabled by default", `{"kind":"user","ref":"usr_7","emails":["rita@example.com"]}`,
			directory.Record{Kind: "user", Ref: "usr_7", State: "enabled", Emails: []string{"rita@example.com"}, Keys: []string{"rita@example.com"}}},
		{"a deleted record alone", `{"kind":"candidate","ref":"cand_77","deleted":true}`,
			directory.Record{Kind: "candidate", Ref: "cand_77", Deleted: true}},
		{"a deleted record keeps its rev and nothing else it says", `{"kind":"candidate","ref":"c","deleted":true,"emails":["a@example.net"],"rev":7}`,
			directory.Record{Kind: "candidate", Ref: "c", Deleted: true, Rev: directory.Rev{Int: 7, Set: true}}},
		{"deleted false is a live record", `{"kind":"job","ref":"j","deleted":false}`,
			directory.Record{Kind: "job", Ref: "j", State: "open"}},
		{"an integer rev, zero included", `{"kind":"job","ref":"j","rev":0}`,
			directory.Record{Kind: "job", Ref: "j", State: "open", Rev: directory.Rev{Set: true}}},
		{"a negative rev", `{"kind":"job","ref":"j","rev":-3}`,
			directory.Record{Kind: "job", Ref: "j", State: "open", Rev: directory.Rev{Int: -3, Set: true}}},
		{"a rev in another zone is the same moment", `{"kind":"job","ref":"j","rev":"2026-11-20T12:00:00+02:00"}`,
			directory.Record{Kind: "job", Ref: "j", State: "open", Rev: directory.Rev{Time: when, Set: true}}},
		{"the end line", `{"kind":"end","records":3}`, directory.Record{Kind: "end", Count: 3}},
		{"white space and escapes as JSON allows", "\t{ \"kind\" : \"job\" ,\r\"ref\":\"j\\u00e4\\n\\\"\"\t} ", directory.Record{}},
		{"white space and harmless escapes", "\t{ \"kind\" : \"job\" ,\r\"r\\u0065f\":\"j\\u00e4\\\"\"\t} ",
			directory.Record{Kind: "job", Ref: `jä"`, State: "open"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, err := directory.ParseRecord([]byte(c.line))
			if c.want.Kind == "" {
				if err == nil {
					t.Fatal("accepted; the ref holds a line end")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %#v\n%+v\nwant\n%+v", got, show(got), show(c.want))
			}
		})
	}
}

// show prints a record with its content, which Record itself never does.
func show(r directory.Record) string {
	b, _ := json.Marshal(struct {
		Kind, Ref, State   string
		Emails, Keys, Jobs []string
		Rev                string
	}{string(r.Kind), r.Ref, string(r.State), r.Emails, r.Keys, r.Jobs, r.Rev.String()})
	return string(b)
}

func TestParseRecordRefusesAndSaysTheMend(t *testing.T) {
	for _, c := range []struct{ what, line, says string }{
		{"an unknown key is named with the nearest legal one", `{"kind":"candidate","ref":"c","email":["nora@example.net"]}`, `unknown key "email"; did you mean "emails"?`},
		{"a key in the wrong case", `{"Kind":"candidate"}`, `did you mean "kind"?`},
		{"a key nobody can guess", `{"kind":"candidate","ref":"c","phone":"1"}`, `legal are kind, ref, emails`},
		{"a key that is an address is not shown", `{"nora@example.net":1}`, `unknown key (not shown)`},
		{"an unknown kind", `{"kind":"candidat","ref":"c"}`, `unknown kind "candidat"; did you mean "candidate"?`},
		{"no kind", `{"ref":"c"}`, `no "kind"; write one of candidate, job, user, end`},
		{"no ref", `{"kind":"job"}`, `"ref" must not be empty`},
		{"an empty ref", `{"kind":"job","ref":""}`, `"ref" must not be empty`},
		{"a ref of 201 bytes", `{"kind":"job","ref":"` + strings.Repeat("x", 201) + `"}`, `"ref" has 201 bytes; at most 200`},
		{"a control character in a ref", `{"kind":"job","ref":"a\u0007"}`, `"ref" holds a control or broken character`},
		{"half a surrogate in a ref", `{"kind":"job","ref":"a\ud800"}`, `"ref" holds a control or broken character`},
		{"a job of a candidate with a bad ref", `{"kind":"candidate","ref":"c","jobs":["a",""]}`, `"jobs[1]" must not be empty`},
		{"a ref that is a number", `{"kind":"job","ref":9}`, `"ref": broken JSON: column 21 should hold a string`},
		{"a key twice", `{"kind":"job","ref":"a","ref":"b"}`, `key "ref" stands twice`},
		{"a candidate in a user's state", `{"kind":"candidate","ref":"c","state":"enabled"}`, `the "state" of a candidate must be "active" or "stopped"`},
		{"a job in a candidate's state", `{"kind":"job","ref":"j","state":"active"}`, `the "state" of a job must be "open" or "archived"`},
		{"a user in a job's state", `{"kind":"user","ref":"u","state":"open"}`, `the "state" of a user must be "enabled" or "disabled"`},
		{"an empty state", `{"kind":"user","ref":"u","state":""}`, `must be "enabled" or "disabled"`},
		{"a state that is an address is not shown", `{"kind":"user","ref":"u","state":"nora@example.net"}`, `must be "enabled" or "disabled"`},
		{"an address without a domain is named by its index", `{"kind":"candidate","ref":"c","emails":["nora@example.net","nora"]}`, `emails[1] is not an address`},
		{"an address behind a folded one", `{"kind":"candidate","ref":"c","emails":["Nora@example.net","nora@"]}`, `emails[1] is not an address`},
		{"emails that are no list", `{"kind":"candidate","ref":"c","emails":"nora@example.net"}`, `"emails": must be a list of strings`},
		{"a number among the emails", `{"kind":"candidate","ref":"c","emails":[1]}`, `"emails": must be a list of strings`},
		{"more addresses than one person has", `{"kind":"candidate","ref":"c","emails":["a@b.c"` + strings.Repeat(`,"a@b.c"`, 200) + `]}`, `"emails" has 201 entries; at most 200`},
		{"null", `{"kind":"candidate","ref":"c","rev":null}`, `"rev" is null; leave the key out`},
		{"a rev with a fraction", `{"kind":"job","ref":"j","rev":1.5}`, `"rev": must be an RFC 3339 time`},
		{"a rev beyond 64 bits", `{"kind":"job","ref":"j","rev":9223372036854775808}`, `an integer of at most 64 bits`},
		{"a rev with a leading zero", `{"kind":"job","ref":"j","rev":01}`, `"rev": must be`},
		{"a rev without a zone", `{"kind":"job","ref":"j","rev":"2026-11-20T10:00:00"}`, `with a zone`},
		{"a rev that is a date", `{"kind":"job","ref":"j","rev":"2026-11-20"}`, `"rev": must be`},
		{"deleted as text", `{"kind":"job","ref":"j","deleted":"yes"}`, `"deleted" must be true or false`},
		{"emails of a job", `{"kind":"job","ref":"j","emails":["nora@example.net"]}`, `a job has no "emails"`},
		{"jobs of a user", `{"kind":"user","ref":"u","jobs":[]}`, `a user has no "jobs"`},
		{"a count in a candidate", `{"kind":"candidate","ref":"c","records":1}`, `a candidate has no "records"`},
		{"an end without a count", `{"kind":"end"}`, `an end line is {"kind":"end","records":N}`},
		{"an end with a ref", `{"kind":"end","records":1,"ref":"x"}`, `and nothing else`},
		{"a negative count", `{"kind":"end","records":-1}`, `"records" must be the number`},
		{"a list instead of an object", `["nora@example.net"]`, `broken JSON: column 1 should hold '{'`},
		{"a line cut off", `{"kind":"candidate","ref":"c","emails":["nora@exa`, `the line ends where a closing '"' is expected`},
		{"a line cut off in an escape", `{"kind":"candidate","ref":"c\`, `the line ends where a closing '"' is expected`},
		{"a bad escape", `{"kind":"job","ref":"\x41"}`, `holds a bad escape`},
		{"a raw tab in a string", "{\"kind\":\"job\",\"ref\":\"a\tb\"}", `no raw control character`},
		{"two objects on a line", `{"kind":"job","ref":"a"}{"kind":"job","ref":"b"}`, `column 25 holds more text`},
		{"a comma too many", `{"kind":"job","ref":"a",}`, `column 25 should hold a string`},
		{"a missing comma", `{"kind":"job" "ref":"a"}`, `should hold ',' or '}'`},
		{"a missing colon", `{"kind" "job"}`, `should hold ':'`},
		{"a list that does not end", `{"kind":"candidate","ref":"c","jobs":["a"`, `',' or ']'`},
		{"an empty object", `{}`, `no "kind"`},
		{"nothing", ``, `the line ends where '{' is expected`},
		{"Latin-1", "{\"kind\":\"job\",\"ref\":\"j\xe4\"}", `not UTF-8`},
	} {
		t.Run(c.what, func(t *testing.T) {
			rec, err := directory.ParseRecord([]byte(c.line))
			if err == nil {
				t.Fatalf("accepted as %v", rec)
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("says  %s\nwants %s", err, c.says)
			}
			if strings.Contains(err.Error(), "nora") {
				t.Errorf("the error shows an address: %s", err)
			}
		})
	}
}

func TestRecordsPrintWithoutTheirContent(t *testing.T) {
	rec, err := directory.ParseRecord([]byte(`{"kind":"candidate","ref":"c1","emails":["nora@example.net"]}`))
	if err != nil {
		t.Fatal(err)
	}
	stored := directory.Stored{Record: rec}
	for _, s := range []string{fmt.Sprint(rec), fmt.Sprintf("%+v", rec), fmt.Sprintf("%#v", rec), rec.LogValue().String(), fmt.Sprintf("%+v %#v", stored, stored)} {
		if strings.Contains(s, "nora") || !strings.Contains(s, "c1") {
			t.Errorf("prints as %s", s)
		}
	}
}

// FuzzParseRecord holds the scanner against encoding/json: what it accepts is
// JSON, says the same there, and keeps every rule of a record.
func FuzzParseRecord(f *testing.F) {
	for _, line := range []string{
		`{"kind":"candidate","ref":"cand_123","emails":["Nora@example.net"],"jobs":["job_9"],"state":"active","rev":"2026-11-20T10:00:00Z"}`,
		`{"kind":"job","ref":"j\u00e4\"","rev":-12,"deleted":false}`,
		`{"kind":"user","ref":"u","emails":[],"state":"disabled"}`,
		`{"kind":"end","records":3}`, ` {"kind":"candidate","ref":"\ud83d\ude00","deleted":true} `, `{"kind":"job","ref":"a\`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		rec, err := directory.ParseRecord(line)
		if err != nil {
			return
		}
		var generic struct {
			Kind, Ref    string
			Emails, Jobs []string
		}
		if err := json.Unmarshal(line, &generic); err != nil {
			t.Fatalf("accepted what is no JSON: %v", err)
		}
		if string(rec.Kind) != generic.Kind || rec.Ref != generic.Ref {
			t.Errorf("read another kind or ref than encoding/json")
		}
		if rec.Deleted || rec.Kind == directory.KindEnd {
			return
		}
		if len(rec.Ref) == 0 || len(rec.Ref) > directory.MaxRef || rec.State == "" || rec.HasJobs != (generic.Jobs != nil) {
			t.Errorf("broke a rule of records")
		}
		if !equalLists(rec.Emails, generic.Emails) || !equalLists(rec.Jobs, generic.Jobs) {
			t.Errorf("read other lists than encoding/json")
		}
		seen := map[string]bool{}
		for _, key := range rec.Keys {
			if key == "" || message.Fold(key) != key || seen[key] {
				t.Errorf("a key is empty, not folded or a repeat")
			}
			seen[key] = true
		}
	})
}

func equalLists(a, b []string) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}
