package bolt_test

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// The environment by which a test runs this binary again as a child.
const (
	envChild = "MAILSYNCD_STORE_TEST_CHILD"
	envStore = "MAILSYNCD_STORE_TEST_PATH"
	envKeys  = "MAILSYNCD_STORE_TEST_KEYS" // a key file
)

// child runs this test binary again, to do what children says under name.
func child(t *testing.T, name, path, keys string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMain$")
	cmd.Env = append(os.Environ(), envChild+"="+name, envStore+"="+path, envKeys+"="+keys)
	return cmd
}

// TestMain lets a child do its task instead of the tests.
func TestMain(m *testing.M) {
	name := os.Getenv(envChild)
	if name == "" {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // strace counts the calls of each thread
	if err := children()[name](os.Getenv(envStore), os.Getenv(envKeys)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// children are the tasks of children.
func children() map[string]func(path, keys string) error {
	return map[string]func(path, keys string) error{"rotate": rotateChild, "traced": tracedChild, "writes": writesChild}
}
