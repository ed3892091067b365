package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// examine walks all pages of a bbolt file before bbolt maps it. bbolt follows
// page numbers and lengths as they stand: a damaged one makes it panic, recurse
// until the stack ends, fault beyond the file's end, or, worst, write over live
// pages that a damaged free list calls free. So everything it will rely on is
// looked at first: the meta pages, the file's length, the free list, that each
// page is reached once and is what its parent says, that keys are in order and
// elements lie inside their page. What the rows hold is the seal's business.
//
// The layout is that of bbolt's format 2, in the machine's byte order:
//
//	page    id 8 | flags 2 | count 2 | overflow 4
//	meta    magic 4 | version 4 | page size 4 | flags 4 | root 8 | sequence 8 |
//	        free list 8 | high water mark 8 | transaction 8 | FNV-64a of these 8
//	branch  elements of: position 4 | key size 4 | child 8
//	leaf    elements of: flags 4 | position 4 | key size 4 | value size 4
//
// Positions count from their own element; a leaf element with flag 1 is a
// bucket: its value is root page 8 | sequence 8, and where root is 0 the
// bucket's only page follows in place.
func examine(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := (&examiner{f: f, size: info.Size()}).run(); err != nil {
		return corrupt(f.Name(), "its pages are damaged", err)
	}
	return nil
}

const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	flagBranch  = 0x01
	flagLeaf    = 0x02
	flagFree    = 0x10
	maxDepth    = 64 // of a tree; bbolt's are below 10
)

type examiner struct {
	f        io.ReaderAt
	size     int64 // of the file
	pageSize int64
	high     uint64 // pages from here on do not exist
	reached  []bool
	free     []bool
	bucket   string // top-level bucket being walked, for the error
	spare    [][]byte
}

type metaPage struct {
	pageSize             int64
	root, freelist, high uint64
	txid                 uint64
}

func (x *examiner) run() error {
	m, err := x.newestMeta()
	if err != nil {
		return err
	}
	x.pageSize, x.high = m.pageSize, m.high
	if have := x.size / x.pageSize; m.high > uint64(have) {
		return fmt.Errorf("the file is cut short: %d pages of %d", have, m.high)
	}
	x.reached, x.free = make([]bool, m.high), make([]bool, m.high)
	x.reached[0], x.reached[1] = true, true
	if err := x.freeList(m.freelist); err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	return x.tree(m.root, nil, nil, 0)
}

