package gmail

import (
	"context"
	"slices"
	"strings"

	"golang.org/x/text/cases"
)

// systemIgnored are the labels that walks always leave out. Gmail sets them
// itself: SPAM and TRASH may be taken off again, a draft that is sent becomes
// another mail, and CHAT is no mail at all.
var systemIgnored = []string{"SPAM", "TRASH", "DRAFT", "CHAT"}

// ignores tells whether one of a mail's labels is left out.
func (s *session) ignores(ctx context.Context, ids []string) (bool, error) {
	if slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(systemIgnored, id) }) {
		return true, nil
	}
	if len(s.p.cfg.IgnoreLabels) == 0 {
		return false, nil
	}
	known, ignored := s.p.knownLabels(ids)
	if known {
		return ignored, nil
	}
	// A label that was made after the last look may be one to leave out.
	if err := s.readLabels(ctx); err != nil {
		return false, err
	}
	_, ignored = s.p.knownLabels(ids)
	return ignored, nil
}

// knownLabels tells whether all labels are known, and whether one of them is
// ignored. An id that is unknown even after a fresh look (deleted meanwhile)
// has no name that could be ignored.
func (p *Provider) knownLabels(ids []string) (known, ignored bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known = p.labels != nil
	for _, id := range ids {
		ign, ok := p.labels[id]
		known = known && (ok || !strings.HasPrefix(id, "Label_"))
		ignored = ignored || ign
	}
	return known || ignored, ignored
}

// readLabels learns which label ids stand for the names to leave out.
func (s *session) readLabels(ctx context.Context) error {
	if len(s.p.cfg.IgnoreLabels) == 0 {
		return nil
	}
	list, err := s.p.listLabels(ctx)
	if err != nil {
		return err
	}
	labels := map[string]bool{}
	for _, l := range list.Labels {
		if l != nil {
			labels[l.Id] = ignoredName(l.Name, s.p.cfg.IgnoreLabels)
		}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.labels = labels
	return nil
}

// ignoredName tells whether a label is one of names, or lies below one.
func ignoredName(label string, names []string) bool {
	fold := cases.Fold()
	label = fold.String(label) + "/"
	return slices.ContainsFunc(names, func(name string) bool {
		return strings.HasPrefix(label, fold.String(strings.Trim(name, "/"))+"/")
	})
}
