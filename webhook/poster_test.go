package webhook_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailsyncd/webhook"
)

// loopback lets posts reach the receivers of these tests.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func TestAPostVerifiesAndSaysWhoSentIt(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	sent := render(t, contractEvent())
	r := newPoster(t, srv.URL+"/hooks/mail").Post(t.Context(), "evt_abc", sent)
	if r.Kind != webhook.Accepted || r.Code != "204" || r.Err != nil {
		t.Fatalf("result is %+v", r)
	}
	if err := verifier(t, currentSecret).Verify(body, got.Header); err != nil {
		t.Errorf("the signature: %v", err)
	}
	if string(body) != string(sent) {
		t.Error("the body is not the event's bytes")
	}
	for name, want := range map[string]string{
		"Webhook-Id": "evt_abc", "Content-Type": "application/json", "User-Agent": "mailsyncd/1.2.3", "Accept-Encoding": "",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if got.Method != http.MethodPost || got.URL.Path != "/hooks/mail" || got.ContentLength != int64(len(sent)) {
		t.Errorf("request is %s %s with %d bytes", got.Method, got.URL.Path, got.ContentLength)
	}
}

func TestAChangedSecretFileCountsAtTheNextPost(t *testing.T) {
	var header http.Header
	var body []byte
	srv := receiver(t, func(_ http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
	})
	file := previousSecret
	p := posterWith(t, webhook.PosterConfig{URL: srv.URL, Secrets: func() ([]webhook.Secret, error) {
		return webhook.ParseSecrets([]byte(file))
	}})
	for _, step := range []struct {
		file              string
		current, previous bool
	}{
		{previousSecret, false, true},
		{currentSecret + "\n" + previousSecret, true, true},
		{currentSecret, true, false},
	} {
		file = step.file
		if r := p.Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted {
			t.Fatalf("result is %+v", r)
		}
		if ok := verifier(t, currentSecret).Verify(body, header) == nil; ok != step.current {
			t.Errorf("the new secret verifies: %v, want %v", ok, step.current)
		}
		if ok := verifier(t, previousSecret).Verify(body, header) == nil; ok != step.previous {
			t.Errorf("the old secret verifies: %v, want %v", ok, step.previous)
		}
	}
	file = ""
	r := p.Post(t.Context(), "evt_1", []byte("{}"))
	if r.Kind != webhook.EndpointFailure || r.Code != "secret" || !strings.Contains(r.Err.Error(), "webhook.secret_file") {
		t.Errorf("without a secret the result is %+v: nothing may be posted unsigned", r)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	other := receiver(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := receiver(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
		r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}"))
		if r.Kind != webhook.EndpointFailure || !strings.Contains(r.Err.Error(), "final address") {
			t.Errorf("%d gives %+v", status, r)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

func TestOnlySoMuchOfAnAnswerIsRead(t *testing.T) {
	var written atomic.Int64
	ended := make(chan struct{}, 1)
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		for chunk := make([]byte, 32<<10); ; {
			n, err := w.Write(chunk)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}"))
	if r.Kind != webhook.Accepted {
		t.Fatalf("an endless 200 is %+v, want accepted: the status is the answer", r)
	}
	<-ended
	if n := written.Load(); n > 64<<20 {
		t.Errorf("the receiver could write %d bytes", n)
	}
}

func TestAnAnswerIsNotDecompressed(t *testing.T) {
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 100<<20)) // 100 kB of gzip
		_ = z.Close()
	})
	if r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted {
		t.Errorf("result is %+v", r)
	}
}

func TestASlowBodyAfterTheStatusIsAccepted(t *testing.T) {
	release := make(chan struct{})
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-release
	})
	defer close(release)
	if r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted {
		t.Errorf("result is %+v: with the status the endpoint has answered", r)
	}
}

func TestAnEnormousAnswerHeaderIsAFailure(t *testing.T) {
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 128<<10))
	})
	if r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.EndpointFailure || r.Code != "network" {
		t.Errorf("result is %+v", r)
	}
}

