package gmail

import (
	"context"
	"strings"

	"mailsyncd/providers"
)

const (
	// findDepth is how many of the newest mails are read where the server will
	// not search for a Message-ID: 4,000 units.
	findDepth = 200
	// maxMessageID bounds what is searched for: RFC 5322 §2.1.1 allows no longer
	// line.
	maxMessageID = 998
)

// Find looks everywhere, Spam and Trash included. In search mode the server
// finds it; in metadata mode it must be among the newest mails.
func (s *session) Find(ctx context.Context, messageID string) ([]providers.Message, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	if messageID == "" || len(messageID) > maxMessageID || strings.ContainsAny(messageID, "\x00\r\n") {
		return nil, nil
	}
	query := ""
	if s.p.cfg.Mode == ModeSearch && plain(messageID) {
		query = "rfc822msgid:" + messageID
	}
	ids, err := s.newest(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.findAmong(ctx, ids, messageID)
}

// newest lists up to findDepth ids, newest first.
func (s *session) newest(ctx context.Context, query string) ([]string, error) {
	var ids []string
	for token := ""; ; {
		list, err := s.p.list(ctx, query, token, true)
		if err != nil {
			return nil, err
		}
		ids = append(ids, idsOf(list.Messages)...)
		token = list.NextPageToken
		if len(ids) >= findDepth || token == "" {
			return ids[:min(len(ids), findDepth)], nil
		}
	}
}

func (s *session) findAmong(ctx context.Context, ids []string, messageID string) ([]providers.Message, error) {
	out, err := s.fetch(ctx, ids)
	if err != nil {
		return nil, err
	}
	var found []providers.Message
	for _, o := range out {
		switch {
		case o.state == broken:
			return nil, classed(providers.ClassServer, "Gmail fails on a mail that may be the one; ask again later")
		case o.state == taken && o.msg.Header.MessageID == messageID:
			found = append(found, o.msg)
		}
	}
	return found, nil
}
