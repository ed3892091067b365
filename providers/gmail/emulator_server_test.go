package gmail_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailsyncd/internal/testutil"
)

// This file installs and starts the emulator, and puts a proxy before it;
// testdata/emulator holds the launcher and the exact packages.

// emulator is a running one. Every test takes a user of its own.
type emulator struct {
	url string // the emulator as it is, without a slash at the end
	api string // the API through the proxy, which Google's client can read

	transport *http.Transport
	control   io.Writer
	replies   *bufio.Reader
	mu        sync.Mutex // of control and users
	users     int        // taken so far
}

// emulatorUsers is how many users there are: each test takes the next one.
const emulatorUsers = 80

func emulatorUser(n int) string { return fmt.Sprintf("rita%02d@example.com", n) }

// startEmulator starts one and stops it when the test ends.
func startEmulator(t *testing.T) *emulator {
	t.Helper()
	e := &emulator{transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	t.Cleanup(e.transport.CloseIdleConnections)
	e.url = "http://127.0.0.1:" + e.launch(t, installEmulator(t))
	to, err := url.Parse(e.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(newProxy(to, e.transport))
	t.Cleanup(proxy.Close)
	e.api = proxy.URL + "/"
	return e
}

// launch returns the port. The launcher ends with its standard input; one that
// does not is killed.
func (e *emulator) launch(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "node", "launch.mjs", emulatorSeed())
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	said := new(testutil.Log)
	cmd.Stderr = said
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.Cancel = func() error { return in.Close() }
	testutil.EndWithTest(cmd, syscall.SIGKILL)
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it ends as it was told to
		if t.Failed() {
			t.Logf("the emulator said: %s", said)
		}
	})
	e.control, e.replies = in, bufio.NewReader(out)
	patience := time.AfterFunc(30*time.Second, cancel)
	defer patience.Stop()
	port, err := e.replies.ReadString('\n')
	if err != nil {
		t.Fatalf("the emulator did not start: %v\n%s", err, said)
	}
	return strings.TrimSpace(port)
}

func emulatorSeed() string {
	type object = map[string]any
	var users []object
	for n := range emulatorUsers {
		users = append(users, object{"email": emulatorUser(n)})
	}
	b, err := json.Marshal(object{"users": users, "oauth_clients": []object{
		{"client_id": clientID, "client_secret": secret, "redirect_uris": []string{}},
	}})
	if err != nil {
		panic(err) // strings
	}
	return string(b)
}

// register lets consents come back to an address. Google lets a desktop app
// choose any loopback port (RFC 8252 §7.3); the emulator wants to know it.
func (e *emulator) register(redirect string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := fmt.Fprintln(e.control, redirect); err != nil {
		return err
	}
	reply, err := e.replies.ReadString('\n')
	if err == nil && reply != "ok\n" {
		err = fmt.Errorf("the launcher said %q", reply)
	}
	return err
}

// notRun ends a test that lacks something: a failure in CI, a loud word
// elsewhere.
func notRun(t *testing.T, why, remedy string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %s", why, remedy)
	}
	t.Skipf("NOT RUN: %s, so nothing is proved by a Gmail of other hands; %s", why, remedy)
}

const (
	oldestNode = 18 // of Debian 12, and the oldest that was tried
	getNode    = "install nodejs (18 or newer) and npm, or run `make test`, which does"
)

func needNode(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			notRun(t, tool+" is not installed", getNode)
		}
	}
	out, err := exec.Command("node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if n, bad := strconv.Atoi(major); err != nil || bad != nil || n < oldestNode {
		notRun(t, fmt.Sprintf("node is %q, and must be %d or newer", bytes.TrimSpace(out), oldestNode), getNode)
	}
}