func TestPostsWithoutAStatus(t *testing.T) {
	hang := make(chan struct{})
	slow := receiver(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	plain := receiver(t, func(http.ResponseWriter, *http.Request) {})
	unknown := httptest.NewTLSServer(http.NotFoundHandler())
	unknown.Config.ErrorLog = quiet()
	t.Cleanup(unknown.Close)
	_, port, _ := net.SplitHostPort(unknown.Listener.Addr().String())
	wrongName := fmt.Sprintf("https://localhost:%s", port) // the test certificate names example.com and 127.0.0.1

	for _, tt := range []struct {
		what, url string
		cfg       webhook.PosterConfig
		code      string
		says      string
	}{
		{"a receiver that never answers", slow.URL, webhook.PosterConfig{Timeout: 50 * time.Millisecond}, "timeout", "webhook.timeout"},
		{"a port where nobody listens", closedPort(t), webhook.PosterConfig{}, "refused", "nothing listens"},
		{"a receiver that resets", raw(t, ""), webhook.PosterConfig{}, "network", "before a status came"},
		{"a receiver that does not speak HTTP", raw(t, "220 mail.example.com nora@example.net\r\n"), webhook.PosterConfig{}, "network", "not HTTP"},
		{"half an answer", raw(t, "HTTP/1.1 20"), webhook.PosterConfig{}, "network", "before a status came"},
		{"a certificate of an unknown authority", unknown.URL, webhook.PosterConfig{}, "tls", "webhook.ca_file"},
		{"a certificate for another name", wrongName, webhook.PosterConfig{RootCAs: pool(unknown)}, "tls", `not for "localhost"`},
		{"TLS to a plain port", strings.Replace(plain.URL, "http:", "https:", 1), webhook.PosterConfig{}, "tls", "does not speak TLS"},
	} {
		tt.cfg.URL = tt.url + "/?token=SECRET"
		r := posterWith(t, tt.cfg).Post(t.Context(), "evt_1", []byte(`{"subject":"PRIVATE"}`))
		if r.Kind != webhook.EndpointFailure || r.Code != tt.code || !strings.Contains(r.Err.Error(), tt.says) {
			t.Errorf("%s gives %+v, want %s that says %q", tt.what, r, tt.code, tt.says)
		}
		if text := r.Err.Error(); strings.Contains(text, "SECRET") || strings.Contains(text, "PRIVATE") || strings.Contains(text, "nora") {
			t.Errorf("%s: the error leaks: %v", tt.what, r.Err)
		}
	}
}

func TestTheGuardStandsAtTheSocket(t *testing.T) {
	var reached atomic.Bool
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { reached.Store(true) })
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, url := range []string{srv.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port} {
		p, err := webhook.NewPoster(webhook.PosterConfig{URL: url, Secrets: fixed(t, currentSecret)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		r := p.Post(t.Context(), "evt_1", []byte("{}"))
		var blocked *webhook.BlockedError
		if r.Code != "blocked" || !errors.As(r.Err, &blocked) || !blocked.Allowed {
			t.Errorf("%s gives %+v, want it refused", url, r)
		}
	}
	if reached.Load() {
		t.Error("loopback was reached although nobody listed it")
	}
}

func TestAProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	var host string
	srv := receiver(t, func(_ http.ResponseWriter, r *http.Request) { host = r.Host })
	if r := newPoster(t, srv.URL).Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted || "http://"+host != srv.URL {
		t.Errorf("result is %+v at %q", r, host)
	}
}

func TestCustomAuthorityClientCertificateAndHTTP2(t *testing.T) {
	cert := selfSigned(t)
	var proto, client string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		proto, client = r.Proto, r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = quiet()
	srv.StartTLS()
	t.Cleanup(srv.Close)
	asked := 0
	p := posterWith(t, webhook.PosterConfig{URL: srv.URL, RootCAs: pool(srv), ClientCertificate: func() (*tls.Certificate, error) {
		asked++
		return cert, nil
	}})
	if r := p.Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted || asked != 1 {
		t.Fatalf("result is %+v after asking %d times for the certificate", r, asked)
	}
	if proto != "HTTP/2.0" || client != "mailsyncd" {
		t.Errorf("the receiver saw %s from %q", proto, client)
	}
	without := posterWith(t, webhook.PosterConfig{URL: srv.URL, RootCAs: pool(srv)})
	if r := without.Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.EndpointFailure {
		t.Errorf("without a client certificate the result is %+v", r)
	}
}

func TestUserAndPasswordOfTheURLAreSentAndNeverShown(t *testing.T) {
	var user, password string
	srv := receiver(t, func(_ http.ResponseWriter, r *http.Request) { user, password, _ = r.BasicAuth() })
	p := newPoster(t, strings.Replace(srv.URL, "http://", "http://ats:hush@", 1)+"/hooks?token=SECRET#top")
	if r := p.Post(t.Context(), "evt_1", []byte("{}")); r.Kind != webhook.Accepted || user != "ats" || password != "hush" {
		t.Errorf("result is %+v with user %q", r, user)
	}
	if got := p.String(); got != srv.URL+"/hooks" {
		t.Errorf("the poster shows itself as %q", got)
	}
}

func TestURLsThatCannotBePostedTo(t *testing.T) {
	for url, says := range map[string]string{
		"":                        "scheme",
		"ats.example.com/hooks":   "scheme",
		"ftp://ats.example.com":   "use https",
		"https:///hooks":          "names no host",
		"https://u:SECRET@[::1/x": "cannot be read",
	} {
		_, err := webhook.NewPoster(webhook.PosterConfig{URL: url, Secrets: fixed(t, currentSecret)})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q gives %v, want an error that says %q and no secret", url, err, says)
		}
	}
	if _, err := webhook.NewPoster(webhook.PosterConfig{URL: "https://ats.example.com"}); err == nil {
		t.Error("a poster without secrets was made")
	}
}

