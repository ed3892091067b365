package matcher

import "strings"

// roleName returns the role an address stands for when its local part names a
// function instead of a person ("jobs", "no-reply", "hr-team", "info2"), else
// "". The list is RFC 2142's mailbox names where they meet recruiting, and what
// companies in the countries we know call the mailbox of their recruiters.
//
// A local part counts when it is a role with separators left out, or when every
// word of it is one. A person called Infante, Teamer or Hrabal is none, and
// neither is anna.office: one word that is no role is enough to be a person.
func roleName(guardKey string) string {
	at := strings.LastIndexByte(guardKey, '@')
	if at <= 0 {
		return ""
	}
	words := strings.FieldsFunc(guardKey[:at], isSeparator)
	if role := bareRole(strings.Join(words, "")); role != "" {
		return role
	}
	if len(words) < 2 {
		return ""
	}
	for _, w := range words {
		if bareRole(w) == "" {
			return ""
		}
	}
	return bareRole(words[0])
}

func isSeparator(r rune) bool { return r == '.' || r == '-' || r == '_' }

// bareRole returns the role a single word is, a trailing number aside (jobs2).
func bareRole(word string) string {
	word = strings.TrimRight(word, "0123456789")
	switch word {
	// recruiting
	case "job", "jobs", "career", "careers", "karriere", "karriera", "stellen", "stellenangebote",
		"hr", "humanresources", "humanresource", "people", "peopleops", "peopleandculture", "personal",
		"personalabteilung", "personalwesen", "personnel", "rh", "rrhh", "kadry", "recursoshumanos",
		"ressourceshumaines", "risorseumane",
		"recruit", "recruiter", "recruiters", "recruiting", "recruitment", "recrutement",
		"reclutamiento", "selezione", "rekrutacja", "rekrutierung", "talent", "talents",
		"talentacquisition", "hiring", "staffing", "sourcing", "apply", "application", "applications",
		"applicant", "applicants", "candidate", "candidates", "candidature", "candidatures",
		"bewerbung", "bewerbungen", "bewerber", "bewerbermanagement", "ausbildung", "sollicitatie",
		"vacature", "vacatures", "emploi", "emplois", "empleo", "lavoro", "praca", "vacancy", "vacancies",
		"interview", "interviews", "internship", "internships", "praktikum", "onboarding", "referral", "referrals":
		return word
	// the whole company, or a part of it
	case "info", "infos", "information", "office", "team", "teams", "contact", "contacts", "contacto",
		"contatto", "kontakt", "hello", "hallo", "hi", "hola", "bonjour", "ciao", "welcome", "mail",
		"email", "post", "all", "alle", "everyone", "everybody", "staff", "company", "group",
		"reception", "empfang", "frontdesk", "secretary", "sekretariat", "secretariat", "assistant",
		"management", "geschaeftsfuehrung", "verwaltung", "zentrale",
		"sales", "vertrieb", "marketing", "press", "presse", "media", "finance", "accounting",
		"buchhaltung", "billing", "invoice", "invoices", "rechnung", "legal", "privacy", "datenschutz",
		"dpo", "it", "security", "abuse", "compliance", "events", "newsletter", "news", "partner", "partners":
		return word
	// machines and desks (RFC 2142 §§3 to 5)
	case "support", "service", "services", "help", "helpdesk", "servicedesk", "feedback", "admin",
		"administrator", "administration", "root", "postmaster", "hostmaster", "webmaster", "noc",
		"mailerdaemon", "daemon", "bounce", "bounces", "system", "notification", "notifications",
		"notify", "alert", "alerts", "calendar", "test",
		"noreply", "noreplies", "donotreply", "dontreply", "neverreply", "nichtantworten", "keineantwort",
		"nepasrepondre", "norespond", "noresponse", "reply", "replies", "unsubscribe":
		return word
	}
	return ""
}
