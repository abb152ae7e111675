// Package safedir makes and removes directories as root in places where others may have a say.
//
// Nothing here follows a symlink: paths are walked by openat2(2) with RESOLVE_NO_SYMLINKS, directories are made by
// mkdirat(2) beneath descriptors that were checked, and owner and mode are set on descriptors. os.MkdirAll and
// os.RemoveAll are not for this: the first follows links, the second crosses mounts. os.Root keeps one inside a
// directory, yet follows links in it.
//
// This does not protect what happens later: the kernel follows symlinks again when it mounts. That is why the
// directories above must belong to root and be writable by nobody else, unless the caller says that they are trusted.
package safedir
