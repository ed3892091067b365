package testutil

import (
	"os/exec"
	"syscall"
)

// EndWithTest makes a process that is about to start get a signal when the test's
// process dies in a way that runs no cleanup: an interrupt, a panic, a time-out.
func EndWithTest(cmd *exec.Cmd, sig syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = sig
}
