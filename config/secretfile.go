package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxSecret bounds a secret file. Keys and tokens take a few kilobytes.
const maxSecret = 64 << 10

// ReadSecret reads a secret file: without a byte order mark and without the
// white space around it. It refuses a file that others than its owner can read,
// because a password that everybody on the machine knows is not one. Two cases
// pass: a file below $CREDENTIALS_DIRECTORY, which systemd guards by itself,
// and one that root owns and lets our group read, as Kubernetes (fsGroup) and
// packages do.
//
// The error names the file, says what to do, and wraps fs.ErrNotExist where it
// applies. It never holds a part of the content.
func ReadSecret(path string) (Secret, error) {
	data, err := readGuarded(path)
	if err != nil {
		return Secret{}, fmt.Errorf("secret file %s: %w", path, err)
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(data), "\ufeff"))
	switch {
	case text == "":
		return Secret{}, fmt.Errorf("secret file %s is empty; write the secret into it", path)
	case strings.ContainsRune(text, 0):
		return Secret{}, fmt.Errorf("secret file %s holds a zero byte; store it as plain UTF-8 text", path)
	}
	return NewSecret(text), nil
}

// readGuarded checks the file that it has opened, not a name that may lead
// elsewhere a moment later. Opening does not wait for the writer of a pipe.
func readGuarded(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, openProblem(err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := guard(path, info); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(data) > maxSecret {
		err = errors.New("larger than 64 KiB; this is not a secret")
	}
	return data, err
}

// openProblem adds what to do and drops the path, which stands in front.
func openProblem(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; create it with mode 0600", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; let the user that runs mailsyncd own it", err)
	}
	return err
}

// guard decides whether a secret may lie in a file like this.
func guard(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file; name a file")
	}
	mode := info.Mode().Perm()
	switch {
	case inCredentialsDirectory(path):
		return nil
	case mode&0o027 != 0:
		return fmt.Errorf("mode %04o lets others read or change it; run chmod 0600 on it", mode)
	case mode&0o040 != 0 && !groupIsOurs(info):
		return fmt.Errorf("mode %04o lets its group read it; run chmod 0600 on it, or let root own it with the group of mailsyncd", mode)
	}
	return nil
}

func inCredentialsDirectory(path string) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// groupIsOurs tells that root gave the file to our group on purpose.
func groupIsOurs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 {
		return false
	}
	groups, err := os.Getgroups()
	return st.Gid == 0 || int(st.Gid) == os.Getegid() || err == nil && slices.Contains(groups, int(st.Gid))
}

// CheckFiles reads every secret and certificate file that the configuration
// names and reports, as an *Error, what keeps them from being used. Load does
// not: one missing password must not stop the other mailboxes.
func (c *Config) CheckFiles() error {
	var problems []Problem
	report := func(file string, line int, key string, err error) {
		if err != nil {
			problems = append(problems, Problem{file, line, key, err.Error()})
		}
	}
	report(c.File, c.lines["secrets.key_file"], "secrets.key_file", checkSecret(c.Secrets.KeyFile))
	report(c.File, c.lines["webhook.secret_file"], "webhook.secret_file", checkSecret(c.Webhook.SecretFile))
	report(c.File, c.lines["webhook.client_key_file"], "webhook.client_key_file", checkSecret(c.Webhook.ClientKeyFile))
	report(c.File, c.lines["webhook.client_cert_file"], "webhook.client_cert_file", checkPEM(c.Webhook.ClientCertFile))
	report(c.File, c.lines["webhook.ca_file"], "webhook.ca_file", checkPEM(c.Webhook.CAFile))
	for i := range c.Mailboxes {
		m := &c.Mailboxes[i]
		report(m.File, m.Line, "mailboxes["+m.ID+"]."+m.secretKey(), checkSecret(m.SecretFile()))
		report(m.File, m.Line, "mailboxes["+m.ID+"].imap.ca_file", checkPEM(m.IMAP.CAFile))
	}
	if len(problems) > 0 {
		return &Error{problems}
	}
	return nil
}

// secretKey is the key of the configuration that names SecretFile.
func (m *Mailbox) secretKey() string {
	switch {
	case m.Provider == ProviderGmail && m.Gmail.ServiceAccountFile != "":
		return "gmail.service_account_file"
	case m.Provider == ProviderGmail:
		return "gmail.client_file"
	case m.IMAP.Auth == AuthPassword:
		return "imap.password_file"
	}
	return "imap.token_file"
}

func checkSecret(path string) error {
	if path == "" {
		return nil
	}
	_, err := ReadSecret(path)
	return err
}

func checkPEM(path string) error {
	if path == "" {
		return nil
	}
	data, err := readRegular(path)
	switch {
	case err != nil:
		return fmt.Errorf("certificate file %s: %s", path, readProblem(err))
	case !strings.Contains(string(data), "-----BEGIN CERTIFICATE-----"):
		return fmt.Errorf("certificate file %s holds no PEM certificate; convert it to PEM", path)
	}
	return nil
}
