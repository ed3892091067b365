package matcher

// Mend says in one sentence what would change the guard's answer, for explain.
// It names settings and records, never a value of a mail. Empty for a name
// that is no guard.
func (g Guard) Mend() string {
	switch g {
	case GuardOwnAddress:
		return "the address belongs to a mailbox or an ATS user: give the candidate an address of their own, or take it out of the mailbox's aliases or the user's emails"
	case GuardStaffDomain:
		return "addresses in company.domains are staff: for an internal applicant, list this exact address in company.internal_applicants"
	case GuardSharedAlias:
		return "several people read the address: give the candidate an address of their own; if it is one person's, take it out of company.shared_addresses or give it to one mailbox only (a role name at a company domain stays shared)"
	case GuardBulk:
		return "list and bulk mail is never matched; a mail with List-Unsubscribe alone matches when the candidate or a mailbox owner wrote it"
	case GuardFanOut:
		return "the mail has more recipients in To and Cc than sync.max_recipients allows: raise it"
	case GuardIgnoredSender:
		return "the sender is listed in company.ignore_from: take it out"
	case GuardInactive:
		return "the candidate is not matched now: set its state to active, reopen one of its jobs, bring its record back, or approve what is held"
	case GuardIgnoredFolder:
		return "the mail lies in a folder or under a label that is left out: move it, or change ignore_folders (Junk, Trash and Drafts are always left out)"
	case GuardHorizon:
		return "the mail is older than the mailbox's first sync minus sync.backfill: mailsyncd resync brings older mail of one candidate"
	}
	return ""
}
