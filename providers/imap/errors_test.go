package imap_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
	"mailsyncd/providers"
	"mailsyncd/providers/imap"
)

// The answers of real servers to a login, and what they mean.
func TestLoginAnswers(t *testing.T) {
	tests := []struct {
		name, answer string // after the tag
		class        providers.Class
		says         string // in the error
		after        time.Duration
	}{
		{"a wrong password", "NO [AUTHENTICATIONFAILED] Authentication failed.", providers.ClassUnauthorized, "check the user name", 0},
		{"a wrong password, Exchange", "NO LOGIN failed.", providers.ClassUnauthorized, "check the user name", 0},
		{"an expired password", "NO [EXPIRED] x", providers.ClassUnauthorized, "expired", 0},
		{"no right to the mailbox", "NO [AUTHORIZATIONFAILED] x", providers.ClassUnauthorized, "mail administrator", 0},
		{"no right, Microsoft", "BAD User is authenticated but not connected.", providers.ClassUnauthorized, "grant", 0},
		{"IMAP is off", "NO [ALERT] Please enable IMAP first", providers.ClassUnauthorized, "switch imap on", 0},
		{"a browser is wanted", "NO [ALERT] Web login required (Failure)", providers.ClassUnauthorized, "browser", 0},
		{"an app password is wanted", "NO [ALERT] Application-specific password required (Failure)", providers.ClassUnauthorized, "application-specific", 0},
		{"an unknown client", "NO LOGIN Unsafe Login. Please contact x", providers.ClassUnauthorized, "third-party", 0},
		{"too many connections", "NO [ALERT] Too many simultaneous connections. (Failure)", providers.ClassThrottled, "too many", 0},
		{"a limit", "NO [LIMIT] x", providers.ClassThrottled, "", 0},
		{"unavailable for now", "NO [UNAVAILABLE] Temporary authentication failure.", providers.ClassThrottled, "", 0},
		{"throttled, Microsoft", "BAD Request is throttled. Suggested Backoff Time: 299910 milliseconds", providers.ClassThrottled, "", 299910 * time.Millisecond},
		{"throttled in seconds", "NO Rate limit hit, try again in 30 seconds", providers.ClassThrottled, "", 30 * time.Second},
		{"throttled for an absurd time", "NO throttled, try again in 999999999 hours", providers.ClassThrottled, "", 6 * time.Hour},
		{"TLS is wanted", "NO [PRIVACYREQUIRED] x", providers.ClassConfig, "starttls", 0},
		{"not understood", "BAD what?", providers.ClassServer, "did not understand", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t)
			s.hook("LOGIN", func(say func(string, ...any), tag, _ string) bool {
				say("%s %s", tag, tt.answer)
				return true
			})
			_, err := imap.New(config(t, s.addr)).Open(t.Context())
			if got := providers.Classify(err); got != tt.class {
				t.Fatalf("class %q, want %q: %v", got, tt.class, err)
			}
			if !strings.Contains(strings.ToLower(err.Error()), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
			var th *providers.ThrottledError
			if errors.As(err, &th) && th.After != tt.after {
				t.Errorf("asks to wait %v, want %v", th.After, tt.after)
			}
			if n := s.count("LOGIN"); n != 1 {
				t.Errorf("the credential was tried %d times", n)
			}
		})
	}
}

func TestServersThatRepeatSecretsAreNotQuoted(t *testing.T) {
	s := newScript(t)
	s.hook("LOGIN", func(say func(string, ...any), tag, args string) bool {
		say("%s NO login of rita@example.com failed: LOGIN %s", tag, args)
		return true
	})
	_, err := imap.New(config(t, s.addr)).Open(t.Context())
	if !errors.Is(err, providers.ErrUnauthorized) {
		t.Fatal(err)
	}
	for _, secret := range []string{testutil.Password, "rita@example.com"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats %q: %v", secret, err)
		}
	}
}

