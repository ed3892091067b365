package imap

import (
	"strings"

	"golang.org/x/text/unicode/norm"
)

// role is what a folder is for.
type role int

const (
	roleNone role = iota
	roleInbox
	roleSent
	roleJunk
	roleTrash
	roleDrafts
	roleView // \All, \Flagged, \Important: shows mail that is in another folder
)

// specialUse maps attributes (RFC 6154 §2, RFC 8457) to roles, lower case: some
// servers write \sent.
func specialUse(attr string) role {
	switch strings.ToLower(attr) {
	case `\sent`:
		return roleSent
	case `\junk`, `\spam`:
		return roleJunk
	case `\trash`:
		return roleTrash
	case `\drafts`:
		return roleDrafts
	case `\all`, `\allmail`, `\flagged`, `\starred`, `\important`:
		return roleView
	}
	return roleNone
}

// wellKnown gives the role of a folder by its last name, as mail programs and
// servers in the common languages call them: en, de, fr, es, it, nl, pt, pl, cs,
// sv, da, no, fi, hu, tr, ru, uk, ja, zh, ko. It counts only where the server
// marks no folder of that role itself. name is folded.
func wellKnown(name string) role {
	switch name {
	case "sent", "sent mail", "sent items", "sent messages", "sent-mail", "sentmail",
		"gesendet", "gesendete", "gesendete elemente", "gesendete objekte", "gesendete nachrichten", "gesendete e-mails",
		"envoyés", "éléments envoyés", "messages envoyés", "courrier envoyé", "objets envoyés",
		"enviados", "enviado", "elementos enviados", "correo enviado", "mensajes enviados",
		"inviata", "inviati", "posta inviata", "elementi inviati", "messaggi inviati",
		"verzonden", "verzonden items", "verzonden berichten",
		"itens enviados", "mensagens enviadas", "e-mails enviados",
		"wysłane", "elementy wysłane", "wysłane wiadomości",
		"odeslané", "odeslaná pošta", "odeslané zprávy",
		"skickat", "skickade", "skickade objekt", "skickade meddelanden",
		"sendt", "sendte", "sendt post", "sendte elementer", "sendte meldinger",
		"lähetetyt", "lähetetyt kohteet", "lähetetyt viestit",
		"elküldött", "elküldött elemek", "elküldött üzenetek",
		"gönderilmiş", "gönderilmiş öğeler", "gönderilenler", "gönderilmiş postalar",
		"отправленные", "надіслані", "відправлені",
		"送信済み", "送信済みアイテム", "送信済みメール", "送信済みトレイ",
		"已发送", "已发送邮件", "已发邮件", "已傳送", "寄件備份", "寄件匣", "보낸 편지함", "보낸편지함", "보낸 메일함", "보낸메일함":
		return roleSent
	case "junk", "junk e-mail", "junk email", "junk mail", "spam", "bulk mail", "suspected spam",
		"junk-e-mail", "junk-mail", "spamverdacht", "unerwünscht",
		"courrier indésirable", "indésirables", "pourriel",
		"correo no deseado", "no deseado", "posta indesiderata", "indesiderata",
		"ongewenste e-mail", "ongewenst", "lixo eletrônico", "lixo eletrónico", "lixo electrónico", "correio não solicitado",
		"wiadomości-śmieci", "wiadomości śmieci", "niechciane", "nevyžádaná pošta", "nevyžádané",
		"skräppost", "skräp", "uønsket mail", "uønsket e-mail", "uønsket post", "søppelpost", "useløs e-post",
		"roskaposti", "levélszemét", "gereksiz", "önemsiz e-posta", "önemsiz", "istenmeyen",
		"спам", "нежелательная почта", "небажана пошта",
		"迷惑メール", "スパム", "垃圾邮件", "垃圾郵件", "스팸", "스팸함", "스팸메일함", "정크 메일":
		return roleJunk
	case "trash", "deleted", "deleted items", "deleted messages", "wastebasket",
		"papierkorb", "gelöscht", "gelöschte elemente", "gelöschte objekte", "gelöschte nachrichten",
		"corbeille", "éléments supprimés", "messages supprimés", "supprimés",
		"papelera", "papelera de reciclaje", "elementos eliminados", "eliminados",
		"cestino", "posta eliminata", "elementi eliminati", "eliminata",
		"prullenbak", "prullenmand", "verwijderde items", "verwijderd",
		"lixo", "lixeira", "itens excluídos", "itens eliminados", "excluídos",
		"kosz", "elementy usunięte", "usunięte", "koš", "odstraněná pošta", "odstraněné",
		"papperskorgen", "papperskorg", "borttaget", "borttagna objekt",
		"papirkurv", "slettet post", "slettede elementer", "slettet", "søppel",
		"roskakori", "poistetut", "poistetut kohteet", "törölt elemek", "törölt", "lomtár",
		"çöp", "çöp kutusu", "silinmiş öğeler", "silinenler",
		"корзина", "удаленные", "удалённые", "кошик", "видалені",
		"ゴミ箱", "ごみ箱", "削除済みアイテム", "废件箱", "已删除", "已删除邮件", "垃圾箱", "刪除的郵件", "垃圾桶", "휴지통", "지운 편지함", "지운편지함":
		return roleTrash
	case "drafts", "draft", "entwürfe", "entwurf", "brouillons", "brouillon", "borradores", "borrador",
		"bozze", "bozza", "concepten", "rascunhos", "rascunho", "szkice", "kopie robocze", "wersje robocze",
		"koncepty", "rozepsané", "utkast", "kladder", "kladde", "luonnokset", "piszkozatok", "taslaklar",
		"черновики", "чернетки", "下書き", "草稿", "草稿箱", "草稿匣", "임시 보관함", "임시보관함":
		return roleDrafts
	}
	return roleNone
}

// foldName makes folder names comparable: compatibility forms (full-width
// letters, composed accents) and case do not count.
func foldName(name string) string {
	return strings.ToLower(norm.NFKC.String(strings.TrimSpace(name)))
}
