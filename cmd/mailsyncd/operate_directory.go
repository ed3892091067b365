package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"mailsyncd/admin"
	"mailsyncd/directory"
	dirsync "mailsyncd/sync/directory"
)

// directoryDesk answers for the directory.
type directoryDesk struct{ *daemon }

func (d *daemon) directoryStatus() admin.DirectoryStatus {
	s := d.keeper.Status()
	st := admin.DirectoryStatus{
		Ready: s.Ready, Candidates: s.Candidates, Jobs: s.Jobs, Users: s.Users,
		Revision: s.Revision, Checked: s.Checked, LastError: s.Problem, Held: []admin.HeldSweep{},
	}
	for _, h := range s.Held {
		st.Held = append(st.Held, admin.HeldSweep{Kind: string(h.Kind), Missing: h.Missing, Total: h.Total, Since: h.Since})
	}
	return st
}

// Records lists records in the store's order. Its position is "kind/ref" of the
// last record that was shown.
func (d directoryDesk) Records(ctx context.Context, q admin.RecordQuery) (admin.RecordList, error) {
	if q.Ref != "" {
		return d.named(ctx, q)
	}
	list := admin.RecordList{Items: []admin.Record{}}
	kind, ref, _ := strings.Cut(q.After, "/")
	after := dirsync.Position{Kind: directory.Kind(kind), Ref: ref}
	err := d.keeper.Records(ctx, directory.Kind(q.Kind), after, func(s dirsync.Shown) error {
		if len(list.Items) == q.Limit {
			last := list.Items[q.Limit-1]
			list.Next = last.Kind + "/" + last.Ref
			return errPageFull
		}
		list.Items = append(list.Items, record(s))
		return nil
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	return list, err
}

var errPageFull = errors.New("the page is full")

func (d directoryDesk) named(ctx context.Context, q admin.RecordQuery) (admin.RecordList, error) {
	list := admin.RecordList{Items: []admin.Record{}}
	found, err := d.keeper.Show(ctx, directory.Kind(q.Kind), q.Ref)
	if errors.Is(err, dirsync.ErrNotFound) {
		return list, nil
	}
	for _, s := range found {
		list.Items = append(list.Items, record(s))
	}
	return list, err
}

// record is a record as the socket shows it.
func record(s dirsync.Shown) admin.Record {
	r := admin.Record{
		Kind: string(s.Kind), Ref: s.Ref, State: string(s.State), Emails: s.Emails, Rev: s.Rev.String(),
		Source: string(s.Source), MissingSince: s.MissingSince, Inactive: s.Inactive,
		Matched: s.Kind == directory.KindCandidate && s.Inactive == "" && s.Live(),
	}
	if !s.Live() {
		r.State = "deleted"
	}
	if s.HasJobs {
		jobs := list(s.Jobs)
		r.Jobs = &jobs
	}
	return r
}

// maxLineFaults is how many bad lines an answer names.
const maxLineFaults = 20

// Put upserts JSON lines: all of them, or, if a line is bad, none.
func (d directoryDesk) Put(ctx context.Context, lines io.Reader) (admin.PutResult, error) {
	var records []directory.Record
	var faults []string
	for line, err := range directory.Lines(lines) {
		var bad *directory.LineError
		switch {
		case errors.As(err, &bad) && len(faults) < maxLineFaults:
			faults = append(faults, "line "+bad.Error())
		case bad != nil:
		case err != nil:
			return admin.PutResult{}, admin.Invalid("reading the records: %v", err)
		default:
			records = append(records, line.Record)
		}
	}
	if len(faults) > 0 {
		return admin.PutResult{}, admin.Invalid("nothing was stored; mend these lines and put all again").With(faults...)
	}
	t, err := d.keeper.Put(ctx, records)
	if err != nil {
		return admin.PutResult{}, putFault(ctx, err)
	}
	return admin.PutResult{
		Records: len(records), Changed: t.Added + t.Changed + t.Deleted, Unchanged: t.Unchanged, Stale: t.Stale,
	}, nil
}

// putFault tells records that have to be mended from a store that has to be, and
// from a call that ended.
func putFault(ctx context.Context, err error) error {
	var refused *dirsync.RefusedError
	switch {
	case errors.As(err, &refused):
		return admin.Invalid("%v", err)
	case ctx.Err() != nil:
		return admin.Unavailable("the call ended or the daemon is stopping (%v); put all again", err)
	default:
		return err
	}
}

func (d directoryDesk) Delete(ctx context.Context, kind, ref string) error {
	err := d.keeper.Delete(ctx, directory.Kind(kind), ref)
	if errors.Is(err, dirsync.ErrNotFound) {
		return admin.NotFound("no %s %q in the directory", kind, ref)
	}
	return err
}

// Approve releases the held sweeps.
func (d directoryDesk) Approve(ctx context.Context, address string) (admin.ApproveResult, error) {
	held := len(d.keeper.Status().Held)
	err := d.keeper.Approve(ctx, address)
	switch {
	case errors.Is(err, dirsync.ErrNothingHeld):
		return admin.ApproveResult{}, admin.NotFound("%v", err)
	case err != nil:
		return admin.ApproveResult{}, admin.Conflict("%v", err)
	}
	return admin.ApproveResult{Sweeps: held}, nil
}
