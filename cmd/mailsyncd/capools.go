package main

import (
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"os"
	"slices"
	"sync"
)

// caPools holds one pool for each content of a CA file, however many mailboxes
// name it and under however many paths: thousands of mailboxes trust the same few
// certificates.
type caPools struct {
	mu    sync.Mutex
	files map[string][sha256.Size]byte // the digest of what a path held last
	pools map[[sha256.Size]byte]*x509.CertPool
}

// read returns the pool of what the file holds now.
func (c *caPools) read(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(pem)
	c.mu.Lock()
	defer c.mu.Unlock()
	pool := c.pools[digest]
	if pool == nil {
		if pool, err = parseCAs(file, pem); err != nil {
			return nil, err
		}
	}
	c.keep(file, digest, pool)
	return pool, nil
}

// keep remembers a pool and forgets those that no file holds any more.
func (c *caPools) keep(file string, digest [sha256.Size]byte, pool *x509.CertPool) {
	if c.files == nil {
		c.files, c.pools = map[string][sha256.Size]byte{}, map[[sha256.Size]byte]*x509.CertPool{}
	}
	was, known := c.files[file]
	c.files[file], c.pools[digest] = digest, pool
	if known && was != digest && !slices.Contains(slices.Collect(maps.Values(c.files)), was) {
		delete(c.pools, was)
	}
}
