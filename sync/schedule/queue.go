package schedule

// queue is a binary heap whose members know their own place in it, so that one
// can be taken out of the middle or moved when its rank changes. A member is in
// at most one queue at a time.
type queue[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(T) *int // where a member keeps its index
}

func (q *queue[T]) len() int { return len(q.items) }

// head returns the first member; the queue must not be empty.
func (q *queue[T]) head() T { return q.items[0] }

func (q *queue[T]) push(x T) {
	q.items = append(q.items, x)
	*q.place(x) = len(q.items) - 1
	q.up(len(q.items) - 1)
}

func (q *queue[T]) remove(x T) {
	var none T
	i, last := *q.place(x), len(q.items)-1
	q.swap(i, last)
	q.items[last] = none // lets the garbage collector have it
	q.items = q.items[:last]
	if i < last {
		q.fix(i)
	}
}

// moved puts a member back in order after its rank changed.
func (q *queue[T]) moved(x T) { q.fix(*q.place(x)) }

// reorder puts everything in order after any number of ranks changed.
func (q *queue[T]) reorder() {
	for i := len(q.items)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
}

func (q *queue[T]) fix(i int) {
	if !q.down(i) {
		q.up(i)
	}
}

func (q *queue[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(q.items[i], q.items[parent]) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

// down tells whether the member moved.
func (q *queue[T]) down(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(q.items) {
			break
		}
		if right := child + 1; right < len(q.items) && q.less(q.items[right], q.items[child]) {
			child = right
		}
		if !q.less(q.items[child], q.items[i]) {
			break
		}
		q.swap(i, child)
		i = child
	}
	return i > start
}

func (q *queue[T]) swap(i, j int) {
	q.items[i], q.items[j] = q.items[j], q.items[i]
	*q.place(q.items[i]), *q.place(q.items[j]) = i, j
}
