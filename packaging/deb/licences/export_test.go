package main

// What the tests look at.
var (
	StanzasOf   = stanzasOf
	NameOf      = nameOf
	CopyrightOf = copyrightOf
)

// Files, Holders and Notices of a stanza, for tests.
func (s stanza) Said() (files string, holders, notices []string) {
	return s.files, s.holders.lines(), s.notices
}
