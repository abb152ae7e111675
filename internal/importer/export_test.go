package importer

// What the tests look at by itself.
var (
	NameAll = nameAll
	Quote   = quote
)
