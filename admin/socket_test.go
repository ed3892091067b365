package admin_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailsyncd/admin"
)

// stale leaves a socket behind that nobody listens on, as a killed daemon does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListen(t *testing.T) {
	for _, c := range []struct {
		what  string
		path  string
		setup func(t *testing.T, path string)
		wrong string // "" when it works
	}{
		{"nothing is there", "s", func(*testing.T, string) {}, ""},
		{"the folder is missing", "run/mailsyncd/s", func(*testing.T, string) {}, ""},
		{"a dead daemon left its socket", "s", stale, ""},
		{"another daemon answers", "s", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "another mailsyncd answers there; stop it or choose another path with admin.socket"},
		{"a file has the name", "s", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "something else has this name; remove it or choose another path with admin.socket"},
		{"a link to nowhere has the name", "s", func(t *testing.T, path string) {
			if err := os.Symlink("nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, "something else has this name; remove it or choose another path with admin.socket"},
		{"the path is too long", strings.Repeat("x", 108), func(*testing.T, string) {}, "a socket's may have 107; choose a shorter one with admin.socket"},
		{"the folder is a file", "f/s", func(t *testing.T, path string) {
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a directory; create it, or let the service manager do so (RuntimeDirectory=)"},
	} {
		t.Run(c.what, func(t *testing.T) {
			// t.TempDir holds the test's name, too long for a socket.
			dir, err := os.MkdirTemp("", "s")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, c.path)
			c.setup(t, path)
			l, err := admin.Listen(path)
			if c.wrong != "" {
				if err == nil || !strings.HasSuffix(err.Error(), c.wrong) {
					t.Errorf("got %v, want %s", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkMode(t, path)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func checkMode(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket has mode %v", info.Mode())
	}
	// The umask was put back.
	probe := path + ".probe"
	if err := os.WriteFile(probe, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if info, err = os.Stat(probe); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("a file made afterwards has mode %v, %v", info.Mode(), err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	stale(t, filepath.Join(dir, "stale"))
	for _, c := range []struct{ what, socket, want string }{
		{"no socket", "none", "there is no such socket; start the daemon (mailsyncd serve), or name its socket with --socket or MAILSYNCD_SOCKET"},
		{"a dead daemon's socket", "stale", "nobody listens on it; start the daemon (mailsyncd serve); it replaces the socket"},
	} {
		socket := filepath.Join(dir, c.socket)
		_, err := admin.NewClient(socket).Status(t.Context())
		var unreachable *admin.UnreachableError
		if !errors.As(err, &unreachable) || unreachable.Socket != socket {
			t.Errorf("%s: got %v", c.what, err)
			continue
		}
		if want := "the daemon cannot be reached at " + socket + ": " + c.want; err.Error() != want {
			t.Errorf("%s: got %v, want %s", c.what, err, want)
		}
	}
}

// What answers on the socket may be something else, or a daemon that dies.
func TestOddAnswers(t *testing.T) {
	for _, c := range []struct {
		what   string
		answer http.HandlerFunc
		wrong  string
	}{
		{"an error that is no problem", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>", http.StatusBadGateway)
		}, "the daemon answered 502 Bad Gateway without saying why; see its log"},
		{"something that is no JSON", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("hello"))
		}, "it does not answer; see its log"},
		{"an answer cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"version":`))
		}, "it does not answer; see its log"},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: c.answer}
		ended := make(chan struct{})
		go func() { _ = srv.Serve(l); close(ended) }()
		client := admin.NewClient(socket)
		if _, err := client.Status(t.Context()); err == nil || !strings.HasSuffix(err.Error(), c.wrong) {
			t.Errorf("%s: got %v, want %s", c.what, err, c.wrong)
		}
		client.Close()
		_ = srv.Close()
		<-ended
	}
}
