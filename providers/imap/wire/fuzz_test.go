package wire_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailsyncd/providers/imap/wire"
)

// gated gives its answer only when all commands are sent, so that they are
// pending whatever the answer is.
type gated struct {
	canned
	open chan struct{}
	once sync.Once
}

func (g *gated) Read(b []byte) (int, error) {
	<-g.open
	return g.canned.Read(b)
}

func (g *gated) Close() error {
	g.once.Do(func() { close(g.open) })
	return nil
}

// FuzzLibraryNeverMeetsGarbage: whatever a server says, the library's parser,
// which ends the session at the first thing it does not expect, sees nothing of
// the kind. The connection ends for reasons of the filter only.
func FuzzLibraryNeverMeetsGarbage(f *testing.F) {
	for _, seed := range []string{
		"T1 OK x\r\n", "* LIST (\\Sent) \"/\" \"a&-b\"\r\n* STATUS a (MESSAGES 1 UIDNEXT 3 UIDVALIDITY 7)\r\nT2 OK x\r\n",
		"* 3 EXISTS\r\n* OK [UIDNEXT 4] x\r\n* OK [UIDVALIDITY 9] x\r\n* OK [HIGHESTMODSEQ]\r\nT3 OK [READ-ONLY] x\r\n",
		"* SEARCH 1 2 3\r\nT4 OK x\r\n", "* ESEARCH (TAG \"T4\") ALL 1:4294967295\r\n",
		"* 1 FETCH (UID 1 INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" BODY[HEADER.FIELDS (FROM)] {3}\r\nA:b)\r\nT5 OK x\r\n",
		"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\nT6 OK x\r\n", "* CAPABILITY IMAP4rev1 ID\r\nT7 NO [X y] z\r\n",
		"* BAD what\r\n* BYE [UNAVAILABLE] x\r\n", "+ go\r\n", "\x00\r\n* OK {3}\r\n", "* LIST () \"/\" {3}\r\na b\r\n",
		"* OK [CAPABILITY] x\r\n* 1 FETCH (BODYSTRUCTURE ((((\r\n", "T3 BYE x\r\nT3 PREAUTH x\r\n", "* LIST (\\x) NIL INBOX\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		raw := &gated{open: make(chan struct{})}
		raw.Reader = io.MultiReader(strings.NewReader("* OK [CAPABILITY IMAP4rev1 ID NAMESPACE] hi\r\n"), bytes.NewReader(said))
		o := options(&tape{})
		o.Limits = wire.Limits{Line: 1 << 14, Literal: 1 << 12, Nesting: 16, Responses: 500, Bytes: 1 << 20}
		c := wire.New(raw, raw, o)
		client := imapclient.New(c, nil)
		var wg sync.WaitGroup
		talk(client, &wg)
		raw.once.Do(func() { close(raw.open) })
		wg.Wait()
		err := client.Close()
		if why := c.Err(); err != nil && (why == nil || !strings.Contains(err.Error(), why.Error())) {
			t.Errorf("the library ended with %v, the filter with %v", err, why)
		}
	})
}

// talk leaves one command of every kind pending.
func talk(client *imapclient.Client, wg *sync.WaitGroup) {
	noop := client.Noop()
	list := client.List("", "*", &imap.ListOptions{ReturnStatus: &imap.StatusOptions{UIDNext: true}})
	examine := client.Select("INBOX", &imap.SelectOptions{ReadOnly: true})
	var set imap.UIDSet
	set.AddRange(1, 9)
	fetch := client.Fetch(set, &imap.FetchOptions{UID: true, InternalDate: true})
	namespace := client.Namespace()
	status := client.Status("a", &imap.StatusOptions{UIDNext: true})
	id := client.ID(nil)
	for _, wait := range []func(){
		func() { _ = noop.Wait() },
		func() { _, _ = list.Collect() },
		func() { _, _ = examine.Wait() },
		func() { _ = fetch.Close() },
		func() { _, _ = namespace.Wait() },
		func() { _, _ = status.Wait() },
		func() { _, _ = id.Wait() },
	} {
		wg.Go(wait)
	}
}