// newestMeta picks the meta page that bbolt will: the valid one with the higher
// transaction. One invalid page is what a crash may leave.
func (x *examiner) newestMeta() (best metaPage, err error) {
	found := false
	for _, at := range x.metaOffsets() {
		m, ok := x.readMeta(at)
		if ok && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	switch {
	case !found:
		return best, errors.New("neither head page is valid: cut short, damaged, or not a store file")
	case best.high < 4 || best.root >= best.high || best.freelist >= best.high:
		return best, errors.New("the head page names pages that do not exist")
	}
	return best, nil
}

// metaOffsets are 0 and one page; where page 0 does not say how long that is,
// every length bbolt would try.
func (x *examiner) metaOffsets() []int64 {
	if m, ok := x.readMeta(0); ok {
		return []int64{0, m.pageSize}
	}
	var all []int64
	for size := int64(1024); size <= 1024<<14; size *= 2 {
		all = append(all, size)
	}
	return all
}

func (x *examiner) readMeta(at int64) (m metaPage, ok bool) {
	raw := make([]byte, pageHeader+metaSize)
	if _, err := x.f.ReadAt(raw, at); err != nil {
		return m, false
	}
	raw = raw[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(raw[:metaSize-8])
	ne := binary.NativeEndian
	ok = ne.Uint32(raw) == metaMagic && ne.Uint32(raw[4:]) == metaVersion && ne.Uint64(raw[56:]) == sum.Sum64()
	m = metaPage{
		pageSize: int64(ne.Uint32(raw[8:])), root: ne.Uint64(raw[16:]),
		freelist: ne.Uint64(raw[32:]), high: ne.Uint64(raw[40:]), txid: ne.Uint64(raw[48:]),
	}
	return m, ok && m.pageSize >= 1024 && m.pageSize <= 1<<24 && m.high < 1<<40
}

// page is one page of the file with its overflow.
type rawPage struct {
	id    uint64
	flags uint16
	count int
	body  []byte // header included
}

// read loads a page, checks that it is itself, and marks it reached.
func (x *examiner) read(id uint64) (p rawPage, err error) {
	if id < 2 || id >= x.high {
		return p, fmt.Errorf("page %d does not exist", id)
	}
	head := make([]byte, pageHeader)
	if _, err := x.f.ReadAt(head, int64(id)*x.pageSize); err != nil {
		return p, fmt.Errorf("page %d: %w", id, err)
	}
	ne := binary.NativeEndian
	p = rawPage{id: id, flags: ne.Uint16(head[8:]), count: int(ne.Uint16(head[10:]))}
	overflow := uint64(ne.Uint32(head[12:]))
	if ne.Uint64(head) != id || id+overflow >= x.high {
		return p, fmt.Errorf("page %d is not itself", id)
	}
	for i := id; i <= id+overflow; i++ {
		if x.reached[i] || x.free[i] {
			return p, fmt.Errorf("page %d is used twice", i)
		}
		x.reached[i] = true
	}
	p.body = x.buffer(int64(overflow+1) * x.pageSize)
	if _, err := io.ReadFull(io.NewSectionReader(x.f, int64(id)*x.pageSize, int64(len(p.body))), p.body); err != nil {
		return p, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// buffer returns room for a page: one that release gave back, where it fits.
func (x *examiner) buffer(size int64) []byte {
	if n := len(x.spare); n > 0 && size == x.pageSize {
		b := x.spare[n-1]
		x.spare = x.spare[:n-1]
		return b
	}
	return make([]byte, size)
}

// release gives a page back once nothing below it needs its keys as bounds.
func (x *examiner) release(p rawPage) {
	if int64(len(p.body)) == x.pageSize {
		x.spare = append(x.spare, p.body)
	}
}

// freeList reads which pages bbolt may write over.
func (x *examiner) freeList(id uint64) error {
	p, err := x.read(id)
	if err != nil {
		return err
	}
	if p.flags != flagFree {
		return fmt.Errorf("page %d is no free list", id)
	}
	ids, n := p.body[pageHeader:], uint64(p.count)
	if n == 0xFFFF { // longer lists keep their length in the first element
		n, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return fmt.Errorf("page %d claims more entries than it holds", id)
	}
	for ; n > 0; n, ids = n-1, ids[8:] {
		free := binary.NativeEndian.Uint64(ids)
		if free < 2 || free >= x.high || x.free[free] || x.reached[free] {
			return fmt.Errorf("page %d lists page %d, which is not free", id, free)
		}
		x.free[free] = true
	}
	return nil
}

// tree walks the pages below id. Their keys must lie in [low, high); nil is
// unbounded.
func (x *examiner) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return x.at(id, errors.New("the tree is too deep"))
	}
	p, err := x.read(id)
	if err != nil {
		return x.at(id, err)
	}
	defer x.release(p)
	switch p.flags {
	case flagLeaf:
		if p.count == 0 && low != nil {
			return x.at(id, errors.New("an empty page inside a tree"))
		}
		return x.leaf(p, low, high, depth)
	case flagBranch:
		return x.branch(p, low, high, depth)
	}
	return x.at(id, fmt.Errorf("page %d is neither branch nor leaf", id))
}

func (x *examiner) branch(p rawPage, low, high []byte, depth int) error {
	keys, children, err := branchElements(p)
	if err != nil {
		return x.at(p.id, err)
	}
	if err := inOrder(keys, low, high); err != nil {
		return x.at(p.id, err)
	}
	for i, child := range children {
		end := high
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		if err := x.tree(child, keys[i], end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (x *examiner) leaf(p rawPage, low, high []byte, depth int) error {
	keys, values, buckets, err := leafElements(p)
	if err != nil {
		return x.at(p.id, err)
	}
	if err := inOrder(keys, low, high); err != nil {
		return x.at(p.id, err)
	}
	for i := range keys {
		if !buckets[i] {
			continue
		}
		outer := x.bucket
		if outer == "" {
			x.bucket = fmt.Sprintf("%.20q", keys[i])
		}
		if err := x.subBucket(p.id, values[i], depth); err != nil {
			return err
		}
		x.bucket = outer
	}
	return nil
}

// subBucket walks a bucket, which has pages of its own or lies inside its
// parent's.
func (x *examiner) subBucket(parent uint64, value []byte, depth int) error {
	if len(value) < 16 {
		return x.at(parent, errors.New("a bucket is cut short"))
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return x.tree(root, nil, nil, depth+1)
	}
	inline := value[16:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != flagLeaf {
		return x.at(parent, errors.New("a small bucket is damaged"))
	}
	p := rawPage{id: parent, flags: flagLeaf, count: int(binary.NativeEndian.Uint16(inline[10:])), body: inline}
	keys, _, buckets, err := leafElements(p)
	if err != nil {
		return x.at(parent, err)
	}
	for _, nested := range buckets {
		if nested {
			return x.at(parent, errors.New("a small bucket holds a bucket"))
		}
	}
	if err := inOrder(keys, nil, nil); err != nil {
		return x.at(parent, err)
	}
	return nil
}

func (x *examiner) at(page uint64, err error) error {
	if x.bucket == "" {
		return fmt.Errorf("page %d: %w", page, err)
	}
	return fmt.Errorf("bucket %s, page %d: %w", x.bucket, page, err)
}

// cutter cuts the elements' bytes out of a page. bbolt writes them one after
// the other behind the last element, so each must begin where the one before
// ended: a count that was changed moves where the first one should begin, and
// no element can vanish unseen.
type cutter struct {
	p    rawPage
	next uint64
}

func newCutter(p rawPage) (*cutter, []byte, error) {
	end := pageHeader + p.count*elementSize
	switch {
	case end > len(p.body):
		return nil, nil, errors.New("more elements than the page holds")
	case p.count == 0 && !allZero(p.body[pageHeader:min(pageHeader+elementSize, len(p.body))]):
		return nil, nil, errors.New("an empty page that holds something")
	}
	return &cutter{p: p, next: uint64(end)}, p.body[pageHeader:end], nil
}

func allZero(raw []byte) bool { return len(bytes.Trim(raw, "\x00")) == 0 }

// cut returns size bytes of an element whose position is pos.
func (c *cutter) cut(element int, pos uint32, size uint64) ([]byte, error) {
	from := uint64(pageHeader+element*elementSize) + uint64(pos)
	if from != c.next || from+size > uint64(len(c.p.body)) {
		return nil, fmt.Errorf("element %d is not where it should be", element)
	}
	c.next += size
	return c.p.body[from:c.next], nil
}

func branchElements(p rawPage) (keys [][]byte, children []uint64, err error) {
	c, raw, err := newCutter(p)
	if err != nil {
		return nil, nil, err
	}
	if p.count == 0 {
		return nil, nil, errors.New("a branch without children")
	}
	ne := binary.NativeEndian
	for i := 0; i < p.count; i, raw = i+1, raw[elementSize:] {
		key, err := c.cut(i, ne.Uint32(raw), uint64(ne.Uint32(raw[4:])))
		if err != nil {
			return nil, nil, err
		}
		keys, children = append(keys, key), append(children, ne.Uint64(raw[8:]))
	}
	return keys, children, nil
}

func leafElements(p rawPage) (keys, values [][]byte, buckets []bool, err error) {
	c, raw, err := newCutter(p)
	if err != nil {
		return nil, nil, nil, err
	}
	ne := binary.NativeEndian
	for i := 0; i < p.count; i, raw = i+1, raw[elementSize:] {
		flags, pos, ksize, vsize := ne.Uint32(raw), ne.Uint32(raw[4:]), uint64(ne.Uint32(raw[8:])), uint64(ne.Uint32(raw[12:]))
		both, err := c.cut(i, pos, ksize+vsize)
		if err != nil {
			return nil, nil, nil, err
		}
		if flags > 1 {
			return nil, nil, nil, fmt.Errorf("element %d is of no known kind", i)
		}
		keys, values = append(keys, both[:ksize]), append(values, both[ksize:])
		buckets = append(buckets, flags == 1)
	}
	return keys, values, buckets, nil
}

// inOrder checks that keys rise inside [low, high).
func inOrder(keys [][]byte, low, high []byte) error {
	for i, key := range keys {
		switch {
		case len(key) == 0:
			return fmt.Errorf("key %d is empty", i)
		case i == 0 && low != nil && bytes.Compare(key, low) < 0,
			i > 0 && bytes.Compare(key, keys[i-1]) <= 0,
			high != nil && bytes.Compare(key, high) >= 0:
			return fmt.Errorf("key %d is out of order", i)
		}
	}
	return nil
}