func TestServersThatHangOrBreakOff(t *testing.T) {
	tests := []struct {
		name  string
		setup func(s *script)
		class providers.Class
	}{
		{"no greeting", func(s *script) { s.greeting = "" }, providers.ClassNetwork},
		{"BYE for a greeting", func(s *script) { s.greeting = "* BYE Too many connections, try again later" }, providers.ClassThrottled},
		{"BYE without a reason", func(s *script) { s.greeting = "* BYE closing" }, providers.ClassServer},
		{"another protocol", func(s *script) { s.greeting = "220 mail.example.com ESMTP" }, providers.ClassNetwork},
		{"no answer to LOGIN", func(s *script) { s.on["LOGIN"] = silent }, providers.ClassNetwork},
		{"no answer to LIST", func(s *script) { s.on["LIST"] = silent }, providers.ClassNetwork},
		{"many folders, and no answer to what was asked before", func(s *script) {
			s.caps = "IMAP4rev1 LIST-EXTENDED LIST-STATUS ID NAMESPACE"
			s.on["ID"], s.on["NAMESPACE"] = silent, silent
			s.on["LIST"] = func(say func(string, ...any), _, _ string) bool {
				for i := range 300 {
					say(`* LIST () "/" folder%d`, i)
				}
				return false
			}
		}, providers.ClassNetwork},
		{"no answer to EXAMINE", func(s *script) { s.on["EXAMINE"] = silent }, providers.ClassNetwork},
		{"no answer to SEARCH", func(s *script) { s.on["UID SEARCH"] = silent }, providers.ClassNetwork},
		{"half a row, then silence", func(s *script) {
			s.on["UID FETCH"] = func(say func(string, ...any), _, _ string) bool {
				say("* 1 FETCH (UID 1 BODY[HEADER] {500}")
				return true
			}
		}, providers.ClassNetwork},
		{"a pause wanted in the middle", func(s *script) {
			s.on["UID FETCH"] = func(say func(string, ...any), tag, _ string) bool {
				say("%s BAD Request is throttled. Suggested Backoff Time: 1000 milliseconds", tag)
				return true
			}
		}, providers.ClassThrottled},
		{"BYE in the middle, tag left open", func(s *script) {
			s.on["UID FETCH"] = func(say func(string, ...any), _, _ string) bool {
				say("* BYE [UNAVAILABLE] Throttled, retry in 600 seconds")
				return true
			}
		}, providers.ClassThrottled},
		{"a literal of 4 GiB", func(s *script) {
			s.on["UID FETCH"] = func(say func(string, ...any), _, _ string) bool {
				say("* 1 FETCH (UID 1 BODY[HEADER] {4294967296}")
				return true
			}
		}, providers.ClassServer},
		{"INBOX refused", func(s *script) {
			s.on["EXAMINE"] = func(say func(string, ...any), tag, _ string) bool {
				say("%s NO [NOPERM] no", tag)
				return true
			}
		}, providers.ClassServer},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScript(t)
			s.put(1, 2, 3)
			s.set(tt.setup)
			mb, err := imap.New(quick(config(t, s.addr))).Open(t.Context())
			if err == nil {
				_, err = mb.Next(t.Context(), start(t, mb), window())
				if cerr := mb.Close(); cerr != nil {
					t.Errorf("Close: %v", cerr)
				}
			}
			if got := providers.Classify(err); got != tt.class {
				t.Errorf("class %q, want %q: %v", got, tt.class, err)
			}
		})
	}
}

func silent(func(string, ...any), string, string) bool { return true }

func TestSettingsThatCannotWork(t *testing.T) {
	tests := []struct {
		name   string
		change func(*imap.Config)
		says   string
	}{
		{"no host", func(c *imap.Config) { c.Host = "" }, "host is missing"},
		{"plain text to another machine", func(c *imap.Config) { c.Host = "192.0.2.1" }, "loopback"},
		{"an unknown mode", func(c *imap.Config) { c.TLS = "maybe" }, "implicit"},
		{"an unknown kind of credential", func(c *imap.Config) { c.Auth = "magic" }, "xoauth2"},
		{"a password with a line break", func(c *imap.Config) {
			c.Credential = func(context.Context) (string, error) { return "a\nb", nil }
		}, "line break"},
		{"a credential that cannot be read", func(c *imap.Config) {
			c.Credential = func(context.Context) (string, error) { return "", os.ErrNotExist }
		}, "credential"},
		{"a token where the server takes none", func(c *imap.Config) { c.Auth = imap.AuthXOAUTH2 }, "does not offer"},
	}
	s := newScript(t)
	for _, tt := range tests {
		cfg := config(t, s.addr)
		tt.change(&cfg)
		_, err := imap.New(cfg).Open(t.Context())
		if providers.Classify(err) != providers.ClassConfig || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want a config error that says %q", tt.name, err, tt.says)
		}
	}
}

func TestPasswordIsNotSentWhereItIsNotTaken(t *testing.T) {
	s := newScript(t)
	s.set(func(s *script) { s.greeting = "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready" })
	_, err := imap.New(config(t, s.addr)).Open(t.Context())
	if providers.Classify(err) != providers.ClassConfig || s.count("LOGIN") != 0 {
		t.Errorf("%v; LOGIN sent %d times", err, s.count("LOGIN"))
	}
}

