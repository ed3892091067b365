package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is sun_path without its closing zero byte (unix(7)).
const maxSocketPath = 107

// Listen makes the socket, mode 0660 from its first moment, and its folder
// when that is missing. A socket that a dead daemon left behind is replaced;
// one that answers is not.
//
// It sets the process's umask for the blink of making the socket: call it
// while nothing else makes files.
func Listen(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("admin socket %s: the path has %d bytes, a socket's may have %d; choose a shorter one with admin.socket", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("admin socket: making its folder: %w; create it, or let the service manager do so (RuntimeDirectory=)", err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	old := unix.Umask(0o117)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w; check that its folder is writable", err)
	}
	return l, nil
}

// clearStale removes a socket that nobody listens on.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("admin socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("admin socket %s: something else has this name; remove it or choose another path with admin.socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close() // only asked whether somebody is there
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("admin socket %s: another mailsyncd answers there; stop it or choose another path with admin.socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("admin socket: removing the one a dead daemon left: %w", err)
	}
	return nil
}

// Serve answers calls on l until ctx ends; then calls under way are cancelled
// and given five seconds to say so. It closes l, and returns nil after ctx.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withCaller,
		ReadHeaderTimeout: 10 * time.Second,
		// A sync may take long, so an answer has no deadline; idle callers do.
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- shutDown(ctx, srv) })
	err := srv.Serve(l)
	if stop() { // ctx is alive: the listener failed
		return fmt.Errorf("admin socket: %w", err)
	}
	return <-stopped
}

func shutDown(ctx context.Context, srv *http.Server) error {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		return srv.Close()
	}
	return nil
}

type callerKey struct{}

// withCaller remembers who is at the other end, as the kernel says it.
func withCaller(ctx context.Context, c net.Conn) context.Context {
	uid := -1
	if uc, ok := c.(*net.UnixConn); ok {
		uid = peer(uc)
	}
	return context.WithValue(ctx, callerKey{}, uid)
}

// caller is the user id behind a call; -1 when it is not known.
func caller(ctx context.Context) int {
	if uid, ok := ctx.Value(callerKey{}).(int); ok {
		return uid
	}
	return -1
}
