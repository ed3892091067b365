package imap

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// CAs holds one pool for each content of a CA file, however many mailboxes name it
// and under however many paths: thousands of mailboxes trust the same few
// certificates. Every poll asks for its pool, so that a replaced file counts at
// once; one that looks as it did is not read again, since a bundle of authorities
// takes as long to read as the poll takes for the rest. The zero value is ready.
type CAs struct {
	mu    sync.Mutex
	files map[string]caFile
	pools map[[sha256.Size]byte]*x509.CertPool
}

// caFile is what a path held last.
type caFile struct {
	digest [sha256.Size]byte
	info   os.FileInfo
	// settled tells that the file was not written to just before it was read: a
	// second write within one tick of the file system's clock would not show.
	settled bool
}

const caFileTick = 2 * time.Second

// looksLike tells whether a file looks as it did when it was read.
func (f caFile) looksLike(now os.FileInfo) bool {
	return f.settled && os.SameFile(f.info, now) && f.info.Size() == now.Size() && f.info.ModTime().Equal(now.ModTime())
}

// Pool returns the pool of what the file holds now.
func (c *CAs) Pool(path string) (*x509.CertPool, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if pool := c.unchanged(path, info); pool != nil {
		return pool, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return c.changed(path, pem, caFile{sha256.Sum256(pem), info, time.Since(info.ModTime()) > caFileTick})
}

// unchanged returns the pool of a file that looks as it did; nil otherwise.
func (c *CAs) unchanged(path string, info os.FileInfo) *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was := c.files[path]; was.looksLike(info) {
		return c.pools[was.digest]
	}
	return nil
}

// changed makes the pool of what was read, unless there is one, and forgets the
// pool that no file holds any more.
func (c *CAs) changed(path string, pem []byte, now caFile) (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pool := c.pools[now.digest]
	if pool == nil {
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%q holds no PEM certificate", path)
		}
	}
	if c.files == nil {
		c.files, c.pools = map[string]caFile{}, map[[sha256.Size]byte]*x509.CertPool{}
	}
	was, known := c.files[path]
	c.files[path], c.pools[now.digest] = now, pool
	holds := func(f caFile) bool { return f.digest == was.digest }
	if known && !slices.ContainsFunc(slices.Collect(maps.Values(c.files)), holds) {
		delete(c.pools, was.digest)
	}
	return pool, nil
}