func TestTokenMechanisms(t *testing.T) {
	const failed = "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=" // {"status":"401",…}
	const busy = "eyJzdGF0dXMiOiI1MDMifQ=="                           // {"status":"503"}
	tests := []struct {
		name, challenge string
		auth            imap.AuthKind
		class           providers.Class
	}{
		{"XOAUTH2 accepted", "", imap.AuthXOAUTH2, providers.ClassNone},
		{"XOAUTH2 refused", failed, imap.AuthXOAUTH2, providers.ClassUnauthorized},
		{"XOAUTH2 while the server is in trouble", busy, imap.AuthXOAUTH2, providers.ClassThrottled},
		{"OAUTHBEARER accepted", "", imap.AuthOAuthBearer, providers.ClassNone},
		{"OAUTHBEARER refused", failed, imap.AuthOAuthBearer, providers.ClassUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t)
			s.set(func(s *script) {
				s.greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready"
			})
			s.hook("AUTHENTICATE", func(say func(string, ...any), tag, _ string) bool {
				if tt.challenge != "" {
					say("+ %s", tt.challenge)
				} else {
					say("%s OK [CAPABILITY IMAP4rev1] in", tag)
				}
				return true
			})
			cfg := quick(config(t, s.addr))
			cfg.Auth = tt.auth
			mb, err := imap.New(cfg).Open(t.Context())
			if got := providers.Classify(err); got != tt.class {
				t.Errorf("class %q, want %q: %v", got, tt.class, err)
			}
			if mb != nil {
				_ = mb.Close()
			}
		})
	}
}

