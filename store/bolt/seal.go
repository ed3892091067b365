package bolt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"sync"

	"mailsyncd/store"
)

// Sealing. A value at rest is
//
//	data key number, 4 bytes | nonce, 12 bytes | ciphertext | tag, 16 bytes
//
// AES-256-GCM with a random nonce; the associated data is the schema version,
// the bucket's name and the row's key. So a flipped bit, a value moved to
// another row and a value of another schema are all found, where bbolt itself
// has no checksum for its pages. The data keys lie in the file, wrapped the
// same way by a key that does not; a wrapped key begins with the 8 byte id of
// the key that wraps it.
//
// Random nonces allow 2^32 values under one data key at a collision risk of
// 2^-32 (NIST SP 800-38D §8.3); a rotation begins a new one.

const keyNoSize = 4

var (
	errBadSeal    = errors.New("the value does not open: changed on disk, or moved from another row")
	errUnknownKey = errors.New("sealed under a data key that the file does not hold")
)

// ring holds the opened keys of a store.
type ring struct {
	mu      sync.RWMutex
	data    map[uint32]cipher.AEAD
	secrets map[uint32]*[32]byte // to wrap them again
	current uint32
	index   *index
	// indexSecret is kept to wrap it again.
	indexSecret *[32]byte
	// rewrap tells that a key of the file is not wrapped by the current key.
	rewrap bool
}

// rotationDue tells that the file still depends on the previous key.
func (r *ring) rotationDue() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.rewrap
}

func (r *ring) setRewrap(due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewrap = due
}

func newRing() *ring {
	return &ring{data: map[uint32]cipher.AEAD{}, secrets: map[uint32]*[32]byte{}}
}

func (r *ring) setIndex(secret *[32]byte) {
	r.index, r.indexSecret = newIndex(secret), secret
}

func newAEAD(secret *[32]byte) cipher.AEAD {
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic(err) // 32 bytes always fit
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES blocks always fit
	}
	return aead
}

// add makes a data key known.
func (r *ring) add(no uint32, secret *[32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data[no], r.secrets[no] = newAEAD(secret), secret
}

// use makes a known data key the one that seals.
func (r *ring) use(no uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = no
}

func (r *ring) sealer() (uint32, cipher.AEAD) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current, r.data[r.current]
}

func (r *ring) opener(no uint32) cipher.AEAD {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.data[no]
}

// prefix is what every value sealed under a data key begins with.
func (r *ring) prefix(no uint32) []byte { return binary.BigEndian.AppendUint32(nil, no) }

// forget drops a key that never sealed anything.
func (r *ring) forget(no uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.data, no)
	delete(r.secrets, no)
}

// retire drops the secrets of all data keys but the current one: they are not
// to be wrapped again. They still open values: a reader that began before the
// rotation ended may meet some.
func (r *ring) retire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for no := range r.secrets {
		if no != r.current {
			delete(r.secrets, no)
		}
	}
}

// rowAAD binds a value to its place.
func rowAAD(buf []byte, b bucket, key []byte) []byte {
	buf = append(buf[:0], schemaVersion)
	buf = append(buf, b...)
	buf = append(buf, 0)
	return append(buf, key...)
}

func (r *ring) seal(b bucket, key, plain []byte) []byte {
	no, aead := r.sealer()
	out := make([]byte, keyNoSize, keyNoSize+aead.Overhead()+len(plain))
	binary.BigEndian.PutUint32(out, no)
	var buf [96]byte
	return aead.Seal(out, nil, plain, rowAAD(buf[:0], b, key))
}

func (r *ring) open(b bucket, key, sealed []byte) ([]byte, error) {
	if len(sealed) < keyNoSize {
		return nil, errBadSeal
	}
	aead := r.opener(binary.BigEndian.Uint32(sealed))
	if aead == nil {
		return nil, errUnknownKey
	}
	var buf [96]byte
	plain, err := aead.Open(nil, nil, sealed[keyNoSize:], rowAAD(buf[:0], b, key))
	if err != nil {
		return nil, errBadSeal
	}
	return plain, nil
}

// wrap seals a key of the file under a key outside of it.
func wrap(k Key, name string, secret *[32]byte) []byte {
	id, _ := hex.DecodeString(k.ID())
	return newAEAD(k.secret).Seal(id, nil, secret[:], rowAAD(nil, bKeys, []byte(name)))
}

