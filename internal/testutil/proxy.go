package testutil

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what a Proxy does to one connection. The zero value does nothing.
type Fault struct {
	// After is how many bytes of the server pass before the fault strikes; only
	// with Cut or Hang.
	After int64
	// Cut closes both sides; Hang keeps them open and passes nothing more.
	Cut, Hang bool
	// Delay is added to everything, in both directions: half a round trip.
	Delay time.Duration
}

// Proxy stands between a client and a server in plain text and records what the
// client says.
type Proxy struct {
	Addr string

	upstream string
	listener net.Listener
	wg       sync.WaitGroup
	done     chan struct{}

	mu       sync.Mutex
	fault    func() Fault
	commands []string
	trips    int
	in, out  int64
	conns    map[net.Conn]bool

	generation int // counts Resets
}

// StartProxy starts a proxy to upstream and stops it when the test ends.
func StartProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Addr: l.Addr().String(), upstream: upstream, listener: l,
		done: make(chan struct{}), conns: map[net.Conn]bool{},
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

func (p *Proxy) stop() {
	close(p.done)
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// SetFault is asked once for every connection; nil ends it.
func (p *Proxy) SetFault(f func() Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// Reset forgets what was recorded; from then on only connections made later
// count, so that the end of one session does not show up in the next.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commands, p.trips, p.in, p.out = nil, 0, 0, 0
	p.generation++
}

// Commands returns the lines the client sent, in order, without their ends.
func (p *Proxy) Commands() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.commands...)
}

// RoundTrips counts how often the server answered after the client had spoken,
// and its greetings: the waits that distance makes long. Commands that leave
// together count once.
func (p *Proxy) RoundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.trips
}

// Bytes counts what came from the server and what went to it.
func (p *Proxy) Bytes() (in, out int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.in, p.out
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

// link is one connection through the proxy.
type link struct {
	p              *Proxy
	client, server net.Conn
	fault          Fault
	generation     int
	spoke          bool // the client said something the server has not answered; guarded by p.mu
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{p: p, client: client, server: server, spoke: true}
	p.mu.Lock()
	l.generation = p.generation
	if p.fault != nil {
		l.fault = p.fault()
	}
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	defer func() {
		l.close()
		p.mu.Lock()
		delete(p.conns, client)
		delete(p.conns, server)
		p.mu.Unlock()
	}()
	select {
	case <-p.done:
		return
	default:
	}
	var both sync.WaitGroup
	both.Go(l.upwards)
	both.Go(l.downwards)
	both.Wait()
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// note records, unless a Reset came since the connection was made.
func (l *link) note(record func()) {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	if l.generation == l.p.generation {
		record()
	}
}

// upwards passes and records what the client says.
func (l *link) upwards() {
	defer l.server.Close()
	pr, pw := io.Pipe()
	defer pw.Close()
	l.p.wg.Go(func() { l.record(pr) })
	buf := make([]byte, 32<<10)
	for {
		n, err := l.client.Read(buf)
		if n > 0 {
			l.note(func() { l.spoke = true; l.p.out += int64(n) })
			_, _ = pw.Write(buf[:n])
			if !l.pause() {
				return
			}
			if _, err := l.server.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *link) record(r io.Reader) {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.note(func() { l.p.commands = append(l.p.commands, line) })
		}
		if err != nil {
			return
		}
	}
}

// downwards passes what the server says until the fault strikes.
func (l *link) downwards() {
	defer l.client.Close()
	left := l.fault.After
	strikes := l.fault.Cut || l.fault.Hang
	buf := make([]byte, 32<<10)
	for {
		n, err := l.server.Read(buf)
		if strikes && int64(n) >= left {
			l.pass(buf[:left])
			if l.fault.Cut {
				return
			}
			_, _ = io.Copy(io.Discard, l.server) // hang until the client gives up
			return
		}
		left -= int64(n)
		if n > 0 && !l.pass(buf[:n]) || err != nil {
			return
		}
	}
}

func (l *link) pass(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	l.note(func() {
		if l.spoke {
			l.p.trips++
			l.spoke = false
		}
		l.p.in += int64(len(b))
	})
	if !l.pause() {
		return false
	}
	_, err := l.client.Write(b)
	return err == nil
}

// pause waits for the delay; false when the proxy stops.
func (l *link) pause() bool {
	if l.fault.Delay == 0 {
		return true
	}
	t := time.NewTimer(l.fault.Delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.p.done:
		return false
	}
}