// startTLSServer plays one script of lines to one client: before TLS only.
func startTLSServer(t *testing.T, greeting, answer string, after func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, greeting)
		br := bufio.NewReader(c)
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		tag, _, _ := strings.Cut(line, " ")
		_, _ = io.WriteString(c, strings.ReplaceAll(answer, "TAG", tag))
		if after != nil {
			after(c)
		}
		rest, _ := io.ReadAll(br)
		if strings.Contains(string(rest), testutil.Password) {
			t.Error("the password was sent in plain text")
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestSTARTTLSIsNeverFooled(t *testing.T) {
	tests := []struct {
		name, greeting, answer string
		class                  providers.Class
		says                   string
	}{
		{"stripped from the capabilities and refused", "* OK [CAPABILITY IMAP4rev1] hi\r\n", "TAG BAD unknown\r\n", providers.ClassTLS, "refused STARTTLS"},
		{"refused with NO", "* OK hi\r\n", "TAG NO later\r\n", providers.ClassTLS, "refused STARTTLS"},
		{"PREAUTH before TLS", "* PREAUTH hi\r\n", "", providers.ClassTLS, "PREAUTH"},
		{"commands injected behind the answer", "* OK hi\r\n", "TAG OK go\r\n* CAPABILITY IMAP4rev1\r\n", providers.ClassTLS, "tampered"},
		{"lines without end", "* OK hi\r\n", strings.Repeat("* OK x\r\n", 100), providers.ClassTLS, "did not answer"},
		{"a line without end", "* OK hi\r\n", strings.Repeat("x", 100_000), providers.ClassServer, "bytes before TLS"},
		{"a greeting without end", strings.Repeat("y", 100_000), "", providers.ClassServer, "bytes before TLS"},
		{"BYE for a greeting", "* BYE try again later\r\n", "", providers.ClassThrottled, ""},
		{"no IMAP", "220 smtp\r\n", "", providers.ClassServer, "not IMAP"},
		{"no greeting", "", "", providers.ClassNetwork, ""},
		{"no answer", "* OK hi\r\n", "", providers.ClassNetwork, ""},
		{"no handshake", "* OK hi\r\n", "TAG OK go\r\n", providers.ClassNetwork, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := startTLSServer(t, tt.greeting, tt.answer, nil)
			cfg := quick(config(t, addr))
			cfg.TLS = imap.TLSStart
			_, err := imap.New(cfg).Open(t.Context())
			if got := providers.Classify(err); got != tt.class || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("class %q, want %q and %q: %v", got, tt.class, tt.says, err)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	d := testutil.StartDovecot(t, testutil.DovecotOptions{})
	d.Deliver("rita", "INBOX", mail("a@x"), time.Time{})
	other := filepath.Join(t.TempDir(), "other.pem")
	cert, _ := testutil.NewCert(t, time.Now().Add(time.Hour), "localhost")
	if err := os.WriteFile(other, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	var shared imap.CAs
	tests := []struct {
		name   string
		addr   string
		change func(*imap.Config)
		class  providers.Class
	}{
		{"implicit, trusted", d.TLS, func(*imap.Config) {}, providers.ClassNone},
		{"STARTTLS, trusted", d.Plain, func(c *imap.Config) { c.TLS = imap.TLSStart }, providers.ClassNone},
		{"signed by another", d.TLS, func(c *imap.Config) { c.CAFile = other }, providers.ClassTLS},
		{"signed by another, STARTTLS", d.Plain, func(c *imap.Config) { c.TLS, c.CAFile = imap.TLSStart, other }, providers.ClassTLS},
		{"not signed by a public authority", d.TLS, func(c *imap.Config) { c.CAFile = "" }, providers.ClassTLS},
		{"a CA file that is missing", d.TLS, func(c *imap.Config) { c.CAFile = "/nonexistent" }, providers.ClassConfig},
		{"a CA file that is none", d.TLS, func(c *imap.Config) { c.CAFile = os.Args[0] }, providers.ClassConfig},
		{"trusted by all mailboxes", d.TLS, func(c *imap.Config) { c.CAs = &shared }, providers.ClassNone},
		{"signed by another than all mailboxes trust", d.TLS, func(c *imap.Config) { c.CAs, c.CAFile = &shared, other }, providers.ClassTLS},
		{"TLS to a plain port", d.Plain, func(*imap.Config) {}, providers.ClassTLS},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, tt.addr)
			cfg.TLS, cfg.CAFile = imap.TLSImplicit, d.CAFile
			tt.change(&cfg)
			mb, err := imap.New(cfg).Open(t.Context())
			if got := providers.Classify(err); got != tt.class {
				t.Fatalf("class %q, want %q: %v", got, tt.class, err)
			}
			if mb == nil {
				return
			}
			defer mb.Close()
			if got, _ := drain(t, mb, start(t, mb)); len(got) != 1 {
				t.Errorf("got %v", got)
			}
		})
	}
}

// tlsFront stands before a plain server and tells of every connection whether
// its TLS session was resumed. conf gets its certificate here.
func tlsFront(t *testing.T, upstream string, conf *tls.Config) (addr, caFile string, resumed chan bool) {
	t.Helper()
	cert, key := testutil.NewCert(t, time.Now().Add(time.Hour), "localhost")
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	conf.Certificates = []tls.Certificate{pair}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	resumed = make(chan bool, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { pass(t, c.(*tls.Conn), upstream, resumed) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String(), caFile, resumed
}

// pass passes everything until one side ends.
func pass(t *testing.T, client *tls.Conn, upstream string, resumed chan bool) {
	defer client.Close()
	if err := client.Handshake(); err != nil {
		t.Error(err)
		return
	}
	resumed <- client.ConnectionState().DidResume
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		t.Error(err)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
	both.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	both.Wait()
}

func TestTLSSessionsAreResumed(t *testing.T) {
	s := newScript(t)
	addr, caFile, resumed := tlsFront(t, s.addr, &tls.Config{})
	cfg := config(t, addr)
	cfg.TLS, cfg.CAFile, cfg.Server = imap.TLSImplicit, caFile, imap.NewServer()
	for i, user := range []string{"rita", "rita", "bob"} { // mailboxes of one host share them
		cfg.Username = user
		mb := open(t, cfg)
		drain(t, mb, start(t, mb))
		_ = mb.Close()
		if got := <-resumed; got != (i > 0) {
			t.Errorf("connection %d: resumed %v", i+1, got)
		}
	}
}

func TestHybridKeyExchangeIsOfferedToWhoTakesIt(t *testing.T) {
	curves := []tls.CurveID{tls.X25519, tls.CurveP256}
	tests := []struct {
		name   string
		server *tls.Config
		want   []bool // offered with the first, second, third poll
	}{
		{"a server that has it", &tls.Config{}, []bool{true, true, true}},
		{"a server without it", &tls.Config{CurvePreferences: curves}, []bool{true, false, false}},
		{"a server without it that resumes nothing", &tls.Config{CurvePreferences: curves, SessionTicketsDisabled: true}, []bool{true, false, false}},
		{"a server of TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12, SessionTicketsDisabled: true}, []bool{true, false, false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			offered := make(chan bool, len(tt.want))
			tt.server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				offered <- slices.Contains(hello.SupportedCurves, tls.X25519MLKEM768)
				return nil, nil
			}
			s := newScript(t)
			addr, caFile, _ := tlsFront(t, s.addr, tt.server)
			cfg := config(t, addr)
			cfg.TLS, cfg.CAFile = imap.TLSImplicit, caFile
			p := imap.New(cfg)
			for i, want := range tt.want {
				mb, err := p.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				_ = mb.Close()
				if got := <-offered; got != want {
					t.Errorf("poll %d: offered %v", i+1, got)
				}
			}
		})
	}
}

func TestDialFailure(t *testing.T) {
	cfg := config(t, "127.0.0.1:1")
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, fmt.Errorf("no route") }
	_, err := imap.New(cfg).Open(t.Context())
	if providers.Classify(err) != providers.ClassNetwork || !strings.Contains(err.Error(), "check host") {
		t.Errorf("%v", err)
	}
}
