package doctor

// What tests of this package need to reach.
var (
	ParseMountVersion   = parseMountVersion
	ParseSystemdVersion = parseSystemdVersion
	ParseFstab          = parseFstab
	ReadCache           = readCache
	WriteCache          = writeCache
)

// OptionCache is what the note about the kernel's options holds.
type OptionCache = optionCache

// CacheFile is where it is.
const CacheFile = cacheFile
