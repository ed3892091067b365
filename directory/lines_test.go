package directory_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"mailsyncd/directory"
)

// read collects what Lines yields as "3@120 job j" or "3: what".
func read(r io.Reader) (got []string) {
	for l, err := range directory.Lines(r) {
		if err != nil {
			got = append(got, err.Error())
		} else {
			got = append(got, fmt.Sprintf("%d@%d %v", l.Number, l.Offset, l.Record))
		}
	}
	return got
}

func TestLines(t *testing.T) {
	job := func(ref string) string { return `{"kind":"job","ref":"` + ref + `"}` }
	long := `{"kind":"job","ref":"` + strings.Repeat("x", directory.MaxLine) + `"}`
	for _, c := range []struct {
		what, file string
		want       []string
	}{
		{"lines with their places", job("a") + "\n" + job("b") + "\n", []string{"1@0 job a", "2@25 job b"}},
		{"the last line needs no end", job("a"), []string{"1@0 job a"}},
		{"Windows line ends", job("a") + "\r\n" + job("b") + "\r\n", []string{"1@0 job a", "2@26 job b"}},
		{"a byte order mark", "\xef\xbb\xbf" + job("a") + "\n", []string{"1@3 job a"}},
		{"blank lines", "\n \n" + job("a") + "\n\n", []string{"3@3 job a"}},
		{"an empty file", "", nil},
		{"reading goes on behind a bad line", job("a") + "\nnonsense\n" + job("b"), []string{
			"1@0 job a", "2: broken JSON: column 1 should hold '{'", "3@34 job b"}},
		{"reading goes on behind a line without end", job("a") + "\n" + long + "\n" + job("b") + "\n", []string{
			"1@0 job a", "2: longer than 1048576 bytes; write one record a line", "3@1048625 job b"}},
		{"a line as long as allowed is read", strings.Repeat(" ", directory.MaxLine-len(job("a"))) + job("a") + "\n" + job("b"), []string{
			"1@0 job a", "2@1048577 job b"}},
		{"a line longer by one is not", strings.Repeat(" ", directory.MaxLine+1-len(job("a"))) + job("a") + "\n" + job("b"), []string{
			"1: longer than 1048576 bytes; write one record a line", "2@1048578 job b"}},
		{"the end line counts the records above", job("a") + "\n" + job("b") + "\n" + `{"kind":"end","records":2}`, []string{
			"1@0 job a", "2@25 job b", "3@50 end "}},
		{"a wrong count", job("a") + "\n" + `{"kind":"end","records":2}` + "\n", []string{
			"1@0 job a", "2: the end line counts 2 records and the file holds 1; write the file again, it may be cut off"}},
		{"a bad line counts, so that it is not reported twice", "{}\n" + `{"kind":"end","records":1}`, []string{
			`1: no "kind"; write one of candidate, job, user, end`, "2@3 end "}},
		{"records behind the end", `{"kind":"end","records":0}` + "\n" + job("a"), []string{
			"1@0 end ", "2: a line behind the end line; the end line must be the last"}},
		{"two ends", `{"kind":"end","records":0}` + "\n" + `{"kind":"end","records":0}`, []string{
			"1@0 end ", "2: a line behind the end line; the end line must be the last"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if got := read(strings.NewReader(c.file)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			if got := read(iotest.OneByteReader(strings.NewReader(c.file))); len(c.file) < 1000 && !reflect.DeepEqual(got, c.want) {
				t.Errorf("byte by byte: %q", got)
			}
		})
	}
}

func TestLinesEndWithTheReadersFailure(t *testing.T) {
	broken := io.MultiReader(strings.NewReader(`{"kind":"job","ref":"a"}`+"\n"+`{"kind":"jo`), iotest.ErrReader(io.ErrUnexpectedEOF))
	var last error
	n := 0
	for _, err := range directory.Lines(broken) {
		n++
		last = err
	}
	if n != 2 || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Errorf("%d lines, last error %v", n, last)
	}
	if bad := (*directory.LineError)(nil); errors.As(last, &bad) {
		t.Error("the failure was taken for a bad line")
	}
}

func TestLinesStopWhenTheCallerDoes(t *testing.T) {
	n := 0
	for range directory.Lines(strings.NewReader("{}\n{}\n{}\n")) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d lines", n)
	}
}

func TestCheckReportsAllThatIsWrong(t *testing.T) {
	file := strings.Join([]string{
		`{"kind":"candidate","ref":"a","emails":["nora@example.net"]}`,
		`{"kind":"candidate","ref":"b","emails":["nora"]}`,
		`{"kind":"job","ref":"a"}`,
		`{"kind":"candidate","ref":"a"}`,
		`{"kind":"user","ref":"u"}`,
		`{"kind":"candidate","ref":"c","deleted":true}`,
		`{"kind":"end","records":7}`,
	}, "\n")
	sum, bad, err := directory.Check(strings.NewReader(file), 2)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Candidates != 2 || sum.Jobs != 1 || sum.Users != 1 || sum.Deleted != 1 || sum.Complete || sum.Bad != 3 {
		t.Errorf("summary %+v", sum)
	}
	want := []string{
		"2: emails[0] is not an address; write local@domain without a name",
		`4: candidate "a" stands on line 1 already; keep one of the two`,
	}
	if got := fmt.Sprint(bad); got != fmt.Sprint(want) {
		t.Errorf("got %s", got)
	}
	_, bad, _ = directory.Check(strings.NewReader(file), 10)
	if len(bad) != 3 || !strings.Contains(bad[2].Error(), "7: the end line counts 7 records and the file holds 6") {
		t.Errorf("all of them: %v", bad)
	}
}

func TestCheckPassesAGoodFile(t *testing.T) {
	sum, bad, err := directory.Check(strings.NewReader(`{"kind":"job","ref":"a"}`+"\n"+`{"kind":"end","records":1}`), 10)
	if err != nil || len(bad) > 0 || !sum.Complete || sum.Records() != 1 {
		t.Errorf("%+v %v %v", sum, bad, err)
	}
	if _, _, err = directory.Check(iotest.ErrReader(io.ErrClosedPipe), 10); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("reader's failure: %v", err)
	}
}

// FuzzLines: every record stands where its line says, so that it can be read
// again from there.
func FuzzLines(f *testing.F) {
	f.Add([]byte("\xef\xbb\xbf{\"kind\":\"job\",\"ref\":\"a\"}\r\n\n{}\n{\"kind\":\"end\",\"records\":2}"))
	f.Fuzz(func(t *testing.T, file []byte) {
		number := 0
		for l, err := range directory.Lines(bytes.NewReader(file)) {
			if bad := (*directory.LineError)(nil); errors.As(err, &bad) {
				l.Number = bad.Line
			} else if err != nil {
				t.Fatal(err)
			}
			if l.Number <= number {
				t.Fatalf("line %d behind line %d", l.Number, number)
			}
			if number = l.Number; err != nil {
				continue
			}
			again, err := directory.ParseRecord(file[l.Offset : l.Offset+int64(l.Length)])
			if err != nil || !reflect.DeepEqual(again, l.Record) {
				t.Fatalf("line %d is not at its place: %v", l.Number, err)
			}
		}
	})
}