func TestTheTestEvent(t *testing.T) {
	status := http.StatusOK
	var body []byte
	srv := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		if err := verifier(t, currentSecret).Verify(body, r.Header); err != nil {
			t.Errorf("the signature: %v", err)
		}
		w.WriteHeader(status)
	})
	p := newPoster(t, srv.URL)
	if err := webhook.Test(t.Context(), p); err != nil {
		t.Fatalf("an accepted test fails: %v", err)
	}
	compileSchemas(t).validate(t, body)
	for code, says := range map[int]string{
		302: "webhook.url", 400: "receiver", 401: "webhook.secret_file", 403: "webhook.secret_file", 404: "webhook.url",
		410: "webhook resume", 413: "limit", 415: "application/json", 429: "pause", 500: "receiver's log",
	} {
		status = code
		if err := webhook.Test(t.Context(), p); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%d gives %v, want an error that says %q", code, err, says)
		}
	}
}

func TestACancelledPostSaysSo(t *testing.T) {
	begun := make(chan struct{})
	hang := make(chan struct{})
	srv := receiver(t, func(http.ResponseWriter, *http.Request) { close(begun); <-hang })
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if r := newPoster(t, srv.URL).Post(ctx, "evt_1", []byte("{}")); r.Code != "canceled" {
		t.Errorf("result is %+v", r)
	}
}

// ---- receivers ---------------------------------------------------------

func receiver(t testing.TB, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

func newPoster(t testing.TB, url string) *webhook.HTTPPoster {
	t.Helper()
	return posterWith(t, webhook.PosterConfig{URL: url})
}

func posterWith(t testing.TB, cfg webhook.PosterConfig) *webhook.HTTPPoster {
	t.Helper()
	cfg.AllowNetworks, cfg.Version = loopback, "1.2.3"
	if cfg.Secrets == nil {
		cfg.Secrets = fixed(t, currentSecret)
	}
	p, err := webhook.NewPoster(cfg)
	if err != nil {
		t.Fatalf("making a poster: %v", err)
	}
	t.Cleanup(p.Close)
	return p
}

// quiet drops what a server says about handshakes that are meant to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func fixed(t testing.TB, file string) func() ([]webhook.Secret, error) {
	s := secrets(t, file)
	return func() ([]webhook.Secret, error) { return s, nil }
}

// raw is a receiver that reads a request, says what it is told and hangs up.
func raw(t testing.TB, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
			}
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func pool(srv *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(srv.Certificate())
	return p
}

func selfSigned(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mailsyncd"},
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}