// unwrap opens a wrapped key with whichever key fits, and tells which id the
// value names.
func unwrap(ks Keys, name string, wrapped []byte) (secret *[32]byte, id string, err error) {
	if len(wrapped) < 8 {
		return nil, "", errBadSeal
	}
	id = hex.EncodeToString(wrapped[:8])
	for _, k := range []Key{ks.Current, ks.Previous} {
		if k.ID() != id {
			continue
		}
		raw, err := newAEAD(k.secret).Open(nil, nil, wrapped[8:], rowAAD(nil, bKeys, []byte(name)))
		if err != nil || len(raw) != 32 {
			return nil, id, errBadSeal
		}
		return (*[32]byte)(raw), id, nil
	}
	return nil, id, errUnknownKey
}

func newSecret() *[32]byte {
	var s [32]byte
	_, _ = rand.Read(s[:]) // never fails: crypto/rand ends the process instead
	return &s
}

// ---- index -------------------------------------------------------------

// What is hashed, so that equal texts of different kinds give different keys.
const (
	tCandidate byte = 'c'
	tJob       byte = 'j'
	tUser      byte = 'u'
	tMailbox   byte = 'b'
	tTask      byte = 't'
	tSecret    byte = 'k'
	tMessage   byte = 'm'
	tMailID    byte = 'i'
	tStream    byte = 's'
	tThread    byte = 'h'
	tReceipt   byte = 'r'
	tEventID   byte = 'e'
)

// hkey is a hashed key.
type hkey [16]byte

// index makes bucket keys and event ids. Its secret is made with the store and
// never changes: every key in the file depends on it.
type index struct {
	macs sync.Pool
	ids  cipher.Block
}

func newIndex(secret *[32]byte) *index {
	x := &index{}
	x.macs.New = func() any { return hmac.New(sha256.New, secret[:]) }
	block, err := aes.NewCipher(x.sum(tEventID, "ids"))
	if err != nil {
		panic(err) // 32 bytes always fit
	}
	x.ids = block
	return x
}

func (x *index) sum(tag byte, text string) []byte {
	mac := x.macs.Get().(hash.Hash)
	defer x.macs.Put(mac)
	mac.Reset()
	var buf [128]byte
	mac.Write(append(append(buf[:0], tag), text...))
	return mac.Sum(make([]byte, 0, sha256.Size))
}

func (x *index) key(tag byte, text string) (k hkey) {
	copy(k[:], x.sum(tag, text))
	return k
}

const eventPrefix = "evt_"

// taskID is the id of a task, made as an event's is; the complement of the epoch
// keeps the two apart.
func (s *Store) taskID(no uint64) string {
	return store.TaskPrefix + s.ring.index.pack(^s.base, no)
}

// taskNo is the inverse; ok is false for an id this store did not give.
func (s *Store) taskNo(id string) (no uint64, ok bool) {
	text, ok := strings.CutPrefix(id, store.TaskPrefix)
	if !ok {
		return 0, false
	}
	epoch, no, ok := s.ring.index.unpack(text)
	return no, ok && epoch == ^s.base
}

// idCoding writes ids: lower-case base32 without padding, 26 characters for 16
// bytes.
var idCoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// eventID turns an event's number into its webhook id: one AES block over epoch
// and number. A permutation needs no bucket to find the row again, cannot
// repeat, and tells a reader no more than a keyed hash would.
func (x *index) eventID(epoch, no uint64) string { return eventPrefix + x.pack(epoch, no) }

func (x *index) pack(epoch, no uint64) string {
	var block [16]byte
	binary.BigEndian.PutUint64(block[:8], epoch)
	binary.BigEndian.PutUint64(block[8:], no)
	x.ids.Encrypt(block[:], block[:])
	return idCoding.EncodeToString(block[:])
}

// eventPlace is the inverse; ok is false for what is no webhook id. Whether this
// store gave it is for tx.eventNo to say.
func (x *index) eventPlace(id string) (epoch, no uint64, ok bool) {
	text, ok := strings.CutPrefix(id, eventPrefix)
	if !ok {
		return 0, 0, false
	}
	return x.unpack(text)
}

func (x *index) unpack(text string) (epoch, no uint64, ok bool) {
	raw, err := idCoding.DecodeString(text)
	if err != nil || len(raw) != 16 {
		return 0, 0, false
	}
	x.ids.Decrypt(raw, raw)
	return binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:]), true
}

// receipt names an erasure.
func (x *index) receipt(epoch, no uint64) string {
	sum := x.sum(tReceipt, fmt.Sprintf("%d|%d", epoch, no))
	return "rcpt_" + idCoding.EncodeToString(sum[:16])
}

// threadID derives a thread's id from its root. It is a plain hash, so that a
// store that was rebuilt mostly gives the same; salt tells apart threads of
// strangers that claim one root.
func threadID(root string, salt int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "mailsyncd thread 1\x00%s\x00%d", root, salt))
	return "thr_" + idCoding.EncodeToString(sum[:16])
}
