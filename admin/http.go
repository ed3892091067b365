package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// The largest request bodies, in bytes. A directory put is a file.
const (
	maxBody    = 1 << 20
	maxPutBody = 64 << 20
)

// answer makes a handler of a call that returns something.
func answer[T any](call func(*http.Request) (T, error)) http.HandlerFunc {
	return respond(http.StatusOK, call)
}

// accepted makes a handler of a call that begins something and does not wait
// for its end: it answers with what to look at meanwhile.
func accepted[T any](call func(*http.Request) (T, error)) http.HandlerFunc {
	return respond(http.StatusAccepted, call)
}

func respond[T any](status int, call func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(r)
		if err != nil {
			writeProblem(w, err)
			return
		}
		fillLists(reflect.ValueOf(&v).Elem())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false) // no browser reads this, people do
		_ = enc.Encode(v)        // the caller has gone; nobody is left to tell
	}
}

// fillLists makes lists that are always sent empty where they are nil, so that
// no program on the other side has to expect null.
func fillLists(v reflect.Value) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		field := v.Field(i)
		optional := strings.Contains(v.Type().Field(i).Tag.Get("json"), ",omit")
		switch {
		case field.Kind() == reflect.Slice && field.IsNil() && !optional:
			field.Set(reflect.MakeSlice(field.Type(), 0, 0))
		case field.Kind() == reflect.Map && field.IsNil() && !optional:
			field.Set(reflect.MakeMap(field.Type()))
		case field.Kind() == reflect.Slice:
			for j := range field.Len() {
				fillLists(field.Index(j))
			}
		case field.Kind() == reflect.Struct && !optional, field.Kind() == reflect.Pointer: // times are optional
			fillLists(field)
		}
	}
}

// done makes a handler of a call that returns nothing.
func done(call func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := call(r); err != nil {
			writeProblem(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// noRoute answers calls that do not exist, and tells a wrong method from a
// wrong path.
func noRoute(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
			if _, pattern := mux.Handler(other); pattern != "/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			writeProblem(w, NotFound("there is no such call; GET /v1/openapi.yaml lists them"))
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeProblem(w, problem(http.StatusMethodNotAllowed, "this path takes %s", strings.Join(allowed, " or ")))
	}
}

// limited bounds request bodies.
func limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := int64(maxBody)
		if r.Method == http.MethodPut && r.URL.Path == "/v1/directory" {
			limit = maxPutBody
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		next.ServeHTTP(w, r)
	})
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// logged writes one line per call that changes something or fails, and turns a
// panic into an answer: the stack goes to the log, the value does not, since it
// may hold a record.
func (s *server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{w, http.StatusOK}
		defer func() {
			if recover() != nil {
				s.Log.Error("admin call crashed", "event", "admin_crash", "call", r.Pattern, "stack", string(debug.Stack()))
				writeProblem(rec, problem(http.StatusInternalServerError, "the call crashed; see the daemon's log, event admin_crash"))
			}
			if r.Method != http.MethodGet || rec.status >= http.StatusInternalServerError {
				s.Log.Info("admin call", "event", "admin_call", "call", r.Pattern, "status", rec.status, "uid", caller(r.Context()))
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// decode reads the one JSON value of a body. An empty body leaves v as it is.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return err
	case err != nil:
		return badRequest("the body is not the JSON this call takes: %s; see GET /v1/openapi.yaml", jsonProblem(err))
	case dec.More():
		return badRequest("the body holds more than one JSON value; send one")
	}
	return nil
}

// jsonProblem says what is wrong with JSON without repeating a value of it.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return "syntax error at byte " + strconv.FormatInt(syntax.Offset, 10)
	case errors.As(err, &kind):
		where := "it"
		if kind.Field != "" {
			where = "field " + strconv.Quote(kind.Field)
		}
		return where + " has the wrong type, " + strings.Fields(kind.Value)[0]
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		return strings.TrimPrefix(err.Error(), "json: ")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	default:
		return "a value cannot be read"
	}
}

// query checks that only known parameters were passed, each once: a filter
// with a typo must not select everything.
func query(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query string cannot be read; escape it")
	}
	for name, all := range values {
		if !slices.Contains(known, name) {
			return nil, badRequest("unknown parameter %q; known here: %s", name, orNone(known))
		}
		if len(all) > 1 {
			return nil, badRequest("parameter %q stands twice; pass it once", name)
		}
	}
	return values, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// limit reads the size of a page: 100 unless told, at most 1000.
func limit(values url.Values) (int, error) {
	text := values.Get("limit")
	if text == "" {
		return 100, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 1000 {
		return 0, badRequest("limit is out of range; pass 1 to 1000")
	}
	return n, nil
}

// oneOf reads a parameter with a few legal values; "" is none.
func oneOf(values url.Values, name string, legal ...string) (string, error) {
	v := values.Get(name)
	if v != "" && !slices.Contains(legal, v) {
		return "", badRequest("%s is unknown; pass one of %s", name, strings.Join(legal, ", "))
	}
	return v, nil
}