// installEmulator returns a directory with the launcher and its packages. It
// lies in the user's cache under a name made of its contents, and comes there by
// a rename: of runs that install at the same time one wins, and nobody ever sees
// half of it.
func installEmulator(t *testing.T) string {
	t.Helper()
	needNode(t)
	source := os.DirFS(filepath.Join("testdata", "emulator"))
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	home := filepath.Join(cache, "mailsyncd-test", "gmail-emulator-"+hashOf(t, source))
	if _, err := os.Stat(home); err == nil {
		return home
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		t.Fatal(err)
	}
	half, err := os.MkdirTemp(filepath.Dir(home), "installing-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(half)
	if err := os.CopyFS(half, source); err != nil {
		t.Fatal(err)
	}
	npmInstall(t, half)
	if err := os.Rename(half, home); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return home
}

func hashOf(t *testing.T, source fs.FS) string {
	t.Helper()
	sum := sha256.New()
	for _, name := range []string{"launch.mjs", "package.json", "package-lock.json"} {
		b, err := fs.ReadFile(source, name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(b), b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// outOfReach are the codes with which npm says that it has not reached its
// registry. Anything else, such as a package with another checksum, is a
// failure everywhere.
var outOfReach = regexp.MustCompile(`\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|ERR_SOCKET_TIMEOUT|ENOTCACHED)\b`)

// npmInstall installs what the lock file names. No script of a package runs.
func npmInstall(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1")
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	testutil.EndWithTest(cmd, syscall.SIGKILL)
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
	case ctx.Err() != nil, outOfReach.Match(out):
		notRun(t, fmt.Sprintf("npm cannot reach its registry (%v)", cmp.Or(ctx.Err(), err)), "it has to once: what it installs is kept")
	default:
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// proxy stands between Google's client and the emulator, for two reasons and
// nothing else:
//
//   - The emulator's history ids are the milliseconds since 1970 and eight more
//     digits, 21 in all. The API's are a uint64, and Google's client decodes no
//     longer one. Answers get them smaller by base, startHistoryId gets larger by
//     it.
//   - It has no getProfile. The proxy puts one together from what the emulator
//     tells the same token elsewhere: the address that userinfo names, and the
//     newest history id, which a listing of the history names even when it is
//     empty.
type proxy struct {
	to   *url.URL
	via  http.RoundTripper
	base *big.Int
}

func newProxy(to *url.URL, via http.RoundTripper) http.Handler {
	// An hour back, so that ids stay positive. They then have 15 digits.
	base := new(big.Int).Mul(big.NewInt(time.Now().Add(-time.Hour).UnixMilli()), big.NewInt(1e8))
	p := &proxy{to: to, via: via, base: base}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /gmail/v1/users/me/profile", p.profile)
	mux.Handle("/", &httputil.ReverseProxy{Rewrite: p.enlarge, ModifyResponse: p.shrink, Transport: via})
	return mux
}

func (p *proxy) enlarge(r *httputil.ProxyRequest) {
	r.SetURL(p.to)
	q := r.Out.URL.Query()
	if id, ok := new(big.Int).SetString(q.Get("startHistoryId"), 10); ok {
		q.Set("startHistoryId", id.Add(id, p.base).String())
		r.Out.URL.RawQuery = q.Encode()
	}
}

var longID = regexp.MustCompile(`"[0-9]{21}"`)

func (p *proxy) shrink(resp *http.Response) error {
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	b = longID.ReplaceAllFunc(b, func(id []byte) []byte {
		n, _ := new(big.Int).SetString(string(bytes.Trim(id, `"`)), 10) // the expression let digits through
		return []byte(strconv.Quote(n.Sub(n, p.base).String()))
	})
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	resp.Header.Set("Content-Length", strconv.Itoa(len(b)))
	return err
}

// profile asks for the history first: its refusals have Google's form.
func (p *proxy) profile(w http.ResponseWriter, r *http.Request) {
	var answer struct {
		Email   string `json:"email"`
		History string `json:"historyId"`
	}
	newest := "/gmail/v1/users/me/history?startHistoryId=" + strings.Repeat("9", 21)
	for _, path := range []string{newest, "/oauth2/v2/userinfo"} {
		status, b, err := p.ask(r, path)
		if err == nil {
			err = json.Unmarshal(b, &answer)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
			_, _ = w.Write(b) // the client is gone: nothing to do
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"emailAddress": answer.Email, "historyId": answer.History}) // as above
}

func (p *proxy) ask(r *http.Request, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, p.to.String()+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", r.Header.Get("Authorization"))
	resp, err := p.via.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	if err := p.shrink(resp); err != nil {
		return 0, nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}
